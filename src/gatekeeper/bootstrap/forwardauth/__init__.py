"""Forward auth, wired. It needs no database.

serving.py         the decision service     deciding.py   what decides, on its adapters
candidate.py       what decides beside it, in shadow mode
outbound.py        what decisions call, made at the first call
configuration.py   a configuration, read and compiled; all that checking one needs
rehearsal.py       decisions explained and tables of cases run, without serving
"""
