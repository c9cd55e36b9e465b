"""The keys of tickets: published before they sign, and until their last ticket is over."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from typer.testing import CliRunner

from gatekeeper.entrypoints.gk import root
from gatekeeper.kernel.errors import InputError
from gatekeeper.terminals.adapters.tickets import (
    PUBLISHED_AFTER,
    PUBLISHED_BEFORE,
    ROTATED_EVERY,
    TicketKeys,
)
from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.protocol.ticket import MAX_LIFETIME, TicketClaims

CLAIMS = TicketClaims(
    issuer="i", subject="s", name="n", terminal="t", instance="x", mode=Mode.READ, origin=None,
    epoch="e", ticket_id="j", issued_at=1, expires_at=2,
)  # fmt: skip
SECOND = timedelta(seconds=1)


@dataclass
class Clock:
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> TicketKeys:
    made = TicketKeys(tmp_path / "tickets", clock=clock)
    made.begin()
    return made


def published(keys: TicketKeys) -> list[str]:
    return [key["kid"] for key in keys.jwks()]


def signing(keys: TicketKeys) -> str:
    """Sign a ticket, verify it with what is published, and return the id of its key."""
    token = asyncio.run(keys.sign(CLAIMS))
    read = jwt.decode(token, KeySet.import_key_set({"keys": keys.jwks()}), algorithms=["RS256"])
    assert "origin" not in read.claims
    return str(read.header["kid"])


def test_the_first_key_signs_at_once(keys: TicketKeys) -> None:
    assert [signing(keys)] == published(keys)


def test_a_key_is_published_before_it_signs_and_until_its_last_ticket_is_over(
    keys: TicketKeys, clock: Clock
) -> None:
    first = signing(keys)
    keys.rotate()
    both = published(keys)
    assert signing(keys) == first
    assert both[0] == first

    clock.at += PUBLISHED_BEFORE
    second = signing(keys)
    assert second == both[1]
    assert published(keys) == both

    clock.at += MAX_LIFETIME + SECOND
    assert first in published(keys)
    clock.at += PUBLISHED_AFTER
    assert published(keys) == [second]


def test_a_second_rotation_waits_for_the_first_one(keys: TicketKeys) -> None:
    assert keys.rotate() == keys.rotate()
    assert len(published(keys)) == 2


def test_another_process_sees_the_same_keys_and_old_ones_go(
    keys: TicketKeys, clock: Clock, tmp_path: Path
) -> None:
    other = TicketKeys(tmp_path / "tickets", clock=clock)
    keys.rotate()
    assert published(other) == published(keys)

    clock.at += PUBLISHED_BEFORE + PUBLISHED_AFTER + SECOND
    other.rotate()
    assert published(other) == published(keys)
    assert len(list((tmp_path / "tickets").glob("*.jwk"))) == 2


def test_keys_are_rotated_by_age(keys: TicketKeys, clock: Clock) -> None:
    keys.rotate_if_old()
    assert len(published(keys)) == 1
    clock.at += ROTATED_EVERY
    keys.rotate_if_old()
    assert len(published(keys)) == 2


def test_a_key_that_others_can_read_signs_nothing(keys: TicketKeys, tmp_path: Path) -> None:
    assert published(keys)
    (path,) = (tmp_path / "tickets").glob("*.jwk")
    path.chmod(0o644)

    with pytest.raises(InputError, match="others can read"):
        signing(TicketKeys(tmp_path / "tickets", clock=Clock()))


def test_an_operator_makes_the_next_key(tmp_path: Path) -> None:
    first = CliRunner().invoke(root, ["rotate-tickets", "--folder", str(tmp_path)])
    again = CliRunner().invoke(root, ["rotate-tickets", "--folder", str(tmp_path)])

    assert first.exit_code == 0, first.output
    assert datetime.fromisoformat(first.output.strip()) > datetime.now(UTC)  # noqa: TID251
    assert again.output == first.output
    assert len(list((tmp_path / "tickets").glob("*.jwk"))) == 2
