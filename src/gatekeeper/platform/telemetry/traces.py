"""Traces by OpenTelemetry, from a request over its job and the agent to the target's database.

They are made where the extra `otel` is installed and the environment names a collector
(OTEL_EXPORTER_OTLP_ENDPOINT, or the name for traces alone; every other OTEL_ variable works
too). Otherwise each function here does nothing, and the SDK is not imported.
A span holds names and ids: no value of a request, no parameter, no error's text.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import structlog

from gatekeeper import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer
    from structlog.typing import EventDict, WrappedLogger

    Kind = Literal["server", "client", "producer", "consumer", "internal"]

log = structlog.get_logger("gatekeeper.traces")

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
HEADER: Final = "traceparent"


_tracer: Tracer | None = None
"""The tracer of this process; it is made once, before the first span."""


def configure_traces(service: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send the spans of this process to where the environment says, if it does."""
    global _tracer  # noqa: PLW0603  # like the logs: one a process
    if not any(environment.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        log.warning("no traces: install gatekeeper-access[otel]")
        return
    resource = Resource.create({"service.name": f"gatekeeper-{service}"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("gatekeeper", __version__)


@contextmanager
def span(
    name: str, *, kind: Kind = "internal", parents: Sequence[str | None] = (), **attributes: str
) -> Iterator[None]:
    """Trace a block. Its parent is the first of these traceparents (W3C), else what runs now.

    The other parents are linked: one message can carry the work of many.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span  # noqa: PLC0415

    contexts = [_context(parent) for parent in parents if parent]
    with _tracer.start_as_current_span(
        name,
        context=contexts[0] if contexts else None,
        kind=SpanKind[kind.upper()],
        attributes={f"gatekeeper.{key}": value for key, value in attributes.items()},
        links=[Link(get_current_span(other).get_span_context()) for other in contexts[1:]],
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield
        except Exception as error:
            made.set_status(StatusCode.ERROR)
            made.set_attribute("error.type", type(error).__name__)
            raise


def rename(name: str) -> None:
    """Name the span that runs now, once it is known what it is about."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span  # noqa: PLC0415

        get_current_span().update_name(name)


def traceparent() -> str | None:
    """Return what carries the trace that runs now to another process; None without one."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER)


def add_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the trace into a log line, for whoever comes from the one to the other."""
    if (running := traceparent()) is not None:
        event["trace_id"] = running.split("-")[1]
    return event


def _context(parent: str) -> Context:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator().extract({HEADER: parent})
