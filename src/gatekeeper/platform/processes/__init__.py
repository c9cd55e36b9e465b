"""Several processes of one service on one machine, as one.

listening.py    the sockets they listen at        supervising.py  keeping each of them running
asking.py       a question to one of them         gathering.py    what all of them answer
operating.py    the listener that watchers ask    files.py        how many may be open
"""
