"""The commands that are API clients and nothing more."""
