"""Gatekeeper: exactly the access that is needed, for exactly as long, and the proof of it."""

__version__ = "0.1.0"
