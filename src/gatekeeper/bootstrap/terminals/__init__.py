"""Terminals, wired: controlling.py is the control plane's half."""
