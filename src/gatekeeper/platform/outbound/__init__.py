"""Calls over HTTP to whomever a configuration names, and nowhere else.

client.py   one pool of connections, bounded in every direction; follows nothing by itself
guard.py    the addresses that are never connected to
links.py    the next page of an answer (RFC 8288)
"""
