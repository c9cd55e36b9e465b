"""Keys and what is done with them.

signing.py    Ed25519 keys and signatures     envelope.py   signed messages
sealing.py    secrets for one reader          keys.py       token keys and JWKS
files.py      key files, made once            statements.py   what runners sign for the evidence
party.py      who asks and who answers with signed messages, and what these are bound to
"""
