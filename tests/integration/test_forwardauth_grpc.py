"""Envoy's authorization service, asked by a plain gRPC client: what is decided, and how it is said."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio

from factories.decisions import BEARER, NOW, compiled, endpoint
from gatekeeper.forwardauth.adapters.observing import Observer
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.model import Reply
from gatekeeper.forwardauth.service import Decider, Outside
from gatekeeper.forwardauth.web.ext_authz import MAX_MESSAGE_BYTES, SERVICE, serve_ext_authz
from gatekeeper.forwardauth.web.ext_authz_messages import CheckRequest, CheckResponse
from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from gatekeeper.forwardauth.dialects import Dialect
    from gatekeeper.forwardauth.model import BackendRequest, BackendResponse, RawRequest

PATIENCE_SECONDS = 60.0
PASSCTRL = "from gatekeeper.entrypoints.passctrl.main import main; main()"
OVERWRITE, APPEND = 2, 0
ENVOY = {"forwardProxyPolicy": {"trustedProxyIPs": ["127.0.0.1", "::1"]}}
TOLD = (
    "{{ request.method }} {{ request.scheme }}://{{ request.host }}{{ request.rawPath }}"
    "?{{ request.rawQuery }} {{ request.client }}"
)
CONFIGURATION: dict[str, Any] = {
    "endpoints": {
        "app": endpoint(
            "alice",
            authentication={**BEARER, "challenge": {"type": "bearer", "realm": "app"}},
            responsePolicy={
                "pass": {"headers": {"X-User": "alice", "X-Told": TOLD, "X-Email": "", "X-Note": None}},
                "fail": {"status": 418, "body": "no tea for {{ request.host }}, café"},
            },
            **ENVOY,
        ),
        "cookies": endpoint(
            "cookies", responsePolicy={"pass": {"headers": {"X-A": "{{ request.cookies.a }}"}}}, **ENVOY
        ),
        "portal": endpoint(
            "alice",
            authentication={
                **BEARER,
                "challenge": {"type": "bearer", "realm": "portal"},
                "response": {
                    "headers": {"WWW-Authenticate": "Basic"},
                    "redirect": {"to": "https://login.example/start", "hosts": ["login.example"]},
                },
            },
            **ENVOY,
        ),
        "framing": endpoint(
            "cookies", responsePolicy={"pass": {"headers": {"Content-Length": "0"}}}, **ENVOY
        ),
        "slow": endpoint("slow", **ENVOY),
        "strangers": endpoint("cookies"),
    },
    "rules": {
        "alice": {
            "auth": [{"match": [{"type": "bearer", "value": "/^(alice|mallory)$/"}]}],
            "conditions": {"failWhen": ['auth.input.bearer.token == "mallory"']},
        },
        "cookies": {"conditions": {"whenAll": ["true"]}},
        "slow": {"backendApi": {"url": "https://facts.example/x"}},
    },
}  # fmt: skip
ALICE = (b"authorization", b"Bearer alice")
Headers = list[tuple[bytes, bytes]]


class Silent:
    """A backend that never answers, and hears when nobody waits for it any more."""

    def __init__(self) -> None:
        self.given_up = asyncio.Event()

    async def call(self, _request: BackendRequest) -> BackendResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()
        raise AssertionError


class Asked:
    """A server and a client of it."""

    def __init__(self, channel: aio.Channel, backend: Silent, observer: Observer) -> None:
        self.send = channel.unary_unary(f"/{SERVICE}/Check")
        self.backend = backend
        self.observer = observer

    async def check(self, request: Any, *, deadline: float = PATIENCE_SECONDS) -> Any:
        return CheckResponse.FromString(
            await self.send(request.SerializeToString(), timeout=deadline, wait_for_ready=True)
        )


@asynccontextmanager
async def asked(
    decide: Callable[[str, Dialect, RawRequest], Reply] | None = None, *, address: str = "127.0.0.1"
) -> AsyncIterator[Asked]:
    backend = Silent()
    observer = Observer(clock=lambda: NOW, lines=None)
    outside = Outside(
        backends=backend, tokens=None, sessions=None, shared=None,
        seal=b"", clock=lambda: NOW, new_id=lambda: "made",
    )  # fmt: skip
    decider = Decider(
        compiled(CONFIGURATION).generation, outside,
        observer=observer, memory=Memory(10), correlation_header="x-request-id",
    )  # fmt: skip
    host = f"[{address}]" if ":" in address else address
    async with (
        serve_ext_authz(decide or decider.decide_about, address=address, port=0) as port,
        aio.insecure_channel(f"{host}:{port}") as channel,
    ):
        yield Asked(channel, backend, observer)


def check_request(
    *headers: tuple[bytes, bytes],
    endpoint: str | None = "app",
    method: bytes = b"GET",
    path: bytes = b"/a%20b?c=d",
    source: str = "203.0.113.9",
    joined: bool = False,
) -> Any:
    """Make what Envoy sends; `joined`: without `encode_raw_headers`."""
    request = CheckRequest()
    attributes = request.attributes
    attributes.source.address.socket_address.address = source.encode()
    http = attributes.request.http
    http.method, http.path, http.host = method, path, b"app.example"
    sent = [(b":authority", b"app.example"), (b":path", path), (b":scheme", b"gopher")]
    for key, value in [*sent, (b"x-forwarded-proto", b"https"), *headers]:
        if joined:
            http.headers.add(key=key, value=value)
        else:
            http.header_map.headers.add(key=key, raw_value=value)
    if endpoint is not None:
        attributes.context_extensions.add(key=b"endpoint", value=endpoint.encode())
    return request


def changes(response: Any) -> list[tuple[str, str, int]]:
    """Return the headers of an answer, of either kind."""
    said = response.ok_response if response.HasField("ok_response") else response.denied_response
    return [
        (one.header.key.decode(), one.header.value.decode(), one.append_action) for one in said.headers
    ]  # fmt: skip


def refused(response: Any) -> int:
    """Return the status of a refusal, which is one in every respect."""
    assert response.status.code != 0
    assert not response.HasField("ok_response")
    status: int = response.denied_response.status.code
    return status


@pytest.mark.parametrize("joined", [False, True], ids=["raw", "joined"])
async def test_an_allow_sets_each_identity_header_in_place_of_the_clients(joined: bool) -> None:
    forged = [(b"x-user", b"root"), (b"x-email", b"root@example.com")]
    async with asked() as envoy:
        response = await envoy.check(check_request(ALICE, *forged, joined=joined))

    assert (response.HasField("status"), response.status.code) == (True, 0)
    assert changes(response) == [
        ("x-user", "alice", OVERWRITE),
        ("x-told", "GET https://app.example/a%20b?c=d 203.0.113.9", OVERWRITE),
        ("x-email", "", OVERWRITE),
        ("x-note", "", OVERWRITE),
    ]
    assert all(one.keep_empty_value for one in response.ok_response.headers)


async def test_a_refusal_has_status_headers_and_body() -> None:
    async with asked() as envoy:
        mallory = await envoy.check(check_request((b"authorization", b"Bearer mallory")))
        nobody = await envoy.check(check_request())

    assert refused(mallory) == 418
    assert mallory.denied_response.body.decode() == "no tea for app.example, café"
    assert ("content-type", "text/plain; charset=utf-8", OVERWRITE) in changes(mallory)
    assert ("cache-control", "no-store", OVERWRITE) in changes(mallory)
    assert refused(nobody) == 401
    assert ("www-authenticate", 'Bearer realm="app"', OVERWRITE) in changes(nobody)


async def test_a_redirect_has_its_place_and_a_repeated_header_both_values() -> None:
    async with asked() as envoy:
        response = await envoy.check(check_request(endpoint="portal"))

    assert refused(response) == 302
    assert ("location", "https://login.example/start", OVERWRITE) in changes(response)
    assert [each for each in changes(response) if each[0] == "www-authenticate"] == [
        ("www-authenticate", 'Bearer realm="portal"', OVERWRITE),
        ("www-authenticate", "Basic", APPEND),
    ]


@pytest.mark.parametrize(
    ("endpoint", "headers"),
    [
        (None, [ALICE]),
        ("", [ALICE]),
        ("none", [ALICE]),
        ("none/app", [ALICE]),
        (None, [ALICE, (b"endpoint", b"app"), (b"x-endpoint", b"app")]),
    ],
    ids=["absent", "empty", "unknown", "path", "a header"],
)
async def test_only_the_configuration_of_envoy_says_which_endpoint_is_asked(
    endpoint: str | None, headers: Headers
) -> None:
    async with asked() as envoy:
        response = await envoy.check(
            check_request(*headers, endpoint=endpoint, path=b"/envoy/app/")
        )

    assert refused(response) == 404


async def test_the_peer_must_be_a_trusted_proxy() -> None:
    async with asked() as envoy:
        assert refused(await envoy.check(check_request(ALICE, endpoint="strangers"))) == 403


async def test_a_peer_of_ipv6_is_known_by_its_address() -> None:
    async with asked(address="::1") as envoy:
        assert (await envoy.check(check_request(ALICE))).HasField("ok_response")


@pytest.mark.parametrize(
    ("source", "said", "client"),
    [
        ("203.0.113.9", b"10.0.0.1", "203.0.113.9"),
        ("203.0.113.9", b"10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", b"10.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("", b"10.0.0.1, 198.51.100.7", "198.51.100.7"),
    ],
    ids=["forged", "by Envoy", "through a trusted proxy", "on a socket in the file system"],
)
async def test_the_client_is_who_connected_to_envoy_whatever_x_forwarded_for_says(
    source: str, said: bytes, client: str
) -> None:
    async with asked() as envoy:
        response = await envoy.check(
            check_request(ALICE, (b"x-forwarded-for", said), source=source)
        )

    assert changes(response)[1][1].rpartition(" ")[2] == client


@pytest.mark.parametrize("joined", [False, True], ids=["raw", "joined"])
async def test_bytes_that_are_no_utf8_are_judged_like_any_others(joined: bool) -> None:
    note = (b"x-other", b"caf\xe9 \xff")
    async with asked() as envoy:
        allowed = await envoy.check(check_request(ALICE, note, joined=joined))
        denied = await envoy.check(check_request(note, joined=joined))
        assert refused(await envoy.check(check_request(ALICE, method=b"G\xff"))) == 400
        assert refused(await envoy.check(check_request(ALICE, path=b"/\xff"))) == 400

    assert allowed.HasField("ok_response")
    assert refused(denied) == 401


async def test_a_copied_header_goes_back_as_the_same_bytes_or_not_at_all() -> None:
    async with asked() as envoy:
        utf8 = await envoy.check(check_request(ALICE, (b"x-note", "café".encode())))
        assert ("x-note", "café", OVERWRITE) in changes(utf8)
        assert refused(await envoy.check(check_request(ALICE, (b"x-note", b"caf\xe9")))) == 500


async def test_cookies_that_envoy_joined_by_a_comma_are_not_guessed_at() -> None:
    async def of(*cookies: bytes, joined: bool) -> Any:
        headers = [(b"cookie", cookie) for cookie in cookies]
        return await envoy.check(check_request(*headers, endpoint="cookies", joined=joined))

    async with asked() as envoy:
        assert changes(await of(b"a=1", b"b=2", joined=False)) == [("x-a", "1", OVERWRITE)]
        assert changes(await of(b"a=1,b=2", joined=False)) == [("x-a", "1,b=2", OVERWRITE)]
        assert changes(await of(b"a=1,2; b=3", joined=True)) == [("x-a", "1,2", OVERWRITE)]
        assert refused(await of(b"a=1,b=2", joined=True)) == 400


@pytest.mark.parametrize(
    "change",
    [
        lambda http: http.ClearField("host"),
        lambda http: http.ClearField("method"),
        lambda http: http.ClearField("header_map"),
        lambda http: setattr(http, "path", b"*"),
        lambda http: setattr(http, "path", b"p/a"),
        lambda http: http.header_map.headers.add(key=b"host", raw_value=b"public.example"),
        lambda http: http.header_map.headers.add(key=b"authorization", raw_value=b"Bearer bob"),
        lambda http: http.header_map.headers.add(key=b"x_user", raw_value=b"root"),
        lambda http: http.Clear(),
    ],
    ids=["no host", "no method", "no headers", "no path", "no slash", "two hosts",
         "two credentials", "a twin", "nothing"],
)  # fmt: skip
async def test_a_request_that_cannot_be_relied_on_is_refused(change: Callable[[Any], None]) -> None:
    request = check_request(ALICE)
    change(request.attributes.request.http)
    async with asked() as envoy:
        assert refused(await envoy.check(request)) == 400


async def test_a_message_that_cannot_be_read_is_refused_with_an_answer() -> None:
    async with asked() as envoy:
        response = await envoy.send(b"\xff\xff", wait_for_ready=True, timeout=PATIENCE_SECONDS)

    assert refused(CheckResponse.FromString(response)) == 500


async def test_a_defect_is_refused_with_an_answer_that_tells_nothing() -> None:
    def decide(_endpoint: str, _dialect: Dialect, _raw: RawRequest) -> Reply:
        msg = "canary"
        raise RuntimeError(msg)

    async with asked(decide) as envoy:
        response = await envoy.check(check_request(ALICE))

    assert refused(response) == 500
    assert b"canary" not in response.SerializeToString()


async def test_a_header_of_the_connection_is_not_said() -> None:
    async with asked() as envoy:
        assert refused(await envoy.check(check_request(endpoint="framing"))) == 500


async def test_a_message_that_is_too_long_is_no_allow() -> None:
    async with asked() as envoy:
        with pytest.raises(aio.AioRpcError) as error:
            await envoy.send(b"\0" * (MAX_MESSAGE_BYTES + 1), wait_for_ready=True)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_decision_ends_with_the_deadline_of_who_asks() -> None:
    async with asked() as envoy:
        with pytest.raises(aio.AioRpcError) as error:
            await envoy.check(check_request(endpoint="slow"), deadline=0.5)
        await asyncio.wait_for(envoy.backend.given_up.wait(), PATIENCE_SECONDS)

    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_under_way_is_answered_when_the_worker_stops() -> None:
    begun, decided = asyncio.Event(), asyncio.Event()

    async def decision() -> Reply:
        begun.set()
        await decided.wait()
        return Reply(200, (), b"")

    def decide(_endpoint: str, _dialect: Dialect, _raw: RawRequest) -> Awaitable[Reply]:
        return decision()

    async with AsyncExitStack() as outlives:
        async with serve_ext_authz(decide, address="127.0.0.1", port=0) as port:
            channel = await outlives.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
            call = channel.unary_unary(f"/{SERVICE}/Check")(check_request().SerializeToString())
            await begun.wait()
            asyncio.get_running_loop().call_later(0.1, decided.set)
        assert CheckResponse.FromString(await call).HasField("ok_response")


async def test_decisions_are_counted_under_a_dialect_of_their_own() -> None:
    async with asked() as envoy:
        await envoy.check(check_request(ALICE, (b"x-request-id", b"id-1")))
        await envoy.check(check_request((b"x-request-id", b"id-2"), endpoint="nobody"))

        known, unknown = envoy.observer.recent("id-1"), envoy.observer.recent("id-2")

    assert known is not None
    assert (known.endpoint, known.dialect, known.outcome) == ("app", "envoy-grpc", "pass")
    assert unknown is not None
    assert (unknown.endpoint, unknown.status) == ("", 404)


def checked(port: int) -> Any:
    """Ask on a connection of its own, which reaches any of the workers."""
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        send = channel.unary_unary(f"/{SERVICE}/Check")
        request = check_request(ALICE, (b"x-forwarded-for", b"203.0.113.9"))
        return CheckResponse.FromString(
            send(request.SerializeToString(), timeout=PATIENCE_SECONDS, wait_for_ready=True)
        )


def test_each_worker_of_passctrl_answers_and_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    file, port = tmp_path / "passctrl.yaml", free_port()
    file.write_text(json.dumps({**CONFIGURATION, "server": {"workers": 2, "grpc": {"port": port}}}))

    def serve() -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PASSCTRL_SERVER__LISTEN__PORT": str(free_port()),
            "PASSCTRL_SERVER__OPERATIONS__PORT": str(free_port()),
        }
        return subprocess.Popen(
            [sys.executable, "-c", PASSCTRL, "serve", file],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    with serve() as first:
        try:
            answers = [checked(port) for _ in range(16)]
            with serve() as second:
                _, said = second.communicate(timeout=PATIENCE_SECONDS)
        finally:
            first.terminate()
            _, told = first.communicate(timeout=PATIENCE_SECONDS)

    assert all(answer.HasField("ok_response") for answer in answers)
    assert (second.returncode, first.returncode) == (1, 0)
    assert "the address cannot be had: Address already in use" in said
    assert told.count('"dialect":"envoy-grpc"') == len(answers)
