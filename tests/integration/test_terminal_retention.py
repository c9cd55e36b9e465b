"""Recordings whose time is over: a real store, real files, and processes that are killed."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.terminal_world import DANA, OLGA, World, terminal_world
from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import ErrorCode, InputError, Refusal
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.kernel.terminal.recording import FIRST_HEAD, next_head
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.adapters import recordings
from gatekeeper.terminals.adapters.recordings import FolderRecordings
from gatekeeper.terminals.jobs.retention import Looked, Retention
from gatekeeper.terminals.model import Ended, Ending, Terminal
from gatekeeper.terminals.reporting import Recorded

S = SessionStatus
MONTH = timedelta(days=30)
PARTS = (b'{"version":3}\n[0.1,"o","a"]\n', b'[0.2,"o","b"]\n')
HEADS = (next_head(FIRST_HEAD, PARTS[0]), next_head(next_head(FIRST_HEAD, PARTS[0]), PARTS[1]))
SIZE = sum(map(len, PARTS))
EXITED = Ended(
    ending=Ending.EXITED, exit_code=0, last_screen="bye", recording_head=HEADS[1],
    recording_bytes=SIZE,
)  # fmt: skip


@dataclass
class Archive:
    """A world with recordings in it, and a sequencer that works when it is told to."""

    world: World
    found: Looked | None = None

    @property
    def folder(self) -> Path:
        return self.world.folder / "recordings"

    def files(self, terminal: Terminal) -> list[str]:
        folder = self.folder / terminal.id
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    async def recorded(
        self, ended: Ended | None = EXITED, *, heads: int = 2, days: int = 31, tell: bool = True
    ) -> Terminal:
        """Have a terminal recorded, ended (None: its runner dies), cleaned, and then be so old."""
        world, launcher = self.world, self.world.launcher
        async with world.working():
            terminal = await world.ready()
            self.write(terminal.id)
            for number, (part, head) in enumerate(zip(PARTS, HEADS, strict=True), 1):
                if number <= heads:
                    said = Recorded(number=number, head=head, bytes=len(part), signed="a.b.c")
                    launcher.tell(terminal.instance, said)
            if ended is None:
                await world.report()
                launcher.die()
            else:
                launcher.finish(terminal.instance, ended)
            await world.report(terminal)
            await world.reach(terminal.id, S.CLEANED)
        if tell:
            await self.sequence()
        return await self.age(terminal, days)

    def write(self, terminal: str) -> None:
        (self.folder / terminal).mkdir(parents=True)
        for number, part in enumerate(PARTS, 1):
            (self.folder / terminal / f"{number:06d}.cast").write_bytes(part)

    async def age(self, terminal: Terminal, days: int) -> Terminal:
        await self.world.rows(
            f"UPDATE gatekeeper.terminal SET ended_at = now() - interval '{days} days'"
            f" WHERE id = '{terminal.id}' RETURNING 1"
        )
        found = await self.world.store.get(terminal.id)
        assert found is not None
        return found

    async def sequence(self) -> None:
        key = SigningKey.load_or_create(self.world.folder / "evidence.jwk")
        sequencer = Sequencer(
            pool=self.world.pool, dsn=self.world.dsn, key=key, clock=SystemClock()
        )
        await sequencer.sequence()

    def retention(self, keep: timedelta | None = MONTH) -> Retention:
        return Retention(
            store=self.world.store, recordings=FolderRecordings(self.folder), keep=keep,
            looked=self._heard,
        )  # fmt: skip

    async def look(self, keep: timedelta | None = MONTH) -> Looked:
        await self.retention(keep).look()
        assert self.found is not None
        return self.found

    def _heard(self, looked: Looked) -> None:
        self.found = looked

    async def deletions(self) -> list[dict[str, Any]]:
        await self.sequence()
        rows = await self.world.rows(
            "SELECT canonical FROM gatekeeper.audit_event"
            " WHERE kind = 'terminal.recording_deleted' ORDER BY seq"
        )
        return [json.loads(row[0]) for row in rows]

    async def refused(self, terminal: Terminal) -> ErrorCode | None:
        """Ask for a recording; None when it is given."""
        asked = await self.world.driving.recording(OLGA, terminal.id, "cor_read")
        return asked.code if isinstance(asked, Refusal) else None


@pytest.fixture
async def archive(store_dsn: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with terminal_world(store_dsn, tmp_path) as world:
        yield Archive(world)


async def test_what_is_old_goes_with_evidence_of_it_and_what_is_not_stays(
    archive: Archive,
) -> None:
    old, young = await archive.recorded(), await archive.recorded(days=29)
    before = await archive.refused(old)
    looked = await archive.look()
    again = await archive.look()
    screen = await archive.world.driving.screen(DANA, old.id, "c")
    answer = await archive.world.driving.recording(DANA, old.id, "c")
    kept = await archive.world.driving.screen(DANA, young.id, "c")

    assert (before, await archive.refused(young)) == (None, None)
    assert (looked, again) == (Looked(SIZE, 1, 0), Looked(SIZE, 0, 0))
    assert not (archive.folder / old.id).exists()
    assert archive.files(young) == ["000001.cast", "000002.cast"]
    (event,) = await archive.deletions()
    assert (event["session"], event["actor"]["kind"]) == (old.id, "system")
    assert event["data"] == {
        "profile": "shell", "status": "cleaned", "reason": "retention", "keptDays": 30,
        "head": HEADS[1], "segments": 2, "bytes": SIZE,
    }  # fmt: skip
    for refusal in (answer, screen):
        assert isinstance(refusal, Refusal)
        assert refusal.code is ErrorCode.RECORDING_DELETED
        assert f"deleted at {event['at'][:19]}Z by retention" in refusal.detail
    assert not isinstance(kept, Refusal)
    rows = await archive.world.rows(
        f"SELECT last_screen, recording_head FROM gatekeeper.terminal WHERE id = '{old.id}'"
    )
    assert rows == [(None, HEADS[1])]


async def test_what_lives_and_what_is_not_proven_gone_stays(archive: Archive) -> None:
    world = archive.world
    async with world.working():
        live, stuck = await world.ready(), await world.ready()
        world.launcher.stuck.add(stuck.instance)
        world.launcher.finish(stuck.instance, replace(EXITED, recording_head=None))
        await world.report(stuck)
        await world.reach(stuck.id, S.ENDED)
    for terminal in (live, stuck):
        archive.write(terminal.id)
        await archive.age(terminal, 31)
    archive.write(stranger := ids.terminal_id(SystemRandom().bytes(ids.RANDOM_BYTES)))

    assert await archive.look() == Looked(3 * SIZE, 0, 0)
    assert archive.files(live) == archive.files(stuck) == ["000001.cast", "000002.cast"]
    assert (archive.folder / stranger).exists(), "of another store, or of one that was restored"
    assert await archive.deletions() == []


async def test_a_head_that_is_not_in_the_signed_chain_yet_keeps_its_recording(
    archive: Archive,
) -> None:
    waiting = await archive.recorded(tell=False)
    first = await archive.look()
    await archive.sequence()
    second = await archive.look()
    untold = await archive.recorded(heads=1)
    third = await archive.look()

    assert (first, second) == (Looked(SIZE, 0, 1), Looked(0, 1, 0))
    assert third == Looked(SIZE, 0, 1)
    assert [event["session"] for event in await archive.deletions()] == [waiting.id]
    assert archive.files(untold) == ["000001.cast", "000002.cast"]
    assert await archive.refused(untold) is None


@pytest.mark.parametrize(
    ("ended", "heads"),
    [(None, 1), (None, 0), (replace(EXITED, recording_head=FIRST_HEAD), 0)],
    ids=["its runner died", "its runner died at once", "no segment could be closed"],
)
async def test_what_nobody_will_tell_more_of_goes_with_what_the_evidence_has(
    archive: Archive, ended: Ended | None, heads: int
) -> None:
    terminal = await archive.recorded(ended, heads=heads)
    (archive.folder / terminal.id / "000003.cast.open").write_bytes(b"half a li")

    assert await archive.look() == Looked(0, 1, 0)
    (event,) = await archive.deletions()
    assert event["data"]["segments"] == heads
    assert event["data"]["head"] == (HEADS[heads - 1] if heads else None)
    assert event["data"]["bytes"] == SIZE + 9


async def test_without_a_time_to_keep_nothing_goes_but_what_was_given_up_before(
    archive: Archive,
) -> None:
    begun, old = await archive.recorded(), await archive.recorded()
    await archive.age(old, 29)
    await archive.look()
    archive.write(begun.id)  # as from a backup of the files
    await archive.age(old, 10_000)

    assert await archive.look(None) == Looked(SIZE, 1, 0)
    assert archive.files(begun) == []
    assert archive.files(old) == ["000001.cast", "000002.cast"]
    assert len(await archive.deletions()) == 1


@pytest.mark.parametrize("point", ["noted", "committed", "begun"])
async def test_whoever_is_killed_meanwhile_is_finished_for_once(
    archive: Archive, point: str
) -> None:
    terminal = await archive.recorded()
    program = Path(__file__).with_name("retention_program.py")
    killed = await asyncio.create_subprocess_exec(
        sys.executable, program, archive.world.dsn.reveal(), archive.folder, point
    )
    async with asyncio.timeout(60):
        assert await killed.wait() == -signal.SIGKILL
    left, told = archive.files(terminal), len(await archive.deletions())
    refused = await archive.refused(terminal)
    healed = await archive.look()

    assert left == ["000001.cast", "000002.cast"][point == "begun" :]
    assert told == (0 if point == "noted" else 1)
    assert refused == (None if point == "noted" else ErrorCode.RECORDING_DELETED)
    assert healed == Looked(0, 1, 0)
    assert archive.files(terminal) == []
    assert len(await archive.deletions()) == 1


async def test_what_the_disk_does_not_give_up_is_told_of_until_it_does(archive: Archive) -> None:
    terminal = await archive.recorded()
    other = archive.folder / terminal.id / "notes.txt"
    other.write_text("somebody's")
    first = await archive.look()
    refused = await archive.refused(terminal)
    other.unlink()
    second = await archive.look()

    assert (first, second) == (Looked(SIZE, 0, 1), Looked(0, 1, 0))
    assert refused is ErrorCode.RECORDING_DELETED
    assert not (archive.folder / terminal.id).exists()
    assert len(await archive.deletions()) == 1


async def test_several_that_look_at_once_tell_of_each_once_and_a_few_at_a_time(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "MOST_AT_A_TIME", 2)
    terminals = [await archive.recorded() for _ in range(5)]
    await asyncio.gather(*(archive.retention().look() for _ in range(3)))
    transactions = await archive.world.rows(
        "SELECT count(*) FROM gatekeeper.terminal WHERE recording_deleted_at IS NOT NULL"
        " GROUP BY xmin::text"
    )

    told = [event["session"] for event in await archive.deletions()]
    assert sorted(told) == sorted(terminal.id for terminal in terminals)
    assert list(archive.folder.iterdir()) == []
    assert max(count for (count,) in transactions) <= 2


async def test_a_download_that_is_under_way_breaks_and_does_not_look_whole(
    archive: Archive,
) -> None:
    terminal = await archive.recorded()
    stream = await archive.world.driving.recording(DANA, terminal.id, "c")
    assert not isinstance(stream, Refusal)
    first = await anext(stream)
    await archive.look()
    with pytest.raises(InputError):
        await anext(stream)

    assert first == PARTS[0]


async def test_nobody_reads_what_is_being_given_up(archive: Archive) -> None:
    """A reader has found the file, and waits for the transaction that gives it up."""
    terminal = await archive.recorded()
    async with archive.world.store.transaction() as unit:
        (overdue,) = await unit.overdue_recordings([terminal.id], MONTH)
        await unit.note_deleted([overdue.terminal.id])
        reading = asyncio.create_task(archive.refused(terminal))
        await asyncio.sleep(0.5)
        assert not reading.done()
    refused = await reading

    assert refused is ErrorCode.RECORDING_DELETED
    assert "terminal.recording_read" not in await archive.world.events(terminal)


async def test_a_folder_that_is_not_there_has_no_recordings(archive: Archive) -> None:
    assert await archive.look() == Looked()
