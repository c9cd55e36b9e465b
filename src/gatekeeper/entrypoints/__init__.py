"""Processes and programs: thin, and last in the order of imports."""
