"""The `Launcher` port. local.py: the runner of one machine, by signed orders."""
