"""Envoy's authorization service (ext_authz by gRPC), on the decisions of the decision port.

Which endpoint is asked says Envoy's own configuration, in `context_extensions`; nothing in a
request does. Whatever goes wrong is answered as a refusal: an error of gRPC is what Envoy lets
through when it was told `failure_mode_allow`. When the caller's deadline passes, gRPC cancels the
call, and with it the decision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote

import grpc
import structlog
from grpc import aio

from gatekeeper.forwardauth.dialects import Dialect, envoy, envoy_grpc, x_forwarded
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.web.ext_authz_messages import CheckRequest, CheckResponse
from gatekeeper.forwardauth.web.writing import OURS

DecideAbout = Callable[[str, Dialect, RawRequest], Reply | Awaitable[Reply]]

log = structlog.get_logger("gatekeeper.forwardauth.ext_authz")

SERVICE: Final = "envoy.service.auth.v3.Authorization"
ENDPOINT: Final = b"endpoint"
"""Of `context_extensions`."""
MAX_MESSAGE_BYTES: Final = 2_097_152
"""A body is no part of a decision, but Envoy can be told to send it (`with_request_body`)."""
MAX_CALLS: Final = 1_000
"""At a time, of one worker. Envoy refuses the request of a call that is turned away."""
GRACE_SECONDS: Final = 1.5
"""For calls under way when a worker stops; it may have waited for those of HTTP before."""

_ALLOWED: Final = 200
_PERMISSION_DENIED: Final = 7
_INTERNAL_SERVER_ERROR: Final = 500
# HeaderValueOption.HeaderAppendAction
_APPEND: Final = 0
_OVERWRITE: Final = 2


@asynccontextmanager
async def serve_ext_authz(
    decide: DecideAbout, *, address: str, port: int, shared: bool = False
) -> AsyncIterator[int]:
    """Answer Envoy for as long as the block lasts; give the port.

    `shared`: other processes listen there too.
    """
    check = grpc.unary_unary_rpc_method_handler(_checking(decide))
    server = aio.server(
        handlers=[grpc.method_handlers_generic_handler(SERVICE, {"Check": check})],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", int(shared)),
        ],
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    host = f"[{address}]" if ":" in address else address
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(GRACE_SECONDS)


def _checking(decide: DecideAbout) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def check(message: bytes, context: Any) -> bytes:  # noqa: ANN401  # gRPC has no types
        try:
            endpoint, dialect, raw = _read(message, context.peer())
            reply = decide(endpoint, dialect, raw)
            if not isinstance(reply, Reply):
                reply = await reply
            return _written(reply)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is no allow
            # Of the error only its type: its text may hold a secret.
            log.error("decision failed", error=type(error).__name__)  # noqa: TRY400
            return _FAILED

    return check


def _read(message: bytes, peer: str) -> tuple[str, Dialect, RawRequest]:
    """Read a CheckRequest: the endpoint, how its headers came, and what is told of the request.

    Host comes beside the headers, with names that begin with a colon (RFC 9113 section 8.3.1).
    `scheme` is not read: with HTTP/2 it is the client's word, where X-Forwarded-Proto is Envoy's.
    """
    asked = CheckRequest.FromString(message).attributes
    http = asked.request.http
    if http.HasField("header_map"):
        dialect, sent = envoy_grpc.RAW, [(h.key, h.raw_value) for h in http.header_map.headers]
    else:
        dialect, sent = envoy_grpc.JOINED, [(h.key, h.value) for h in http.headers]
    headers = [(name.lower(), value) for name, value in sent if name[:1] != b":"]
    headers.append((envoy.HOST, http.host))
    # The nearest hop is who connected to Envoy, whatever X-Forwarded-For says.
    if address := asked.source.address.socket_address.address:
        headers.append((x_forwarded.FOR, address))
    named = {one.key: one.value for one in asked.context_extensions}
    endpoint = named.get(ENDPOINT, b"").decode("latin-1")
    method = http.method.decode("latin-1")
    return endpoint, dialect, RawRequest(method, http.path, headers, _address(peer))


def _address(peer: str) -> str:
    """Return the address of `ipv4:192.0.2.1:5000` or `ipv6:%5B::1%5D:5000`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _written(reply: Reply) -> bytes:
    """Write a CheckResponse. Raises `ValueError` when the reply cannot be sent as it is meant:
    what is no UTF-8 has no place in it.
    """
    status, headers, body = reply
    response = CheckResponse()
    if status == _ALLOWED:
        response.status.SetInParent()  # 0, OK
        response.ok_response.SetInParent()
        changes = response.ok_response.headers
    else:
        response.status.code = _PERMISSION_DENIED
        denied = response.denied_response
        denied.status.code = status
        denied.body = body
        changes = denied.headers
    seen: set[str] = set()
    for name, text in headers:
        if name in OURS:
            msg = "a reply names a header field that belongs to the connection"
            raise ValueError(msg)
        value = text.encode("latin-1")
        value.decode("utf-8")
        change = changes.add(append_action=_APPEND if name in seen else _OVERWRITE)
        change.header.key, change.header.value = name.encode("ascii"), value
        change.keep_empty_value = True  # in place of what the client sent
        seen.add(name)
    written: bytes = response.SerializeToString()
    return written


_FAILED: Final = _written(Reply(_INTERNAL_SERVER_ERROR, (), b""))
