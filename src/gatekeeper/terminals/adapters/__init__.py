"""Adapters of the terminal plane: the store, and the launchers."""
