"""Every way to touch a chain is found, and the first bad event named."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.client.evidence import verify_export, verify_lines
from gatekeeper.kernel.audit import (
    CHAIN,
    GENESIS,
    Actor,
    AuditEvent,
    AuditKind,
    checkpoint_message,
    link,
)  # fmt: skip
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.wire.audit import EXPORT_FORMAT

KEY = SigningKey(Ed25519PrivateKey.generate())
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVENTS = 6


def event(number: int) -> AuditEvent:
    return AuditEvent(
        kind=AuditKind.SESSION_CREATED, at=AT, actor=Actor(kind="human", key="https://i#dana"),
        plane="databases", correlation_id=f"cor_{number}", session=f"ses_{number}", target="pg",
        data={"n": number, "list": [1, "é", None, True], "reason": 'weil "ja"'},
    )  # fmt: skip


def chain(count: int = EVENTS, start: int = 0) -> list[dict[str, Any]]:
    lines, previous = [], GENESIS
    for number in range(1, count + 1):
        made = link(event(number + start).fields(), seq=number, previous=previous)
        previous = made.hash
        lines.append(
            {
                "type": "event",
                "seq": made.seq,
                "hash": made.hash,
                "canonical": made.canonical.decode(),
            }
        )
    return lines


def checkpoint(events: list[dict[str, Any]], key: SigningKey = KEY) -> dict[str, Any]:
    values = {
        "chain": CHAIN,
        "size": len(events),
        "head": events[-1]["hash"],
        "at": "now",
        "keyId": key.key_id,
    }
    message = checkpoint_message(
        chain=CHAIN, size=len(events), head=events[-1]["hash"], at="now", key_id=key.key_id
    )
    return {"type": "checkpoint", **values, "signature": key.sign(message).hex()}


def header(key: SigningKey = KEY) -> dict[str, Any]:
    return {
        "type": "header",
        "format": EXPORT_FORMAT,
        "chain": CHAIN,
        "publicKey": key.public_jwk(),
    }


def verdict(lines: list[dict[str, Any]]) -> tuple[int, str] | None:
    report = verify_lines([json.dumps(line).encode() for line in lines], KEY.public_jwk())
    return None if report.broken is None else (report.broken.seq, report.broken.what)


def export(events: list[dict[str, Any]], *checkpoints: dict[str, Any]) -> list[dict[str, Any]]:
    return [header(), *events, *checkpoints]


def test_an_untouched_chain_is_whole() -> None:
    events = chain()

    assert verdict(export(events, checkpoint(events[:3]), checkpoint(events))) is None


@pytest.mark.parametrize("place", range(EVENTS))
@pytest.mark.parametrize(
    "field",
    [
        "kind",
        "at",
        "actor",
        "plane",
        "correlationId",
        "session",
        "target",
        "data",
        "seq",
        "prev",
        "chain",
        "v",
    ],
)
def test_a_change_of_any_field_is_found_where_it_is(place: int, field: str) -> None:
    events = chain()
    signed = checkpoint(events)
    fields = json.loads(events[place]["canonical"])
    fields[field] = f"{fields[field]}x" if isinstance(fields[field], str) else 77
    events[place]["canonical"] = json.dumps(fields)

    assert verdict(export(events, signed)) == (
        place + 1,
        "its hash does not fit its contents: it was changed",
    )


@pytest.mark.parametrize("place", range(EVENTS))
def test_a_change_with_a_new_hash_breaks_the_link_or_the_signature(place: int) -> None:
    events = chain()
    signed = checkpoint(events)
    text = events[place]["canonical"].replace("pg", "xx")
    events[place] |= {"canonical": text, "hash": hashlib.sha256(text.encode()).hexdigest()}

    found = verdict(export(events, signed))

    assert found is not None
    assert found[0] == min(place + 2, EVENTS)


@pytest.mark.parametrize("place", range(EVENTS - 1))
def test_a_removed_event_is_found(place: int) -> None:
    events = chain()
    signed = checkpoint(events)
    del events[place]

    found = verdict(export(events, signed))

    assert found is not None
    assert found[0] == place + 1
    assert "removed" in found[1]


def test_an_inserted_and_a_moved_event_are_found() -> None:
    events = chain()
    signed = checkpoint(events)

    assert verdict(export([*events[:2], events[1], *events[2:]], signed)) == (
        3, "event 2 stands here: one was removed, inserted or moved",
    )  # fmt: skip
    assert verdict(export([events[1], events[0], *events[2:]], signed)) == (
        1, "event 2 stands here: one was removed, inserted or moved",
    )  # fmt: skip


def test_a_cut_tail_is_found_by_the_checkpoint() -> None:
    events = chain()

    assert verdict(export(events[:4], checkpoint(events))) == (
        5,
        "the chain ends before it: its tail was cut off",
    )


def test_events_that_no_checkpoint_covers_are_not_believed() -> None:
    events = chain()

    assert verdict(export(events, checkpoint(events[:4]))) == (
        5, "no signed checkpoint covers this event and those after it",
    )  # fmt: skip
    assert verdict(export(events)) is not None


def test_a_rewritten_chain_is_found_by_the_signature() -> None:
    rewritten = chain(start=100)
    signed = checkpoint(chain())

    assert verdict(export(rewritten, signed)) == (
        EVENTS, "the signed checkpoint says otherwise: the chain was rewritten",
    )  # fmt: skip


def test_a_rewritten_chain_signed_by_another_key_is_found() -> None:
    other = SigningKey(Ed25519PrivateKey.generate())
    rewritten = chain(start=100)
    lines = [header(other), *rewritten, checkpoint(rewritten, other)]

    assert verdict(lines) == (EVENTS, "the checkpoint here is not signed by a trusted key")
    own = verify_lines([json.dumps(line).encode() for line in lines])
    assert own.broken is None
    assert not own.key_was_given


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_single_flipped_byte_goes_unnoticed(data: st.DataObject) -> None:
    events = chain()
    lines = [json.dumps(line).encode() for line in export(events, checkpoint(events))]
    number = data.draw(st.integers(1, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 1))
    flipped = bytearray(lines[number])
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    original = json.loads(lines[number])
    lines[number] = bytes(flipped)

    try:
        same = json.loads(bytes(flipped)) == original
        report = verify_lines(lines, KEY.public_jwk())
    except (InputError, ValueError):
        return
    assert same or report.broken is not None
    if not same and number <= EVENTS and report.broken is not None:
        assert report.broken.seq == number


@pytest.mark.parametrize(
    "lines",
    [[], [b"{}"], [b"["], [b'{"format": "other"}'], [json.dumps(header()).encode(), b"[]"],
     [json.dumps(header()).encode(), b'{"type": "event"}'],
     [json.dumps(header()).encode(), b'{"type": "event", "seq": 1, "hash": 1, "canonical": 3}'],
     [json.dumps(header()).encode(), b'{"type": "what"}'],
     [json.dumps(header()).encode(), b"x" * 5_000_000],
     [json.dumps({**header(), "publicKey": "{}"}).encode()]],
)  # fmt: skip
def test_what_is_no_export_is_refused_with_words(lines: list[bytes]) -> None:
    with pytest.raises(InputError):
        verify_lines(lines)


def test_the_time_is_written_in_utc_with_six_digits() -> None:
    local = AT.astimezone(timezone(timedelta(hours=3)))
    moved = AuditEvent(
        kind=AuditKind.SESSION_READY,
        at=local,
        actor=Actor(kind="system", key="g"),
        plane="p",
        correlation_id="c",
    )

    assert moved.fields()["at"] == "2026-01-01T12:00:00.000000Z"


def test_every_kind_of_event_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "AUDIT.md").read_text()

    assert [kind.value for kind in AuditKind if f"`{kind.value}`" not in text] == []


def test_an_export_is_read_from_a_file(tmp_path: Path) -> None:
    events = chain()
    path = tmp_path / "export"
    path.write_text("\n".join(json.dumps(line) for line in export(events, checkpoint(events))))

    report = verify_export(path, KEY.public_jwk())

    assert (report.broken, report.events, report.key_id) == (None, EVENTS, KEY.key_id)
