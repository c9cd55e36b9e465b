"""The ports, on `platform/`; only `bootstrap` may import these.

A configuration: files.py reads it, from the files that sources.py finds, with the environment
over it (environment.py); definitions.py sorts out what of it can be used, tables.py reads its
cases, watching.py takes changes; problems.py says where
something is wrong. language.py compiles its expressions.

What decisions ask: backends.py, tokens.py, sessions.py, shared_cache.py. Who is told of them:
observing.py.
"""
