"""Logs, metrics and traces. Redaction lives here and in `Secret`.

logs.py   JSON, a line each     metrics.py   for Prometheus     traces.py   by OpenTelemetry
"""
