"""Traces where nobody asked for them, or cannot have them: nothing is imported, nothing fails."""

import subprocess
import sys

import pytest

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
