"""What a configuration may say. Values only: reading files and compiling them is elsewhere.

server.py     the process: where it listens, its cache, its backends, its issuers
endpoint.py   what is asked about: who is let in, which rules, how it is answered
rule.py       one rule: a backend, conditions, variables; its credentials: credentials.py
base.py       what all of these share: strictness, names, durations
checks.py     what is wrong only together
recorded.py   requests that are told, answers that are recorded, tables of cases
loaded.py     a configuration that was read, and what is wrong with it
"""

from gatekeeper.forwardauth.config.endpoint import Endpoint
from gatekeeper.forwardauth.config.rule import Rule
from gatekeeper.forwardauth.config.server import Configuration, RuleDocument, Server

__all__ = ["Configuration", "Endpoint", "Rule", "RuleDocument", "Server"]
