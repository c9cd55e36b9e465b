"""JSON logs on standard error, one object a line, with the correlation id of the work."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

from gatekeeper.kernel.secret import REDACTED
from gatekeeper.platform.telemetry.traces import add_trace_id

_CREDENTIALS: Final = (
    re.compile(r"(?<=://)[^/\s:@]+:[^@\s/]+(?=@)"),
    re.compile(r"SCRAM-SHA-256\$[^\s\"']+"),
    re.compile(r"(?i)\bbearer\s+[a-z0-9._~+/=-]+"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}"),
)
"""What must not reach a log even when a foreign library puts it into its own text."""


def configure_logs(level: str = "INFO", *, service: str) -> None:
    """Send everything, the standard library's records too, through one JSON pipeline."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _named(service),
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Every request it makes is news to it; what fails is logged by whoever asked.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def redact(text: str) -> str:
    """Take credentials out of a text made elsewhere."""
    for pattern in _CREDENTIALS:
        text = pattern.sub(REDACTED, text)
    return text


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


def _named(service: str) -> structlog.typing.Processor:
    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add_service
