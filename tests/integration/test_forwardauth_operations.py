"""The operations listener: what anybody sees, what the token shows, one address for all workers."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from factories.decisions import NOW, endpoint
from factories.operations import AUTHORIZED, CONFIGURATION, PATIENCE_SECONDS, TOKEN, One, listener
from gatekeeper.forwardauth.adapters.observing import RECENT
from gatekeeper.forwardauth.web.answering import Worker
from gatekeeper.forwardauth.web.operations import MAX_BODY_BYTES
from gatekeeper.forwardauth.web.shadowing import LastDecided, Shadowing
from gatekeeper.platform.processes.asking import answer_on, over
from gatekeeper.platform.processes.listening import free_port

BROKEN = {
    "endpoints": {"app": endpoint("gone")},
    "rules": {"gone": {"conditions": {"whenAll": ["nonsense.here"]}}},
}


async def test_a_process_lives_and_is_ready() -> None:
    async with listener(One().worker) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_a_quarantined_definition_turns_readiness_red_with_its_reason() -> None:
    async with listener(One(BROKEN).worker) as client:
        said = await client.get("/readyz")
        assert said.status_code == 503
        assert any("missing rule dependencies: gone" in one for one in said.json()["reasons"])
        assert (await client.get("/healthz")).status_code == 200


async def test_a_configuration_of_nothing_is_not_ready() -> None:
    async with listener(One({}).worker) as client:
        assert (await client.get("/readyz")).json()["reasons"] == ["no endpoint is configured"]


async def test_a_worker_that_does_not_answer_is_not_ready(tmp_path: Path) -> None:
    async with listener(One().worker, over(tmp_path / "nobody")) as client:
        said = await client.get("/readyz")
        assert (said.status_code, said.json()["reasons"]) == (503, ["worker 2 does not answer"])


async def counted(client: httpx.AsyncClient) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


DECISIONS = (
    'passctrl_decisions_total{"dialect": "nginx", "endpoint": "app", "origin": "fresh",'
    ' "outcome": "fail", "status": "403"}'
)


async def test_metrics_of_several_workers_are_added_up_and_gauges_keep_apart() -> None:
    one, two = One(), One()
    one.decide("a")
    two.decide("b")
    two.decide("c")
    async with listener(one.worker, two.worker) as client:
        said = await counted(client)
        assert said[DECISIONS] == 3
        assert said['passctrl_decision_seconds_bucket{"endpoint": "app", "le": "+Inf"}'] == 3
        assert (
            said['passctrl_generation{"worker": "1"}'] == said['passctrl_generation{"worker": "2"}']
        )
        assert said["passctrl_workers{}"] == 2


async def test_every_metric_of_forward_auth_is_documented_and_no_other() -> None:
    one = One()
    shadowing = Shadowing(one.decider, LastDecided(), clock=lambda: 0.0)
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    told = set(re.findall(r"^\| `(passctrl_\w+)`", page.read_text(), re.MULTILINE))
    async with listener(Worker(one.decider, one.observer, lambda: NOW, shadowing)) as client:
        text = (await client.get("/metrics")).text
    assert told == set(re.findall(r"^# TYPE (passctrl_\w+)", text, re.MULTILINE))


async def test_a_count_never_goes_back_when_a_worker_is_replaced() -> None:
    processes = iter([(1, One()), (2, One()), (2, One())])

    async def replaced(question: Any) -> Any:
        number, one = next(processes)
        one.decide("x")
        return {**(await one.worker(question)), "worker": number}

    async with listener(replaced) as client:
        assert [(await counted(client))[DECISIONS] for _ in range(3)] == [1, 2, 2]


async def test_explain_answers_whoever_has_the_token() -> None:
    question = {
        "endpoint": "app",
        "request": {
            "url": "https://a.example/",
            "headers": {"Authorization": "Bearer canary-presented"},
        },
    }
    async with listener(One().worker) as client:
        said = await client.post("/explain", json=question, headers=AUTHORIZED)
        assert said.status_code == 200
        assert said.json()["outcome"] == "fail"
        assert "canary" not in said.text


async def test_explain_takes_the_text_of_a_request() -> None:
    text = "GET https://a.example/ HTTP/1.1\nAuthorization: Bearer good-token\n"
    async with listener(One().worker) as client:
        said = await client.post(
            "/explain?endpoint=app&dialect=nginx", content=text, headers=AUTHORIZED
        )
        assert (said.json()["dialect"], said.json()["status"]) == ("nginx", 200)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        "Bearer \xe4",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_explain_is_nothing_without_the_token(method: str, authorization: str | None) -> None:
    sent = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    async with listener(One().worker) as client:
        said = await client.request(method, "/explain?id=x", headers=sent, content=b"{}")
        assert said.status_code == 401
        assert TOKEN not in said.text


@pytest.mark.parametrize("path", ["/explain", "/", "/login", "/page.css"])
async def test_without_a_configured_token_there_is_no_explain(path: str) -> None:
    async with listener(One().worker, token=None) as client:
        for method in ("GET", "POST"):
            assert (await client.request(method, path, headers=AUTHORIZED)).status_code == 404
        assert (await client.get("/metrics")).status_code == 200


async def test_a_backend_is_called_only_when_it_is_asked_for_and_nothing_is_kept() -> None:
    one = One(
        {
            "endpoints": {
                "facts": endpoint("asks", forwardProxyPolicy={"trustedProxyIPs": ["10.0.0.1"]})
            },
            "rules": {
                "asks": {
                    "backendApi": {"url": "https://facts.example/x"},
                    "cache": {"ttl": {"pass": "1m"}},
                }
            },
        }
    )
    question = {"endpoint": "facts", "request": {"url": "https://a.example/"}}
    async with listener(one.worker) as client:
        for live, outcome, calls in ((False, "error", 0), (True, "pass", 1), (True, "pass", 2)):
            said = await client.post(
                "/explain", json={**question, "live": live}, headers=AUTHORIZED
            )
            assert (said.json()["outcome"], len(one.backends.calls)) == (outcome, calls)
    assert len(one.decider.memory) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"endpoint": "app"}', 400),
        (b'{"endpoint": "app", "request": "x", "more": 1}', 400),
        (b'{"endpoint": "app", "request": {"url": "x", "headers": {"a": "b\\nc"}}}', 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_a_question_that_cannot_be_read_is_refused(body: bytes, status: int) -> None:
    headers = {**AUTHORIZED, "content-type": "application/json"}
    async with listener(One().worker) as client:
        said = await client.post("/explain", content=body, headers=headers)
        assert said.status_code == status


async def test_a_recent_decision_is_found_by_its_correlation_id() -> None:
    one, two = One(), One()
    two.decide("wanted")
    async with listener(one.worker, two.worker) as client:
        said = await client.get("/explain?id=wanted", headers=AUTHORIZED)
        assert (said.json()["status"], said.json()["reason"]) == (
            403,
            "the peer is no trusted proxy",
        )
        for number in range(RECENT):
            two.decide(str(number))
        assert (await client.get("/explain?id=wanted", headers=AUTHORIZED)).status_code == 404
        assert (await client.get("/explain", headers=AUTHORIZED)).status_code == 400


async def test_another_method_or_path_is_not_there() -> None:
    async with listener(One().worker) as client:
        said = await client.post("/metrics")
        assert (said.status_code, said.headers["allow"]) == (405, "GET")
        for path in ("/metrics/", "/%6detrics", "/app/auth", "/x"):
            assert (await client.get(path, headers=AUTHORIZED)).status_code == 404


async def test_nothing_is_kept_by_a_browser_and_no_script_runs() -> None:
    async with listener(One().worker) as client:
        for path in ("/", "/healthz", "/x"):
            said = await client.get(path)
            assert said.headers["cache-control"] == "no-store"
            assert said.headers["content-security-policy"].startswith("default-src 'none';")
            assert said.headers["x-content-type-options"] == "nosniff"


async def test_a_worker_is_asked_over_its_socket(tmp_path: Path) -> None:
    one = One()
    one.decide("here")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "1"))
        bound.listen()
        answering = asyncio.create_task(answer_on(bound, one.worker))
        question = {"endpoint": "app", "request": {"url": "https://a.example/"}}
        async with listener(over(tmp_path / "1")) as client:
            assert (await client.get("/readyz")).status_code == 200
            assert (await counted(client))[DECISIONS] == 1
            assert (await client.get("/explain?id=here", headers=AUTHORIZED)).status_code == 200
            said = await client.post("/explain", json=question, headers=AUTHORIZED)
            assert said.json()["outcome"] == "fail"
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


# The page.


async def test_the_page_asks_for_the_token_first() -> None:
    async with listener(One().worker) as client:
        assert 'action="/login"' in (await client.get("/")).text
        said = await client.post("/", data={"endpoint": "app", "request": "x"})
        assert said.status_code == 401
        assert (await client.post("/login", data={"token": "wrong"})).status_code == 401


async def test_who_logs_in_has_a_cookie_that_no_script_and_no_other_site_can_use() -> None:
    async with listener(One().worker) as client:
        said = await client.post("/login", data={"token": TOKEN})
        assert (said.status_code, said.headers["location"]) == (303, "/")
        cookie = said.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert 'name="request"' in (await client.get("/")).text


@pytest.mark.parametrize("change", [lambda c: c + "0", lambda c: "9" + c, lambda c: "x." + c])
async def test_a_cookie_that_was_made_up_is_none(change: Callable[[str], str]) -> None:
    async with listener(One().worker) as client:
        said = await client.post("/login", data={"token": TOKEN})
        name, value = said.headers["set-cookie"].partition(";")[0].split("=", 1)
        client.cookies.clear()
        said = await client.get("/", headers={"cookie": f"{name}={change(value)}"})
        assert 'action="/login"' in said.text


async def test_the_page_shows_the_steps_and_no_credential() -> None:
    text = (
        "GET https://a.example/<script>alert(1)</script> HTTP/1.1\r\n"
        "Authorization: Bearer canary-presented\r\n"
    )
    async with listener(One().worker) as client:
        await client.post("/login", data={"token": TOKEN})
        said = await client.post("/", data={"endpoint": "app", "dialect": "nginx", "request": text})
        graph = said.text[said.text.index("<svg") : said.text.index("</svg>")]
        assert "fail · 401" in graph
        assert "<script" not in said.text
        assert said.text.count("canary") == 1  # what was typed, in its field


# Real processes.

PROGRAM = """
import os, sys
from pathlib import Path
from gatekeeper.bootstrap.forwardauth.serving import serve_forwardauth
sys.exit(serve_forwardauth(Path(sys.argv[1]), dict(os.environ)))
"""


class Gate:
    def __init__(self, port: int, operations: int, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.decisions = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self.operations = httpx.Client(
            base_url=f"http://127.0.0.1:{operations}", trust_env=False, timeout=PATIENCE_SECONDS
        )

    def until(self, path: str, condition: Callable[[httpx.Response], bool]) -> httpx.Response:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert self.process.poll() is None
            try:
                said = self.operations.get(path)
                if condition(said):
                    return said
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, path
            time.sleep(0.05)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [
            int(pid)
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    port, operations = free_port(), free_port()
    path = tmp_path_factory.mktemp("gate") / "config.json"
    server = {
        "listen": {"port": port},
        "operations": {"port": operations, "token": TOKEN},
        "workers": 2,
    }
    path.write_text(json.dumps({**CONFIGURATION, "server": server}))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            gate = Gate(port, operations, process)
            gate.until("/readyz", lambda said: said.status_code == 200)
            yield gate
            gate.decisions.close()
            gate.operations.close()
        finally:
            process.terminate()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/explain", "/", "/page.css"])
def test_nothing_of_operations_is_on_the_decision_port(gate: Gate, path: str) -> None:
    said = gate.decisions.get(path, headers=AUTHORIZED)
    assert (said.status_code, said.content) == (404, b"")


def test_two_workers_are_one_and_one_that_is_killed_takes_no_count_with_it(gate: Gate) -> None:
    for _ in range(20):
        assert httpx.get(f"{gate.decisions.base_url}/app/auth", trust_env=False).status_code == 403

    def total(text: str) -> float:
        return sum(
            map(float, re.findall(r"^passctrl_decisions_total\{.*\} (.+)$", text, re.MULTILINE))
        )

    before = total(gate.until("/metrics", lambda said: total(said.text) >= 20).text)
    first, second = gate.workers()
    os.kill(first, signal.SIGKILL)
    gate.until(
        "/metrics",
        lambda said: (
            "passctrl_workers 2.0" in said.text and set(gate.workers()) - {first, second} != set()
        ),
    )
    assert total(gate.operations.get("/metrics").text) >= before
    gate.until("/readyz", lambda said: said.status_code == 200)


def test_a_worker_of_several_explains(gate: Gate) -> None:
    question = {"endpoint": "app", "request": {"url": "https://a.example/"}}
    said = gate.operations.post("/explain", json=question, headers=AUTHORIZED)
    assert (said.status_code, said.json()["outcome"]) == (200, "fail")
