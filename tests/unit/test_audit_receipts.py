"""What an agent signed must agree with the event that holds it."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes.evidence import (
    AGENT,
    AT,
    CORRELATION,
    KEY,
    SESSION,
    chain,
    cleaned,
    event,
    export,
    extended,
    gone,
    ready,
    receipt,
    reconciled,
    started,
)  # fmt: skip
from gatekeeper.client.evidence import Report, Trust, verify_lines
from gatekeeper.kernel.audit import AuditEvent, AuditKind
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.wire import jobs

STRANGER = SigningKey(Ed25519PrivateKey.generate())
OTHER_SESSION = "ses_" + "b" * 20
Bend = Callable[..., AuditEvent]


def report(*events: AuditEvent, agent_keys: tuple[str, ...] = ()) -> Report:
    lines = export(chain(events), len(events))
    return verify_lines(lines, Trust(public_key=KEY.public_jwk(), agent_keys=agent_keys))


def verdict(*events: AuditEvent, agent_keys: tuple[str, ...] = ()) -> str | None:
    """Return what is wrong with the last event, which must be the one named."""
    found = report(*events, agent_keys=agent_keys).broken
    if found is None:
        return None
    assert found.seq == len(events)
    return found.what


def test_receipts_that_agree_are_counted() -> None:
    found = report(started(), ready(), extended(), cleaned(), reconciled())

    assert found.broken is None
    assert found.receipts == 4
    assert found.agents == {AGENT.key_id: "agent"}


@pytest.mark.parametrize("tell", [ready, extended, cleaned, reconciled])
@pytest.mark.parametrize(
    ("result", "what"),
    [
        ({"job_id": f"create:{OTHER_SESSION}"}, "the session"),
        ({"job_id": f"what:{SESSION}"}, "the session"),
        ({"job_id": f"revoke:{SESSION}x"}, "the session"),
        ({"correlation_id": "cor_2"}, "the request"),
        ({"status": "failed"}, "the outcome"),
    ],
)
def test_a_receipt_of_another_action_is_found(
    tell: Bend, result: dict[str, Any], what: str
) -> None:
    assert verdict(started(), tell(result)) == f"the agent signed something else: {what} differs"


@pytest.mark.parametrize(
    ("bent", "what"),
    [
        (ready(username="gk_" + "b" * 20), "the username"),
        (ready(expiresAt="2026-01-01T12:06:00.000000Z"), "when it ends"),
        (ready({"expires_at": AT}), "when it ends"),
        (extended(expiresAt="2026-01-01T12:06:00.000000Z"), "when it ends"),
        (ready(receipt=receipt(gone())), "what was done"),
        (cleaned(receipt=ready().data["receipt"]), "what was done"),
        (cleaned(username="gk_" + "b" * 20), "the username"),
        (cleaned({"status": "incomplete"}), "the outcome"),
        (cleaned(existed=False), "whether it existed"),
        (cleaned(backendsEnded=3), "the backends ended"),
        (cleaned(owned=[]), "what it owned"),
        (cleaned(accessCutLagMs=10), "when access was cut"),
        (cleaned(lagMs=10), "when access was cut"),
        (cleaned(receipt=receipt(gone(), now=AT + timedelta(days=2))), "the time"),
        (reconciled({"status": "incomplete"}), "the outcome"),
        (reconciled(problem="still there"), "the outcome"),
    ],
)  # fmt: skip
def test_an_event_that_tells_something_else_than_was_signed_is_found(
    bent: AuditEvent, what: str
) -> None:
    assert verdict(started(), bent) == f"the agent signed something else: {what} differs"


@pytest.mark.parametrize(
    "kind",
    [AuditKind.SESSION_READY, AuditKind.SESSION_EXTENDED, AuditKind.SESSION_CLEANED],
)
def test_a_missing_receipt_is_found(kind: AuditKind) -> None:
    assert verdict(started(), event(kind)) == "the agent's receipt is missing"


def test_only_a_repair_that_ended_a_login_needs_a_receipt() -> None:
    told = AuditKind.TARGET_RECONCILED

    assert verdict(started(), event(told, drift="leaked")) == "the agent's receipt is missing"
    assert verdict(started(), event(told, drift="leaked", problem="no answer")) is None
    assert verdict(started(), event(told, drift="missing")) is None
    assert verdict(started(), reconciled({"status": "incomplete"}, problem="still there")) is None


def test_a_clock_that_is_wrong_by_hours_is_no_lie() -> None:
    early = receipt(gone(), now=AT - timedelta(hours=20))

    assert verdict(started(), cleaned(receipt=early)) is None


def forged(**changes: Any) -> str:
    """Sign anything as the agent, with whatever header and claims."""
    header = {"alg": "Ed25519", "typ": "gatekeeper-result+jws", "kid": AGENT.key_id}
    claims = {
        "iss": "agent", "iat": int(AT.timestamp()),
        "payload": gone().model_dump_json(by_alias=True),
    }  # fmt: skip
    header |= {k: v for k, v in changes.items() if k in {"alg", "typ", "kid", "crit"}}
    claims |= {k: v for k, v in changes.items() if k not in header}
    text = ".".join(b64(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{b64(AGENT.sign(text.encode()))}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (receipt(gone(), STRANGER), "refused: the chain names no such key of this agent before it"),
        (receipt(gone(), sender="another"), "the chain names no such key"),
        (receipt(gone(), purpose="job", in_reply_to=None), "it serves another purpose"),
        (forged(alg="none"), "its header is not ours"),
        (forged(crit=["exp"]), "its header is not ours"),
        (forged(kid=["x"]), "the wrong shape"),
        (forged(iat=1e999), "the wrong shape"),
        (forged(iat=10**30), "the wrong shape"),
        (forged(payload="["), "the wrong shape"),
        (forged(payload="[]"), "the wrong shape"),
        (forged(payload="{}"), "the wrong shape"),
        (forged()[:-4] + "AAAA", "its signature is wrong"),
        (forged() + "A", "its signature is wrong"),
        ("a.b", "it is not a signed result"),
        ("", "it is not a signed result"),
        ("a.b.c", "the wrong shape"),
        (None, "the wrong shape"),
        (7, "the wrong shape"),
    ],
)
def test_a_forged_receipt_is_found(text: object, what: str) -> None:
    found = verdict(started(), cleaned(receipt=text))

    assert found is not None
    assert what in found


def test_a_forger_that_signs_well_is_taken_for_the_agent_it_is() -> None:
    assert verdict(started(), cleaned(receipt=forged())) is None


def test_a_key_counts_from_where_the_chain_names_it() -> None:
    assert "names no such key" in str(verdict(cleaned()))
    assert "names no such key" in str(verdict(started(agent="another"), cleaned()))
    assert verdict(started(STRANGER), started(), cleaned()) is None


def test_only_keys_that_were_given_are_believed() -> None:
    own, other = AGENT.public_jwk(), STRANGER.public_jwk()

    assert verdict(started(), cleaned(), agent_keys=(own,)) is None
    assert verdict(started(), cleaned(), agent_keys=(other, own)) is None
    assert verdict(started(), cleaned(), agent_keys=(other,)) == (
        "its receipt is refused: it is not signed by an agent's key you gave"
    )
    with pytest.raises(InputError):
        report(started(), agent_keys=("{}",))


@pytest.mark.parametrize("agents", [7, ["a"]])
def test_keys_that_cannot_be_read_are_found(agents: object) -> None:
    assert "wrong shape" in str(verdict(event(AuditKind.CONTROL_PLANE_STARTED, agents=agents)))


def test_a_result_is_the_agents_for_one_request() -> None:
    signed = jobs.RevokeSessionResult(
        job_id=f"revoke:{SESSION}", correlation_id=CORRELATION, status="gone"
    )

    assert "wrong shape" in str(verdict(started(), cleaned(receipt=receipt(signed))))
