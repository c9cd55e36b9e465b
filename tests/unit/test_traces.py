"""Traces where nobody asked for them, or cannot have them: nothing is imported, nothing fails."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gatekeeper.platform.telemetry import traces


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_sdk_is_not_imported_where_no_collector_is_named() -> None:
    said = run(
        "import sys\n"
        "from gatekeeper.entrypoints.operate import serve\n"
        "serve.configure_traces('agent', {})\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )

    assert said == "[]\n"


def test_without_the_extra_it_is_said_once_and_work_goes_on() -> None:
    said = run(
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from gatekeeper.platform.telemetry import traces\n"
        "traces.configure_traces('agent', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:9'})\n"
        "with traces.span('work', kind='server', parents=['00-x']):\n"
        "    print(traces.traceparent())"
    )

    assert "gatekeeper-access[otel]" in said
    assert "None" in said


def test_a_block_that_is_not_traced_runs_and_fails_as_it_would() -> None:
    with pytest.raises(ZeroDivisionError), traces.span("work"):
        1 / 0  # noqa: B018
    assert traces.traceparent() is None


PARENT, OTHER = (f"00-{c * 32}-{c * 16}-01" for c in "ab")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    return exporter


def test_a_span_follows_its_first_parent_and_is_linked_to_the_others(
    spans: InMemorySpanExporter,
) -> None:
    with traces.span("many", kind="consumer", parents=[None, PARENT, OTHER], target="pg"):
        running = traces.traceparent()
        with traces.span("one"):
            traces.rename("renamed")

    one, many = spans.get_finished_spans()
    assert running is not None
    assert running.split("-")[1] == "a" * 32
    assert many.parent is not None
    assert f"{many.parent.span_id:016x}" == "a" * 16
    assert [f"{link.context.trace_id:032x}" for link in many.links] == ["b" * 32]
    assert many.attributes == {"gatekeeper.target": "pg"}
    assert one.name == "renamed"
    assert one.parent == many.context


def test_a_failure_is_told_by_its_kind_and_never_by_its_text(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="canary"), traces.span("work"):
        raise ValueError("canary")  # noqa: EM101

    (failed,) = spans.get_finished_spans()
    assert failed.attributes == {"error.type": "ValueError"}
    assert "canary" not in failed.to_json()


@pytest.mark.parametrize("nonsense", ["", "x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_traceparent_that_cannot_be_read_begins_a_new_trace(
    spans: InMemorySpanExporter, nonsense: str
) -> None:
    with traces.span("work", parents=[nonsense]):
        pass

    assert spans.get_finished_spans()[0].parent is None


@pytest.mark.usefixtures("spans")
def test_log_lines_carry_the_trace() -> None:
    with traces.span("work", parents=[PARENT]):
        assert traces.add_trace_id(None, "", {}) == {"trace_id": "a" * 32}
