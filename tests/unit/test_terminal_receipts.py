"""What a runner signed must agree with the event that holds it."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes.evidence import AT, KEY, chain, cleaned, event, export, started
from gatekeeper.client.evidence import Report, Trust, verify_lines
from gatekeeper.kernel import base64url
from gatekeeper.kernel.audit import AuditEvent, AuditKind
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.crypto.statements import FRESH, StatementCheck, sign_statement
from gatekeeper.terminals.runner.attesting import Attestor
from gatekeeper.wire import runner as wire

K = AuditKind
RUNNER, STRANGER = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(2))
TERMINAL, OTHER = ("trm_" + letter * 20 for letter in "ab")
INSTANCE = "i" * 20
VIEW = wire.EndedView(
    ending="exited", exit_code=3, last_screen="canary", recording_head="a" * 64,
    recording_bytes=10, output_bytes=20,
)  # fmt: skip
ENDED = {
    "ending": "exited", "exitCode": 3, "signal": None, "recordingHead": "a" * 64,
    "recordingBytes": 10, "outputBytes": 20,
}  # fmt: skip
ABOUT: dict[str, Any] = {"terminal": TERMINAL, "instance": INSTANCE}
GONE = wire.GoneResult(existed=True, gone=True, processes_ended=2, ended=VIEW, **ABOUT)
SAID: dict[AuditKind, tuple[wire.Attested, dict[str, Any]]] = {
    K.TERMINAL_READY: (
        wire.LaunchedResult(
            address="unix:/r", sandbox="none", already=False, verifier="canary", **ABOUT
        ),
        {"sandbox": "none"},
    ),
    K.TERMINAL_ATTACHED: (
        wire.AttachedEvent(subject="i#dana", mode="write", protocol="tty"),
        {"told": {"subject": "i#dana", "mode": "write", "protocol": "tty"}},
    ),
    K.TERMINAL_LEASE_PASSED: (wire.LeaseEvent(holder="i#emil"), {"told": {"holder": "i#emil"}}),
    K.TERMINAL_RECORDED: (
        wire.SegmentEvent(number=2, head="b" * 64, bytes=9),
        {"told": {"segment": 2, "head": "b" * 64, "bytes": 9}},
    ),
    K.TERMINAL_ENDED: (wire.EndedEvent(ended=VIEW), {"ended": ENDED}),
    K.TERMINAL_EXPIRED: (
        wire.EndedEvent(ended=VIEW.model_copy(update={"ending": "expired"})),
        {"ended": ENDED | {"ending": "expired"}},
    ),
    K.TERMINAL_CLEANED: (GONE, {"existed": True, "processesEnded": 2, "ended": ENDED}),
}  # fmt: skip
"""What a runner says, and what the event tells of it."""


class Clock:
    def __init__(self, now: datetime = AT) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


def signed(said: wire.Attested, **changes: Any) -> str:
    about = ABOUT | {k: v for k, v in changes.items() if k in ABOUT}
    attestor = Attestor(
        name=changes.get("name", "local"),
        key=changes.get("key", RUNNER).private,
        clock=Clock(changes.get("now", AT)),
    )
    return attestor.attested(about["terminal"], about["instance"], said).receipt


def told(kind: AuditKind, receipt: str | None = None, **changes: Any) -> AuditEvent:
    """Tell what was said; `receipt` and `changes` bend it."""
    said, data = SAID[kind]
    data = {"instance": INSTANCE, **data, "receipt": receipt or signed(said), **changes}
    return replace(event(kind, **data), session=TERMINAL, target="local")


def without_receipt(kind: AuditKind, **changes: Any) -> AuditEvent:
    one = told(kind, **changes)
    return replace(one, data={k: v for k, v in one.data.items() if k != "receipt"})


def begun(key: SigningKey = RUNNER, runner: str = "local") -> AuditEvent:
    public = json.loads(key.public_jwk())["x"]
    return event(K.CONTROL_PLANE_STARTED, agents={}, runners={runner: public})


def report(*events: AuditEvent, **trust: Any) -> Report:
    lines = export(chain(events), len(events))
    return verify_lines(lines, Trust(public_key=KEY.public_jwk(), **trust))


def verdict(*events: AuditEvent, **trust: Any) -> str | None:
    found = report(*events, **trust).broken
    if found is None:
        return None
    assert found.seq == len(events)
    return found.what


def test_a_terminals_life_is_counted_beside_a_logins() -> None:
    found = report(started(), begun(), *(told(kind) for kind in SAID), cleaned())

    assert found.broken is None
    assert found.receipts == len(SAID) + 1
    assert found.runners == {RUNNER.key_id: "local"}


def test_neither_a_screen_nor_a_verifier_comes_into_the_evidence() -> None:
    held = [told(kind).data["receipt"] for kind in SAID]
    payloads = [json.loads(_claims(str(text))["payload"]) for text in held]

    assert "canary" not in json.dumps(payloads)


def _claims(text: str) -> Any:
    return json.loads(base64url.decode(text.split(".")[1]))


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"terminal": OTHER}, "the terminal"),
        ({"instance": "j" * 20}, "the launch"),
        ({"now": AT - timedelta(days=2)}, "the time"),
    ],
)
def test_a_receipt_of_another_terminal_launch_or_day_is_found(
    kind: AuditKind, changes: dict[str, Any], what: str
) -> None:
    bent = told(kind, signed(SAID[kind][0], **changes))

    assert verdict(begun(), bent) == f"the runner signed something else: {what} differs"


@pytest.mark.parametrize(
    ("bent", "what"),
    [
        (told(K.TERMINAL_READY, sandbox="bubblewrap"), "the sandbox"),
        (told(K.TERMINAL_ATTACHED, told=SAID[K.TERMINAL_ATTACHED][1]["told"] | {"subject": "x"}),
         "who attached"),
        (told(K.TERMINAL_ATTACHED, told=SAID[K.TERMINAL_ATTACHED][1]["told"] | {"mode": "read"}),
         "the mode"),
        (told(K.TERMINAL_ATTACHED, told=SAID[K.TERMINAL_ATTACHED][1]["told"] | {"protocol": "x"}),
         "how"),
        (told(K.TERMINAL_LEASE_PASSED, told={"holder": None}), "who may type"),
        (told(K.TERMINAL_RECORDED, told={"segment": 1, "head": "b" * 64, "bytes": 9}),
         "the segment"),
        (told(K.TERMINAL_RECORDED, told={"segment": 2, "head": "c" * 64, "bytes": 9}), "the head"),
        (told(K.TERMINAL_RECORDED, told={"segment": 2, "head": "b" * 64, "bytes": 8}), "the bytes"),
        (told(K.TERMINAL_ENDED, ended=ENDED | {"exitCode": 0}), "how it ended"),
        (told(K.TERMINAL_ENDED, ended=ENDED | {"ending": "idle"}), "how it ended"),
        (told(K.TERMINAL_EXPIRED, ended=ENDED), "how it ended"),
        (told(K.TERMINAL_CLEANED, existed=False), "whether it existed"),
        (told(K.TERMINAL_CLEANED, processesEnded=0), "the processes ended"),
        (told(K.TERMINAL_CLEANED, ended=None), "how it ended"),
        (told(K.TERMINAL_CLEANED, signed(GONE.model_copy(update={"gone": False}))),
         "that it is gone"),
        (told(K.TERMINAL_CLEANED, signed(SAID[K.TERMINAL_ENDED][0])), "what was done"),
        (replace(told(K.TERMINAL_ENDED), session=OTHER), "the terminal"),
        (replace(told(K.TERMINAL_ENDED), target="other"), "the runner"),
        (told(K.TERMINAL_ENDED, instance="j" * 20), "the launch"),
    ],
)  # fmt: skip
def test_an_event_that_tells_something_else_than_was_signed_is_found(
    bent: AuditEvent, what: str
) -> None:
    assert verdict(begun(), bent) == f"the runner signed something else: {what} differs"


def test_the_launch_that_was_proven_gone_is_the_one_that_was_ready() -> None:
    other = signed(GONE, instance="j" * 20)
    bent = told(K.TERMINAL_CLEANED, other, instance="j" * 20)

    assert verdict(begun(), bent) is None
    assert "the launch differs" in str(verdict(begun(), told(K.TERMINAL_READY), bent))


@pytest.mark.parametrize("kind", sorted(SAID.keys() - {K.TERMINAL_EXPIRED}))
def test_a_missing_receipt_is_found(kind: AuditKind) -> None:
    assert verdict(begun(), without_receipt(kind)) == "the runner's receipt is missing"


def test_where_nobody_could_sign_none_is_needed() -> None:
    nothing = {"existed": False, "processesEnded": 0, "ended": None}
    lost = without_receipt(K.TERMINAL_ENDED, ended=ENDED | {"ending": "runner_lost"})
    never_there = without_receipt(K.TERMINAL_CLEANED, **nothing)

    assert verdict(begun(), without_receipt(K.TERMINAL_EXPIRED)) is None
    assert verdict(begun(), replace(event(K.TERMINAL_REVOKED), session=TERMINAL)) is None
    assert verdict(begun(), lost) is None
    assert verdict(begun(), never_there) is None
    for changed in ({"existed": True}, {"processesEnded": 1}, {"ended": ENDED}):
        bent = without_receipt(K.TERMINAL_CLEANED, **nothing | changed)
        assert "is missing" in str(verdict(begun(), bent))
    assert "is missing" in str(verdict(begun(), told(K.TERMINAL_READY), never_there))


def test_what_was_once_gone_is_forgotten() -> None:
    nothing = without_receipt(K.TERMINAL_CLEANED, existed=False, processesEnded=0, ended=None)

    assert verdict(begun(), told(K.TERMINAL_READY), told(K.TERMINAL_CLEANED), nothing) is None


def flipped(text: str, part: int) -> str:
    """Flip one bit of a part of a receipt."""
    parts = text.split(".")
    middle = len(parts[part]) // 2
    letter = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + letter + parts[part][middle + 1 :]
    return ".".join(parts)


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("part", range(3))
def test_a_flipped_receipt_is_found(kind: AuditKind, part: int) -> None:
    found = verdict(begun(), told(kind, flipped(signed(SAID[kind][0]), part)))

    assert found is not None
    assert "receipt" in found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (signed(GONE, key=STRANGER), "the chain names no such key of this runner before it"),
        (signed(GONE, name="another"), "the chain names no such key of this runner before it"),
        (cleaned().data["receipt"], "it serves another purpose"),
        (flipped(signed(GONE), 2), "its signature is wrong"),
        ("a.b", "it is not a signed result"),
        (7, "the wrong shape"),
        (sign_statement({}, key=RUNNER.private, signer="local", now=AT), "the wrong shape"),
        (sign_statement(ABOUT | {"facts": []}, key=RUNNER.private, signer="local", now=AT),
         "the wrong shape"),
    ],
)  # fmt: skip
def test_a_forged_receipt_is_found(text: Any, what: str) -> None:
    assert what in str(verdict(begun(), told(K.TERMINAL_CLEANED, text)))


def test_a_key_counts_as_whose_it_was_named_and_from_there() -> None:
    assert "names no such key" in str(verdict(told(K.TERMINAL_CLEANED)))
    assert "names no such key" in str(verdict(started(RUNNER, "local"), told(K.TERMINAL_CLEANED)))
    assert verdict(begun(STRANGER), begun(), told(K.TERMINAL_CLEANED)) is None


def test_only_keys_that_were_given_are_believed_each_of_its_kind() -> None:
    own, other = RUNNER.public_jwk(), STRANGER.public_jwk()

    assert verdict(begun(), told(K.TERMINAL_CLEANED), runner_keys=(other, own)) is None
    assert verdict(begun(), told(K.TERMINAL_CLEANED), agent_keys=(other,)) is None
    assert verdict(begun(), told(K.TERMINAL_CLEANED), runner_keys=(other,)) == (
        "its receipt is refused: it is not signed by a runner's key you gave"
    )


CHECK = StatementCheck({"local": RUNNER.private.public_key()})
STATEMENT = wire.statement(TERMINAL, INSTANCE, GONE)


def test_a_receipt_is_good_when_it_comes_in() -> None:
    assert CHECK.is_good(signed(GONE), STATEMENT, runner="local", now=AT)


@pytest.mark.parametrize(
    "receipt",
    [
        "",
        "a.b.c",
        signed(GONE, key=STRANGER),
        signed(GONE, terminal=OTHER),
        signed(GONE, now=AT - FRESH - timedelta(seconds=1)),
        sign_statement(
            ABOUT | {"facts": STATEMENT["facts"] | {"gone": 1}},
            key=RUNNER.private, signer="local", now=AT,
        ),
        signed(GONE.model_copy(update={"processes_ended": 3})),
    ],
)  # fmt: skip
def test_what_would_break_the_chain_is_not_taken(receipt: str) -> None:
    assert not CHECK.is_good(receipt, STATEMENT, runner="local", now=AT)
