"""Identity tokens.

verifier.py      tokens of any OIDC issuer to a `Principal`
keysource.py     an issuer's keys: cached, refreshed on an unknown key, never per request
callers.py       who calls, by a verified token
workload.py      CI jobs, by rules over the claims of their tokens
exchange.py      the route where these are exchanged for ours
development.py   an issuer of our own for development, on loopback only
development_routes.py   its pages
"""
