"""Logs, metrics and traces. Redaction lives here and in `Secret`.

logs.py      JSON, a line each     lines.py    writing them, without waiting
metrics.py   for Prometheus        traces.py   by OpenTelemetry
"""
