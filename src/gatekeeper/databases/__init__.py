"""Plane 1: database logins that live for minutes, and proof that they are gone.

errors.py    what can go wrong here        model.py     frozen values of this plane
ports.py     what it needs from the world  service.py   use-cases of the control plane
jobs.py      use-cases of the agent        settings.py  limits and options
adapters/    PostgreSQL, the session store, agent transports
web/         HTTP routes
"""
