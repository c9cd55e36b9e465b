"""Identity tokens.

verifier.py      tokens of any OIDC issuer to a `Principal`
keysource.py     an issuer's keys: cached, refreshed on an unknown key, never per request
development.py   an issuer of our own for development, on loopback only
"""
