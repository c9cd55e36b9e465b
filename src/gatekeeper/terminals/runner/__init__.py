"""The runner: the process that holds the terminals of one machine, or of one pod."""
