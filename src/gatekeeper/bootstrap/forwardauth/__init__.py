"""Forward auth, wired. It needs no database.

serving.py         the decision service     deciding.py   what decides, on its adapters
candidate.py       what decides beside it, in shadow mode
configuration.py   a configuration, read and compiled; all that checking one needs
rehearsal.py       decisions explained and tables of cases run, without serving
"""
