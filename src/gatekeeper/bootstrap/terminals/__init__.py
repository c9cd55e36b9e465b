"""Terminals, wired: runner, gateway, and what the control plane has of them.

controlling.py   what the control plane has      logins.py         database logins for terminals
runner.py        the runner                      runner_parts.py   what its terminals are made of
gateway.py       the gateway                     gateway_login.py  its login in a local store
ticket_keys.py   what tickets are signed with    attach_key.py     what runner and gateway share
sandboxes.py     which tiers work here
"""
