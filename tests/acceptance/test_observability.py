"""Gatekeeper seen from outside, as real processes: one id through all of it, and its metrics."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from prometheus_client.parser import text_string_to_metric_families

from acceptance.faults.processes import Process, Role
from acceptance.faults.stacks import (
    Login,
    PreparedTarget,
    Stack,
    eventually,
    fresh_store,
    prepared_target,
    rows,
    running,
)
from gatekeeper.client import operations
from gatekeeper.platform.http.context import HEADER
from gatekeeper.platform.postgres.embedded import EmbeddedServer

CORRELATION = "cor_seen-from-outside"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedTarget]:
    prepared = asyncio.run(prepared_target(tmp_path_factory.mktemp("outside")))
    yield prepared
    asyncio.run(prepared.server.stop())


@pytest.fixture
def store(server_18: EmbeddedServer, store_databases: psycopg.Connection) -> Iterator[str]:
    with fresh_store(store_databases, server_18) as dsn:
        yield dsn


async def session_from_start_to_end(stack: Stack) -> Login:
    login = await stack.create(headers={HEADER: CORRELATION})
    await stack.revoke(login.session)
    await stack.reach(login.session)
    return login


def logged(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.log.read_text().splitlines()]


async def test_one_correlation_id_leads_from_the_request_to_the_targets_database(
    target: PreparedTarget, store: str, tmp_path: Path
) -> None:
    async with (
        running(tmp_path, store, target) as stack,
        await psycopg.AsyncConnection.connect(target.server.dsn("shop")) as locking,
    ):
        await locking.execute("LOCK TABLE gk.login IN EXCLUSIVE MODE")
        creating = asyncio.create_task(stack.create(headers={HEADER: CORRELATION}))
        seen = await eventually(
            partial(
                target.rows,
                "SELECT application_name FROM pg_stat_activity"
                " WHERE usename = 'gk_agent' AND state = 'active' AND wait_event_type = 'Lock'"
                " AND starts_with(application_name, 'gk/')",
            ),
            "the agent waits at the target",
        )
        await locking.rollback()
        login = await creating

        assert seen == [(f"gk/{login.session}",)]
        (asked,) = await rows(
            store, "SELECT correlation_id FROM gatekeeper.session WHERE id = %s", login.session
        )
        assert asked == (CORRELATION,)
        lines = [(line["service"], line["event"]) for p in stack.processes for line in logged(p)
                 if line.get("correlationId") == CORRELATION]  # fmt: skip
    assert ("control-plane", "request") in lines
    assert ("control-plane", "session ready") in lines
    assert ("agent", "job done") in lines


async def test_metrics_tell_of_real_sessions(
    target: PreparedTarget, store: str, tmp_path: Path
) -> None:
    async with running(tmp_path, store, target) as stack:
        await session_from_start_to_end(stack)
        live = await stack.create()
        secrets = secrets_of(stack, live)
        text = await stack.call(operations.metrics())
        await stack.revoke(live.session)
        await stack.reach(live.session)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    assert found["gatekeeper_jobs_total", "issue", "done"] == 2
    assert found["gatekeeper_jobs_total", "end", "done"] == 1
    assert found["gatekeeper_queue_depth", "end"] == 0
    assert found["gatekeeper_queue_oldest_due_seconds", "end"] == 0
    assert found["gatekeeper_sessions", "ready"] == 1
    assert found["gatekeeper_issue_seconds_count", "pg"] == 2
    assert found["gatekeeper_issue_seconds_sum", "pg"] > 0
    cleanup = found["gatekeeper_cleanup_lag_seconds_sum", "pg"]
    assert 0 < found["gatekeeper_revocation_lag_seconds_sum", "pg"] <= cleanup
    assert found["gatekeeper_cleanup_lag_seconds_count", "pg"] == 1
    assert [secret for secret in secrets if secret in text] == []


def secrets_of(stack: Stack, login: Login) -> list[str]:
    """Return what must stand nowhere: passwords, verifiers' keys, tokens."""
    made = [psycopg.conninfo.conninfo_to_dict(dsn)["password"] for dsn in (
        login.dsn, stack.store, stack.target.agent_dsn.reveal())]  # fmt: skip
    return [*map(str, made), "SCRAM-SHA-256$", "eyJ"]


def service_of(spans: ResourceSpans) -> str:
    (name,) = [a.value.string_value for a in spans.resource.attributes if a.key == "service.name"]
    return str(name)


class Collector:
    """Takes spans over OTLP, as Jaeger, Tempo and the others do."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def spans(self) -> list[tuple[str, Any]]:
        return [
            (service_of(resource), span)
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def trace_to(url: str, _role: Role) -> None:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "50"


async def test_one_trace_runs_from_the_request_over_job_and_agent_to_the_database(
    target: PreparedTarget, store: str, tmp_path: Path, collector: Collector
) -> None:
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    wanted = [
        "POST /sessions", "job issue", "agent create_session",
        "SELECT * FROM gk.create_login(%s, %s, %s, %s)",
    ]  # fmt: skip
    async with running(
        tmp_path, store, target, prepare=[partial(trace_to, collector.url)]
    ) as stack:
        login = await stack.create(headers={"traceparent": f"00-{trace}-{caller}-01"})

        async def all_there() -> bool:
            return {span.name for _, span in collector.spans()} >= set(wanted)

        await eventually(
            all_there, "every span is there", lambda: [s.name for _, s in collector.spans()]
        )
        await stack.revoke(login.session)
        await stack.reach(login.session)

        async def ended() -> bool:
            return "agent revoke_session" in {span.name for _, span in collector.spans()}

        await eventually(ended, "the end is traced")
    mine = {
        span.name: (service, span)
        for service, span in collector.spans()
        if span.trace_id.hex() == trace
    }
    parents = [mine[name][1].parent_span_id.hex() for name in wanted]
    assert parents == [caller, *(mine[name][1].span_id.hex() for name in wanted[:-1])]
    assert [mine[name][0] for name in wanted] == [
        "gatekeeper-control-plane", "gatekeeper-control-plane", "gatekeeper-agent", "gatekeeper-agent",
    ]  # fmt: skip
    lines = [line for p in stack.processes for line in logged(p) if line.get("trace_id") == trace]
    assert {line["service"] for line in lines} == {"control-plane", "agent"}
    for secret in secrets_of(stack, login):
        assert all(secret.encode() not in body for body in collector.bodies)
        assert all(secret not in p.log.read_text() for p in stack.processes)
