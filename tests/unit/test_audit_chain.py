"""Every way to touch a chain is found, and the first bad event named."""

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.evidence import AT, KEY, chain, checkpoint, created, export, header, signed_head
from gatekeeper.client.evidence import (
    MAX_LINE_BYTES,
    Trust,
    bounded_lines,
    last_checkpoint,
    verify_lines,
)
from gatekeeper.kernel.audit import GENESIS, _place, link, timestamp
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.wire.audit import exported_event

EVENTS = 6
GIVEN = Trust(public_key=KEY.public_jwk())


def some(count: int = EVENTS, start: int = 0) -> list[bytes]:
    return chain(created(start + number) for number in range(count))


def verdict(lines: list[bytes], trust: Trust = GIVEN) -> tuple[int, str] | None:
    found = verify_lines(lines, trust).broken
    return None if found is None else (found.seq, found.what)


def changed(line: bytes, old: str, new: str, *, rehash: bool) -> bytes:
    """Change an event; with `rehash`, make its hash fit."""
    fields = json.loads(line)
    canonical = line[line.index(b'"event":') + 8 : -1].replace(old.encode(), new.encode())
    digest = hashlib.sha256(canonical).hexdigest() if rehash else fields["hash"]
    return exported_event(fields["seq"], digest, canonical).rstrip()


def test_an_untouched_chain_is_whole() -> None:
    report = verify_lines(export(some(), 3, EVENTS), GIVEN)

    assert report.broken is None
    assert (report.events, report.signed, report.key_id) == (EVENTS, EVENTS, KEY.key_id)


@pytest.mark.parametrize("place", range(EVENTS))
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"session.created"', '"session.revoked"'), ("2026-01-01", "2026-01-02"),
        ("#dana", "#emil"), ("databases", "terminals"), ("cor_1", "cor_2"), ("ses_a", "ses_b"),
        ('"pg"', '"qg"'), ("weil", "Weil"), ('"seq":', '"seq":1'), ('"prev":"', '"prev":"1'),
        ('"gatekeeper"', '"gatekeeqer"'), ('"v":1', '"v":2'),
    ],
)  # fmt: skip
def test_a_change_of_any_field_is_found_where_it_is(place: int, old: str, new: str) -> None:
    events = some()
    lines = export(events, EVENTS)
    lines[place + 1] = changed(events[place], old, new, rehash=False)
    assert lines[place + 1] != events[place]

    assert verdict(lines) == (
        place + 1, "its hash does not fit its contents: it was changed",
    )  # fmt: skip


@pytest.mark.parametrize("place", range(EVENTS))
def test_a_change_with_a_new_hash_breaks_the_link_or_the_signature(place: int) -> None:
    events = some()
    lines = export(events, EVENTS)
    lines[place + 1] = changed(events[place], '"pg"', '"xx"', rehash=True)

    found = verdict(lines)

    assert found is not None
    if place + 1 < EVENTS:
        assert found == (place + 2, "it does not follow the event before it")
    else:
        assert found[0] == 1
        assert f"checkpoint at event {EVENTS} says otherwise" in found[1]


@pytest.mark.parametrize("place", range(EVENTS - 1))
def test_a_removed_event_is_found(place: int) -> None:
    lines = export(some(), EVENTS)
    del lines[place + 1]

    assert verdict(lines) == (
        place + 1, f"event {place + 2} stands here: one was removed, inserted or moved",
    )  # fmt: skip


def test_an_inserted_and_a_moved_event_are_found() -> None:
    head, *events = export(some(), EVENTS)

    assert verdict([head, *events[:2], events[1], *events[2:]]) == (
        3, "event 2 stands here: one was removed, inserted or moved",
    )  # fmt: skip
    assert verdict([head, events[1], events[0], *events[2:]]) == (
        1, "event 2 stands here: one was removed, inserted or moved",
    )  # fmt: skip


def test_a_number_that_is_not_the_events_own_is_found() -> None:
    lines = export(some(), EVENTS)
    lines[3] = lines[3].replace(b'"seq":3,"hash"', b'"seq":4,"hash"')

    assert verdict(lines) == (3, "event 3 stands here: one was removed, inserted or moved")


def test_a_cut_tail_is_found_by_the_checkpoint() -> None:
    lines = export(some(), EVENTS)
    del lines[5:7]

    assert verdict(lines) == (5, "a checkpoint counts 6 events: from here on they are gone")


def test_a_tail_that_was_cut_with_its_checkpoints_is_found_by_a_checkpoint_that_was_kept(
    tmp_path: Path,
) -> None:
    whole = export(some(), 3, EVENTS)
    (tmp_path / "kept").write_bytes(b"\n".join(whole))
    kept = Trust(public_key=KEY.public_jwk(), kept=last_checkpoint(tmp_path / "kept"))

    assert verdict(whole[:5]) is None
    assert verdict(whole[:5], kept) == (
        4, "the checkpoint you kept counts 6 events: the rest is gone",
    )  # fmt: skip
    assert verdict(whole, kept) is None
    assert verdict(export(some(8), 8), kept) is None


def test_a_history_rewritten_by_the_key_itself_contradicts_a_checkpoint_that_was_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "kept").write_bytes(checkpoint(some()))
    kept = Trust(public_key=KEY.public_jwk(), kept=last_checkpoint(tmp_path / "kept"))
    rewritten = export(some(8, start=100), 8)

    assert verdict(rewritten) is None
    assert verdict(rewritten, kept) == (
        EVENTS, "the checkpoint you kept says otherwise: the chain was rewritten",
    )  # fmt: skip


def test_a_file_without_a_checkpoint_is_refused_with_words(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"nothing\n")

    with pytest.raises(InputError, match="no checkpoint"):
        last_checkpoint(tmp_path / "kept")


def test_events_that_no_checkpoint_covers_are_not_believed() -> None:
    what = "no signed checkpoint covers this event and those after it"

    assert verdict(export(some(), 4)) == (5, what)
    assert verdict(export(some())) == (1, what)


def test_a_rewritten_chain_is_found_by_the_signature() -> None:
    rewritten, true = export(some(start=100), 2, EVENTS), export(some(), 2, EVENTS)
    lines = [
        new if b'"event"' in new[:16] else old for new, old in zip(rewritten, true, strict=True)
    ]

    assert verdict(lines) == (
        1,
        "the signed checkpoint at event 2 says otherwise: this event, or one between, was rewritten",
    )


def test_what_was_rewritten_behind_a_good_checkpoint_begins_behind_it() -> None:
    events = some()
    end = chain([*(created(n) for n in range(4)), created(50), created(51)])
    lines = [*export(events[:4], 4), *end[4:], checkpoint(events)]

    found = verdict(lines)

    assert found is not None
    assert found[0] == 5


def test_a_rewritten_chain_signed_by_another_key_is_found() -> None:
    other = SigningKey(Ed25519PrivateKey.generate())
    lines = export(some(start=100), EVENTS, key=other)

    assert verdict(lines) == (1, "the checkpoint over it is not signed by a trusted key")
    assert verdict(lines, Trust()) is None  # it agrees with itself, and gk says that it is no more


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"size": 3}, "was moved"), ({"chain": "other"}, "another chain"),
        ({"signature": "x"}, "no signature"), ({"signature": "AB"}, "written in another way"),
        ({"at": "later"}, "not signed by a trusted key"),
        ({"keyId": "me"}, "not signed by a trusted key"),
        ({"head": "0" * 64}, "not signed by a trusted key"),
    ],
)  # fmt: skip
def test_a_touched_checkpoint_is_found(change: dict[str, object], what: str) -> None:
    lines = export(some(), 4, EVENTS)
    fields = json.loads(lines[-1]) | change
    lines[-1] = json.dumps(fields, separators=(",", ":")).encode()

    found = verdict(lines)

    assert found is not None
    assert found[0] == 5
    assert what in found[1]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_single_flipped_bit_goes_unnoticed(data: st.DataObject) -> None:
    lines = export(some(), 3, EVENTS)
    number = data.draw(st.integers(1, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 1))
    was_event = lines[number].startswith(b'{"type":"event"')
    flipped = bytearray(lines[number])
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    lines[number] = bytes(flipped)

    found = verdict(lines)

    assert found is not None
    if was_event:
        assert found[0] == number - (number > 4)


TEXT = st.text(max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(
    names=st.dictionaries(
        st.sampled_from(["session", "target", "kind", "correlationId", "plane", "at"]), TEXT
    ),
    data=st.dictionaries(TEXT | st.sampled_from(["prev", "seq", "kind", "v"]), VALUE, max_size=4),
    seq=st.integers(1, 2**53 - 1),
)
@settings(max_examples=300, deadline=None)
def test_reading_an_events_place_quickly_finds_what_parsing_it_finds(
    names: dict[str, str], data: dict[str, object], seq: int
) -> None:
    fields = created(1).fields() | names | {"data": data}
    made = link(fields, seq=seq, previous="f" * 64)  # type: ignore[arg-type]
    parsed = json.loads(made.canonical)

    assert _place(made.canonical) == (
        parsed["chain"], parsed["kind"], parsed["prev"], parsed["seq"],
    )  # fmt: skip


@pytest.mark.parametrize("text", [b"[]", b"{}", b"{", b'{"chain":1}', b"\xff", b"[" * 100_000])
def test_what_is_no_event_has_no_place(text: bytes) -> None:
    assert _place(text) is None


@pytest.mark.parametrize(
    "lines",
    [[], [b"{}"], [b"["], [b'{"format": "other"}'], [b"\xff"], [header(format="gatekeeper-audit-1")],
     [header(publicKey="{}")], [header(publicKey="[]")], [header(publicKey='{"x":"AA"}')]],
)  # fmt: skip
def test_what_is_no_export_is_refused_with_words(lines: list[bytes]) -> None:
    with pytest.raises(InputError):
        verify_lines(lines)


@pytest.mark.parametrize(
    "line",
    [b"[]", b"{", b'{"type":"event"}', b'{"type":"event","seq":1,"hash":1,"event":3}',
     b'{"type":"checkpoint","size":"6"}', b'{"type":"what"}', b"x" * 5_000_000, b""],
)  # fmt: skip
def test_a_line_that_cannot_be_read_breaks_the_chain_there(line: bytes) -> None:
    found = verdict([*export(some(), EVENTS)[:3], line])

    assert found == (3, "what stands here is not a line of an export: it was changed")


@pytest.mark.parametrize("place", ["chain", "kind", "prev", "seq"])
@pytest.mark.parametrize("value", [["x"], {"x": 1}, None, True, 1.5, "1"])
def test_an_event_whose_place_is_of_another_type_is_none(place: str, value: object) -> None:
    fields = {"chain": "gatekeeper", "kind": "session.cleaned", "prev": GENESIS, "seq": 1}
    canonical = json.dumps({**fields, place: value}).encode()
    line = exported_event(1, hashlib.sha256(canonical).hexdigest(), canonical)

    found = verdict([header(), line])

    assert found is not None
    assert found[0] == 1


def test_a_key_that_is_nested_without_end_is_refused_with_words() -> None:
    with pytest.raises(InputError, match="expected an Ed25519 public key"):
        verify_lines([header()], Trust(public_key="[" * 100_000))


def test_a_line_without_end_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    path.write_bytes(b"x" * (MAX_LINE_BYTES + 5) + b"\n")

    with path.open("rb") as file:
        assert [len(piece) for piece in bounded_lines(file)] == [MAX_LINE_BYTES, 6]


def test_the_time_is_written_in_utc_with_six_digits() -> None:
    local = AT.astimezone(timezone(timedelta(hours=3)))

    assert timestamp(local) == "2026-01-01T12:00:00.000000Z"


@pytest.mark.slow
def test_a_million_events_are_verified_in_memory_that_does_not_grow() -> None:
    def lines(count: int) -> Iterator[bytes]:
        yield header()
        previous = GENESIS
        for seq in range(1, count + 1):
            last = link(created(seq).fields(), seq=seq, previous=previous)
            previous = last.hash
            line = exported_event(seq, last.hash, last.canonical)
            yield line
            if seq % 1_000 == 0:
                yield signed_head(seq, last.hash)

    verify_lines(lines(1_000), GIVEN)
    tracemalloc.start()
    report = verify_lines(lines(1_000_000), GIVEN)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (report.broken, report.events) == (None, 1_000_000)
    assert peak < 1_000_000, peak
