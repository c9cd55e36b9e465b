"""Plane 1: database logins that live for minutes, and proof that they are gone.

model.py      frozen values of this plane     errors.py     what can go wrong here
ports.py      what it needs from the world    evidence.py   its audit events
service.py    what a caller can do            reconcile.py  what an operator compares and repairs
jobs/         what happens by itself          settings.py   limits and options
adapters/     PostgreSQL, the session store, the agents
web/          HTTP routes
"""
