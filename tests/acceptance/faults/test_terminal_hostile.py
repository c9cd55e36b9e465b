"""Hostile clients and runners, against all of a stack: what is refused costs nobody anything."""

import asyncio
import base64
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey
from websockets.exceptions import InvalidStatus

from acceptance.faults.terminal_stacks import (
    Caller,
    TerminalStack,
    mark,
    nothing_left,
    offered,
)
from gatekeeper.platform.crypto.keys import TokenKey

STORM: Final = 1_000
STORM_SECONDS: Final = 60.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def b64(data: bytes | dict[str, Any]) -> str:
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def with_hmac(head: dict[str, Any], body: str, key: bytes) -> str:
    signer = hmac.HMAC(key, hashes.SHA256())
    signer.update(f"{b64(head)}.{body}".encode())
    return f"{b64(head)}.{body}.{b64(signer.finalize())}"


def with_rsa(head: dict[str, Any], claims: dict[str, Any], key: RSAKey) -> str:
    return jwt.encode({"alg": "RS256"} | head, claims, key)


def tricks(stack: TerminalStack, ticket: str, published: dict[str, Any]) -> dict[str, str]:
    """Return tickets that are not one: each has what a careless check would take."""
    head, claims = unb64(ticket.split(".", maxsplit=1)[0]), unb64(ticket.split(".")[1])
    body, signature = ticket.split(".")[1:]
    public = RSAKey.import_key(published)
    pem = public.as_pem(private=False)
    own = RSAKey.import_key(rsa.generate_private_key(public_exponent=65_537, key_size=2_048))
    issuer = TokenKey.load_or_create(stack.folder / "keys" / "development-issuer.jwk")
    attackers = own.as_dict(private=False)
    more = claims | {"mode": "moderate"}
    return {
        "no algorithm": f"{b64(head | {'alg': 'none'})}.{body}.{signature}",
        "no algorithm, no signature": f"{b64(head | {'alg': 'None'})}.{body}.AA",
        "HS256 with the public key": with_hmac(head | {"alg": "HS256"}, body, pem),
        "HS256 with the published JWK": with_hmac(
            head | {"alg": "HS256"}, body, json.dumps(published).encode()
        ),
        "more rights under the old signature": f"{b64(head)}.{b64(more)}.{signature}",
        "own key under a known kid": with_rsa(head, claims, own),
        "own key under an unknown kid": with_rsa(head | {"kid": "mine"}, claims, own),
        "own key in the head": with_rsa(head | {"kid": "mine", "jwk": attackers}, claims, own),
        "own key at an address": with_rsa(
            head | {"kid": "mine", "jku": "http://127.0.0.1:1/jwks.json"}, claims, own
        ),
        "kid as a path": with_rsa(head | {"kid": "../../keys/tickets"}, claims, own),
        "the issuer of people's key": with_rsa(
            head | {"kid": issuer.key_id}, claims, issuer.private
        ),
        "somebody's access token": stack.token("dana").reveal(),
        "critical extension": f"{b64(head | {'crit': ['x']})}.{body}.{signature}",
        "cut signature": ticket[:-8],
        "signature of another": f"{b64(head)}.{body}.{signature[::-1]}",
        "oversize": ticket.split(".", maxsplit=1)[0]
        + "."
        + b64(claims | {"x": "y" * 6_000})
        + "."
        + signature,
        "a bomb of brackets": f"{b64(head)}.{b64(b'[' * 2_000)}.{signature}",
        "no JSON": f"{b64(b'{')}.{b64(b'{')}.AA",
    }


async def published_key(dana: Caller, ticket: str) -> dict[str, Any]:
    head = unb64(ticket.split(".", maxsplit=1)[0])
    found = (await dana.api._http.get("/.well-known/jwks.json")).json()["keys"]
    (key,) = [one for one in found if one["kid"] == head["kid"]]
    return dict(key)


async def test_no_trick_with_a_tickets_signature_lets_anybody_in_or_uses_the_ticket_up(
    terminal_stack: TerminalStack,
) -> None:
    number = mark()
    async with terminal_stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"echo up; exec sleep {number}")
        good = await dana.ticket(view.terminal_id)
        key = await published_key(dana, good.ticket)
        let_in = []
        for name, forged in tricks(terminal_stack, good.ticket, key).items():
            with pytest.raises(InvalidStatus) as caught:
                async with offered(good.url, forged):
                    let_in.append(name)
            response = caught.value.response
            assert response.status_code in {400, 401, 403, 431}, (name, response.status_code)
            if response.status_code != 431:
                assert json.loads(response.body or b"{}")["code"], name
            assert forged.encode() not in (response.body or b"")
        assert not let_in
        async with offered(good.url, good.ticket):
            pass
        other = await dana.create("/bin/sh", "-c", f"exec sleep {number}")
        elsewhere = await dana.ticket(other.terminal_id)
        with pytest.raises(InvalidStatus):
            async with offered(good.url, elsewhere.ticket):
                pass
        logs = (terminal_stack.folder / "gateway.log").read_text()
        assert good.ticket.split(".")[2] not in logs
        for terminal in (view.terminal_id, other.terminal_id):
            await dana.stop(terminal)
        await nothing_left(number)


async def test_one_ticket_offered_by_many_at_once_lets_one_in(
    terminal_stack: TerminalStack,
) -> None:
    async with terminal_stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"exec sleep {mark()}")
        ticket = await dana.ticket(view.terminal_id)

        async def one() -> int:
            try:
                async with offered(ticket.url, ticket.ticket):
                    return 101
            except InvalidStatus as refused:
                return refused.response.status_code

        statuses = Counter(await asyncio.gather(*(one() for _ in range(20))))
        await dana.stop(view.terminal_id)

    assert statuses[101] == 1, statuses
    assert set(statuses) <= {101, 401, 403, 409}, statuses


async def test_a_thousand_bad_tickets_at_once_are_refused_and_hold_nobody_up(
    terminal_stack: TerminalStack,
) -> None:
    async with terminal_stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", "while read -r l; do echo $l-$l; done")
        good = await dana.ticket(view.terminal_id)
        forged = list(
            tricks(terminal_stack, good.ticket, await published_key(dana, good.ticket)).values()
        )
        async with dana.attached(view.terminal_id) as screen:
            storm = asyncio.create_task(storming(terminal_stack, view.terminal_id, forged))
            longest, number = 0.0, 0
            while not storm.done():
                began = time.monotonic()
                number += 1
                await screen.type(f"n{number}\n")
                await screen.until(f"n{number}-n{number}")
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.02)
            statuses = await storm
        async with dana.attached(view.terminal_id) as screen:
            await screen.type("after\n")
            await screen.until("after-after")
        await dana.stop(view.terminal_id)

    assert sum(statuses.values()) == STORM
    assert set(statuses) <= {400, 401, 403, 408, 431, 503}, statuses
    assert number > 3
    assert longest < 10, "seconds until an echo came back, on a machine that is busy"


async def storming(stack: TerminalStack, terminal: str, tickets: list[str]) -> Counter[int]:
    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway_port)
        try:
            writer.write(
                f"GET /attach/{terminal} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "
                f"gk.term.v1, ticket.{tickets[number % len(tickets)]}\r\n\r\n".encode()
            )
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async with asyncio.timeout(STORM_SECONDS):
        return Counter(await asyncio.gather(*(one(number) for number in range(STORM))))


# A runner that is none.


async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(os.urandom(4_096))


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 101 x\r\n" + b"X: y\r\n" * 10_000)
        await writer.drain()


async def wrong_key(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"
        b"Sec-WebSocket-Protocol: gk.term.v1\r\n\r\n"
    )


@asynccontextmanager
async def in_the_runners_place(stack: TerminalStack, serve: Serve) -> AsyncIterator[None]:
    """Stop the runner, and listen on its socket."""
    pid = stack.pid("runner")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    path = stack.folder / "runner" / "runner.sock"
    aside = path.with_suffix(".aside")
    path.rename(aside)
    running: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(served(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_unix_server(accept, path)
    try:
        yield
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        Path(aside).rename(path)  # noqa: ASYNC240
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "serve",
    [
        reset,
        wrong_key,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (refuse, stall, nonsense, flood)),
    ],
)
async def test_what_is_no_honest_runner_costs_no_ticket_and_makes_no_terminal_lie(
    terminal_stack: TerminalStack, serve: Serve
) -> None:
    number = mark()
    async with terminal_stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"echo up; exec sleep {number}")
        ticket = await dana.ticket(view.terminal_id)
        async with in_the_runners_place(terminal_stack, serve):
            with pytest.raises(InvalidStatus) as caught:
                async with offered(ticket.url, ticket.ticket):
                    pass
            waiting = await dana.create("/bin/sh", "-c", f"exec sleep {number}", wait=1)
        assert caught.value.response.status_code in {502, 503, 504}
        async with offered(ticket.url, ticket.ticket):
            pass
        view = await dana.get(view.terminal_id)
        assert view.status == "ready"
        assert waiting.status in {"pending", "failed"}, waiting
        await dana.reach(waiting.terminal_id, "ready", "failed", "cleaned")
        for terminal in (view.terminal_id, waiting.terminal_id):
            await dana.stop(terminal)
            await dana.reach(terminal, "cleaned")
        await nothing_left(number)
