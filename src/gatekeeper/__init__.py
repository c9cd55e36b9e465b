"""Gatekeeper: exactly the access that is needed, for exactly as long, with proof of what happened."""

__version__ = "0.1.0"
