"""Valkey (or Redis), as a cache that may be gone: `client.py`.

Importing the driver costs a process some 25 MB: who has no Valkey does not import this.
"""
