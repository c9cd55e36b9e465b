"""The typed API client, built on `wire` and `kernel` alone; CLI and TUI use only this."""
