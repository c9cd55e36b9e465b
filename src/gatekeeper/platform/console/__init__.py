"""Signing in to the pages: a browser's session, on the server.

cookies.py    the two cookies, and when a request with one of them counts
sessions.py   who is signed in, in the store
signing_in.py the code flow with PKCE at an issuer (OpenID Connect Core 1.0, RFC 7636)
"""
