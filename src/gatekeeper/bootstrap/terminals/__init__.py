"""Terminals, wired: runner, gateway, and what the control plane has of them."""
