"""Measures terminals on this machine: `python -m benchmarks.terminals`."""
