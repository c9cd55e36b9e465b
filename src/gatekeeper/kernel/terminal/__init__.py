"""What a terminal's runner, its clients and its auditors have to agree on, byte for byte.

term.py       `gk.term.v1`, between a client and a runner
closing.py    why a socket was closed: the codes
recording.py  asciicast v3, and the hash chain over a recording's segments
receipts.py   what a runner signed, held against the event that has it
"""
