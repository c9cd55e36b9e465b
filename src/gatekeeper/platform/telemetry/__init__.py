"""Logs and metrics. Redaction lives here and in `Secret`."""
