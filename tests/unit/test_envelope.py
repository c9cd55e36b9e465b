"""Signed messages: what opens, and every way not to."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.crypto.envelope import (
    LEEWAY,
    LIFETIME,
    MAX_ENVELOPE_CHARS,
    Opened,
    Purpose,
    ReplayGuard,
    open_envelope,
    seal,
)
from gatekeeper.platform.crypto.signing import thumbprint

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLANE, AGENT, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
TRUSTED = {"plane": (PLANE.public_key(),), "agent": (AGENT.public_key(),)}
CANARY = "canary-in-the-payload"


def sealed(purpose: Purpose = "job", **changes: Any) -> str:
    values: dict[str, Any] = {
        "key": PLANE,
        "sender": "plane",
        "audience": "agent",
        "purpose": purpose,
        "message_id": "m1",
        "now": NOW,
        "in_reply_to": "m0" if purpose == "result" else None,
    }
    return seal(CANARY.encode(), **{**values, **changes})


def opened(envelope: str, purpose: Purpose = "job", **changes: Any) -> Opened | Refusal:
    values: dict[str, Any] = {
        "trusted": TRUSTED,
        "audience": "agent",
        "purpose": purpose,
        "now": NOW,
        "seen": ReplayGuard(),
        "in_reply_to": "m0" if purpose == "result" else None,
    }
    return open_envelope(envelope, **{**values, **changes})


def why(answer: Opened | Refusal) -> str:
    assert isinstance(answer, Refusal)
    assert answer.code is ErrorCode.AGENT_REJECTED
    assert CANARY not in repr(answer)
    return answer.detail.removeprefix("the message is refused: ")


def signed(header: object, claims: object, key: Ed25519PrivateKey = PLANE) -> str:
    """Sign anything, with the cryptography library alone."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    text = ".".join(b64(part.encode()) for part in parts)
    return f"{text}.{b64(key.sign(text.encode()))}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def header(**changes: object) -> dict[str, object]:
    kid = thumbprint(PLANE.public_key())
    return {"alg": "Ed25519", "typ": "gatekeeper-job+jws", "kid": kid, **changes}


def claims(**changes: object) -> dict[str, object]:
    second = int(NOW.timestamp())
    return {
        "iss": "plane", "aud": "agent", "jti": "m1", "iat": second, "exp": second + 60,
        "irt": None, "payload": "{}", **changes,
    }  # fmt: skip


def test_a_message_opens_once_for_its_reader() -> None:
    seen = ReplayGuard()
    message = sealed()
    assert opened(message, seen=seen) == Opened(
        payload=CANARY.encode(), sender="plane", message_id="m1", in_reply_to=None
    )
    assert why(opened(message, seen=seen)) == "it was seen before, or too many were"


def test_it_is_an_ordinary_compact_jws() -> None:
    assert isinstance(opened(signed(header(), claims())), Opened)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"audience": "another"}, "it is meant for another reader"),
        ({"purpose": "result", "in_reply_to": "m0"}, "it serves another purpose"),
        ({"in_reply_to": "m0"}, "it answers another message"),
        ({"trusted": {}}, "it is not signed by a key we trust"),
        ({"trusted": {"agent": TRUSTED["agent"]}}, "it is not signed by a key we trust"),
        ({"trusted": {"agent": TRUSTED["plane"]}}, "it is signed by somebody else's key"),
        ({"now": NOW + LIFETIME + LEEWAY + timedelta(seconds=1)}, "it is too old"),
        ({"now": NOW - LEEWAY - timedelta(seconds=1)}, "it comes from the future"),
    ],
)
def test_a_message_for_another_occasion_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert why(opened(sealed(), **changes)) == reason


@pytest.mark.parametrize("moved", [-LEEWAY, timedelta(0), LIFETIME + LEEWAY])
def test_clocks_may_be_apart_by_the_leeway(moved: timedelta) -> None:
    assert isinstance(opened(sealed(), now=NOW + moved), Opened)


@pytest.mark.parametrize(
    ("head", "body", "key", "reason"),
    [
        (header(alg="none"), claims(), PLANE, "it has the wrong shape"),
        (header(alg="EdDSA"), claims(), PLANE, "it has the wrong shape"),
        (header(alg="HS256"), claims(), PLANE, "it has the wrong shape"),
        (header(crit=["exp"]), claims(), PLANE, "its header is not ours"),
        (header(jwk={"kty": "OKP"}), claims(), PLANE, "its header is not ours"),
        ("[1]", claims(), PLANE, "it has the wrong shape"),
        ('"alg"', claims(), PLANE, "its header is not ours"),
        ("{", claims(), PLANE, "it has the wrong shape"),
        (header(kid=thumbprint(STRANGER.public_key())), claims(), STRANGER,
         "it is not signed by a key we trust"),
        (header(kid=["a"]), claims(), PLANE, "it is not signed by a key we trust"),
        (header(), claims(), STRANGER, "its signature is wrong"),
        (header(), claims(iss="agent"), PLANE, "it is signed by somebody else's key"),
        (header(), claims(exp=int(NOW.timestamp()) + 61), PLANE, "it claims to live too long"),
        (header(), claims(exp=1e999), PLANE, "it has the wrong shape"),
        (header(), claims(iat=True), PLANE, "it has the wrong shape"),
        (header(), claims(jti=""), PLANE, "it has the wrong shape"),
        (header(), claims(jti="x" * 129), PLANE, "it has the wrong shape"),
        (header(), claims(more=1), PLANE, "it has the wrong shape"),
        (header(), "[" * 20_000, PLANE, "it has the wrong shape"),
    ],
)  # fmt: skip
def test_what_is_not_exactly_ours_is_refused(
    head: object, body: object, key: Ed25519PrivateKey, reason: str
) -> None:
    assert why(opened(signed(head, body, key))) == reason


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "é.é.é", "e30.e30.e30"])
def test_what_is_no_message_is_refused(text: str) -> None:
    why(opened(text))


@given(st.data())
def test_no_character_can_be_changed(data: st.DataObject) -> None:
    message = sealed()
    place = data.draw(st.integers(0, len(message) - 1))
    new = data.draw(st.characters(codec="ascii").filter(lambda c: c != message[place]))
    why(opened(message[:place] + new + message[place + 1 :]))


def test_a_message_that_is_too_large_is_refused_unread() -> None:
    large = sealed() + "A" * MAX_ENVELOPE_CHARS["job"]
    assert why(opened(large)) == "it is too large, or not a message"


def test_a_large_result_opens() -> None:
    payload = b"x" * 700_000
    message = seal(
        payload, key=AGENT, sender="agent", audience="plane", purpose="result",
        message_id="m1", now=NOW, in_reply_to="m0",
    )  # fmt: skip
    answer = opened(message, "result", audience="plane")
    assert isinstance(answer, Opened)
    assert answer.payload == payload


def test_a_result_answers_one_message() -> None:
    message = sealed("result", key=AGENT, sender="agent", audience="plane")
    assert why(opened(message, "result", audience="plane", in_reply_to="m9")) == (
        "it answers another message"
    )
    assert why(opened(message, "result", audience="plane", in_reply_to=None)) == (
        "it answers another message"
    )
    assert isinstance(opened(message, "result", audience="plane"), Opened)


def test_a_result_that_answers_nothing_is_never_made_nor_opened() -> None:
    with pytest.raises(ValueError, match="a result answers a message"):
        sealed("result", in_reply_to=None)
    with pytest.raises(ValueError, match="a job answers none"):
        sealed("job", in_reply_to="m0")
    unbound = signed(header(typ="gatekeeper-result+jws"), claims())
    assert why(opened(unbound, "result", in_reply_to=None)) == "it answers another message"


def test_an_id_is_remembered_for_as_long_as_it_could_be_replayed() -> None:
    seen, message = ReplayGuard(), sealed()
    assert isinstance(opened(message, seen=seen), Opened)
    last = NOW + LIFETIME + LEEWAY
    assert why(opened(message, seen=seen, now=last)) == "it was seen before, or too many were"


def test_a_full_guard_refuses_until_there_is_room() -> None:
    guard = ReplayGuard(most=2)
    soon = NOW + timedelta(seconds=10)
    assert guard.first_time("a", soon, NOW)
    assert guard.first_time("b", soon, NOW)
    assert not guard.first_time("c", soon, NOW)
    assert guard.first_time("c", soon, soon + timedelta(seconds=1))


def test_a_refused_message_takes_no_room() -> None:
    seen = ReplayGuard(most=1)
    why(opened(sealed(message_id="m2"), audience="another", seen=seen))
    assert isinstance(opened(sealed(), seen=seen), Opened)


def test_senders_may_use_the_same_ids() -> None:
    seen = ReplayGuard()
    assert isinstance(opened(sealed(), seen=seen), Opened)
    assert isinstance(opened(sealed(key=AGENT, sender="agent"), seen=seen), Opened)
