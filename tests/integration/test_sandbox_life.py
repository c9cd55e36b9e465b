"""How a terminal in a sandbox starts, goes on and ends: its steps, its signals, its last process."""
# ruff: noqa: ASYNC240  # one test, one loop: nobody is kept waiting

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from sandbox_cases import MEBIBYTE, PYTHON, Sandboxes, Screen, make_tier

from gatekeeper.kernel.errors import InputError
from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import Exit, accounting, bubblewrap, choice, landlock
from gatekeeper.terminals.runner.sandbox.owners import COUNT, FIRST_UID, Owners
from gatekeeper.terminals.runner.sandbox.signals import let_children_hear_signals

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.sandbox import Sandbox

ROOT: Final = os.geteuid() == 0
STUBBORN: Final = """
trap '' HUP TERM INT
(setsid nohup sh -c 'trap "" HUP TERM; exec 1>/dev/null 2>&1; while :; do sleep 0.1; done' &)
setsid sh -c 'sleep 300 & sleep 300 & wait' &
sleep 300 </dev/null >/dev/null 2>&1 &
echo up; while :; do sleep 1; done
"""
"""Processes that would outlive a hang-up, a session and a parent."""
RUNNER: Final = """
import asyncio, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sandbox_cases import Sandboxes, Screen, make_tier

async def main():
    boxes = Sandboxes(make_tier(sys.argv[2]), Path(sys.argv[3]))
    held = await boxes.tier.start(boxes.wanted(("sh", "-c", sys.argv[4])))
    await Screen(held).until("up")
    pids = [held._process.pid, *held._scan()]
    print(json.dumps({"pids": pids, "groups": [str(f) for f in held._cgroup.folders] if held._cgroup else []}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def tiers() -> dict[str, Sandbox]:
    return {}


@pytest.fixture(params=["bubblewrap", "landlock"])
def boxes(request: pytest.FixtureRequest, tmp_path: Path, tiers: dict[str, Sandbox]) -> Sandboxes:
    if request.param not in tiers:
        tiers[request.param] = make_tier(request.param)
    return Sandboxes(tiers[request.param], tmp_path)


@pytest.fixture
def box(tmp_path: Path, tiers: dict[str, Sandbox]) -> Sandboxes:
    """Only the first tier, for what is the same in both."""
    if "bubblewrap" not in tiers:
        tiers["bubblewrap"] = make_tier("bubblewrap")
    return Sandboxes(tiers["bubblewrap"], tmp_path)


# Steps.


async def test_arguments_arrive_exactly_as_they_were_given(boxes: Sandboxes) -> None:
    odd = [
        "",
        " ",
        "a b",
        "$HOME",
        "`id`",
        '"',
        "'",
        "\\",
        "*",
        "-n",
        "--",
        "\n",
        "é🦊",
        "x" * 5000,
    ]
    outcome = await boxes.python("import sys; print(ascii(sys.argv[1:]))", *odd, columns=500)
    assert ast.literal_eval(outcome.text.replace("\n", "")) == odd


async def test_steps_run_one_after_the_other_and_each_end_is_heard(boxes: Sandboxes) -> None:
    steps = (("echo", "one", "two  three"), ("sh", "-c", "echo $0 >> f", "$x"), ("cat", "f"))
    held = await boxes.tier.start(boxes.wanted(*steps))
    heard: list[int] = []
    held.on_step(heard.append)
    screen = Screen(held)  # type: ignore[arg-type]
    ended = await held.wait()
    assert await screen.all() == "one two  three\n$x\n"
    assert ended == Exit(code=0, signal=None, step=2)
    assert held.steps_done == 2
    assert heard == [1, 2]
    screen.close()


async def test_a_step_that_fails_ends_the_terminal(boxes: Sandboxes) -> None:
    held = await boxes.tier.start(
        boxes.wanted(("true",), ("sh", "-c", "exit 7"), ("echo", "never"))
    )
    screen = Screen(held)  # type: ignore[arg-type]
    assert await held.wait() == Exit(code=7, signal=None, step=1)
    assert "never" not in await screen.all()
    screen.close()


@pytest.mark.parametrize(
    ("command", "ended"),
    [
        (("true",), Exit(code=0, signal=None, step=0)),
        (("sh", "-c", "exit 3"), Exit(code=3, signal=None, step=0)),
        (("sh", "-c", "kill -9 $$"), Exit(code=None, signal=9, step=0)),
        (("sh", "-c", "kill -15 $$"), Exit(code=None, signal=15, step=0)),
        (("sh", "-c", "kill -2 $$"), Exit(code=None, signal=2, step=0)),
        (("sh", "-c", "exit 9"), Exit(code=9, signal=None, step=0)),
        (("sh", "-c", "exit 130"), Exit(code=130, signal=None, step=0)),
        (("sh", "-c", "exit 137"), Exit(code=137, signal=None, step=0)),
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), Exit(code=137, signal=None, step=0)),
        ((PYTHON, "-c", "import os; os.kill(os.getpid(), 40)"), Exit(code=None, signal=40, step=0)),
        (("sh", "-c", "exit 255"), Exit(code=255, signal=None, step=0)),
        (("no-such-program",), Exit(code=127, signal=None, step=0)),
    ],
)
async def test_how_it_ended_is_told(
    boxes: Sandboxes, command: tuple[str, ...], ended: Exit
) -> None:
    assert (await boxes.run(*command)).exit == ended


@pytest.mark.parametrize("steps", [(), ((),), (("",),), (("-x",),), (("a\0b",),), (("x",),) * 17])
async def test_what_cannot_be_run_is_refused_before_anything_starts(
    box: Sandboxes, steps: tuple[tuple[str, ...], ...]
) -> None:
    with pytest.raises(InputError):
        await box.tier.start(box.wanted(*steps))


@pytest.mark.parametrize(
    "environment",
    [{"A": "x\0--bind\0/\0/host"}, {"A\0--bind\0/\0/host": ""}, {"": "x"}, {"A=B": "x"}],
)
async def test_no_variable_becomes_an_option_of_the_sandbox(
    boxes: Sandboxes, environment: dict[str, str]
) -> None:
    with pytest.raises(InputError):
        await boxes.tier.start(boxes.wanted(("true",), environment=environment))


async def test_it_begins_in_the_bundle_if_there_is_one(boxes: Sandboxes, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "main").write_text("in the bundle")
    assert (await boxes.run("cat", "main", work=work)).text == "in the bundle"
    assert (await boxes.shell("cd; pwd -P; ls -A", work=work)).text.count("\n") == 1


# The terminal.


async def test_control_c_ends_what_floods(boxes: Sandboxes) -> None:
    async with boxes.running("yes") as screen:
        await screen.until("y\ny\n")
        screen.type("\x03")
        assert (await asyncio.wait_for(screen.held.wait(), 5)).signal == signal.SIGINT


async def test_jobs_are_stopped_and_continued(boxes: Sandboxes) -> None:
    """Ctrl-Z and `fg` in a shell that leads the session: no warning about job control."""
    async with boxes.running("bash", "--norc", environment={"PS1": "% "}) as screen:
        await screen.until("% ")
        screen.type("cat\n")
        await screen.until("cat\n")
        await asyncio.sleep(0.1)
        screen.type("\x1a")
        await screen.until("Stopped")
        screen.type("fg\n")
        await screen.until(lambda text: text.count("cat\n") >= 3 or "fg\ncat" in text)
        screen.type("hello\n")
        await screen.until("hello\nhello")
        screen.type("\x04")
        screen.type("exit 5\n")
        assert (await asyncio.wait_for(screen.held.wait(), 5)).code == 5
        assert "job control" not in screen.text


async def test_the_size_is_told_and_changes(boxes: Sandboxes) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"
    async with boxes.running("sh", "-c", script, columns=132, rows=43) as screen:
        await screen.until("43 132")
        termios.tcsetwinsize(screen.held.terminal_fd, (20, 90))
        await screen.until("20 90")


async def test_a_login_shell_has_a_prompt_a_name_and_a_home(box: Sandboxes) -> None:
    async with box.running("/bin/bash", "-l") as screen:
        await screen.until("user@terminal")
        screen.type("whoami; pwd; tty; id -u; hostname\n")
        await screen.until("user\n/home/user\n/dev/console\n1000\nterminal")
        assert "cannot" not in screen.text


async def test_nothing_is_inherited_from_who_ignores_signals(box: Sandboxes) -> None:
    ignored = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        let_children_hear_signals()
        outcome = await box.shell("grep -E 'Sig(Ign|Blk)' /proc/self/status")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # glibc keeps 32 and 33 to itself, and its posix_spawn (of make, say) leaves them ignored.
    nameable = sum(1 << number - 1 for number in signal.valid_signals())
    _, blocked, _, ignoring = outcome.words
    assert (int(blocked, 16) & nameable, int(ignoring, 16) & nameable) == (0, 0)


# The end.


async def test_what_would_outlive_its_parent_ends_with_the_terminal(boxes: Sandboxes) -> None:
    async with boxes.running("sh", "-c", STUBBORN) as screen:
        await screen.until("up")
        await asyncio.sleep(0.1)
        pids = await asyncio.to_thread(screen.held._scan)
        assert await screen.held.end() >= 4
        assert screen.held.left() == ()
        assert not [pid for pid in pids if accounting.lives(pid)]
        assert await screen.held.end() == 0


async def test_what_the_command_leaves_behind_ends_with_it(boxes: Sandboxes) -> None:
    outcome = await boxes.shell(
        "(setsid nohup sleep 300 >/dev/null 2>&1 &); sleep 300 & sleep 0.1; exit 4"
    )
    assert outcome.exit.code == 4


@pytest.mark.parametrize("tier", ["bubblewrap", "landlock"])
def test_nothing_outlives_a_runner_that_was_killed(tier: str, tmp_path: Path) -> None:
    make_tier(tier)
    here = Path(__file__).parent
    arguments = [sys.executable, "-c", RUNNER, str(here), tier, str(tmp_path), STUBBORN]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        told = json.loads(runner.stdout.readline())
        assert len(told["pids"]) >= 5
        runner.kill()
    deadline = time.monotonic() + 5
    while living := [pid for pid in told["pids"] if accounting.lives(pid)]:
        assert time.monotonic() < deadline, living
        time.sleep(0.02)
    for folder in told["groups"]:
        Path(folder).rmdir()


async def test_a_start_that_is_given_up_leaves_nothing(box: Sandboxes) -> None:
    wanted = box.wanted(("sleep", "300"))
    starting = asyncio.create_task(box.tier.start(wanted))
    await asyncio.sleep(0.002)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not list(Path("/sys/fs/cgroup").glob(f"*/gatekeeper/{wanted.terminal}"))
    running = accounting.children(os.getpid())
    assert not [pid for pid in running if b"bwrap" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_a_sandbox_that_does_not_come_up_says_why(
    box: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bubblewrap, "_namespaces", lambda **_: ["--ro-bind", "/no-such-folder", "/x"]
    )
    with pytest.raises(SandboxUnavailableError, match="no-such-folder"):
        await box.tier.start(box.wanted(("true",)))


# Limits, and who is who.


@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory/cgroup.procs").exists() or not ROOT,
    reason="control groups of version 1 are not mounted, or not ours",
)
async def test_limits_are_the_ones_asked_for(boxes: Sandboxes) -> None:
    async with boxes.running(
        "cat", memory_bytes=48 * MEBIBYTE, processes=33, cpu_percent=50
    ) as screen:
        assert screen.held._cgroup is not None
        memory, pids, cpu = screen.held._cgroup.folders
        assert (memory / "memory.limit_in_bytes").read_text() == f"{48 * MEBIBYTE}\n"
        assert (pids / "pids.max").read_text() == "33\n"
        assert (cpu / "cpu.cfs_quota_us").read_text() == "50000\n"
        everything = [screen.held._process.pid, *accounting.descendants(screen.held._process.pid)]
        assert screen.held._cgroup.processes() == sorted(everything)
    assert not memory.exists()


@pytest.mark.skipif(not ROOT, reason="only root gives terminals users of their own")
def test_no_two_runners_give_the_same_user(tmp_path: Path) -> None:
    one, other = Owners(tmp_path), Owners(tmp_path)
    taken = [one.take(), other.take(), one.take()]
    assert len({owner.uid for owner in taken}) == 3
    assert all(FIRST_UID <= owner.uid < FIRST_UID + COUNT for owner in taken)
    taken[0].release()
    assert other.take().uid not in {owner.uid for owner in taken}
    assert one.take().uid == taken[0].uid
    one.close()
    other.close()


@pytest.mark.skipif(not ROOT, reason="only root gives terminals users of their own")
def test_a_user_that_still_has_processes_is_not_given(tmp_path: Path) -> None:
    """Of a runner that was killed, and whose sandboxes were not ended as they should."""
    first = Owners(tmp_path)
    haunted = first.take().uid
    first.close()
    with subprocess.Popen(["sleep", "60"], user=haunted, group=haunted, extra_groups=[]) as left:
        owners = Owners(tmp_path)
        assert owners.take().uid != haunted
        left.kill()
    owners.close()


def test_terminals_of_a_runner_that_is_not_root_are_held_too() -> None:
    """What does not hold for it is told."""
    program = Path(__file__).with_name("sandbox_unprivileged_program.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    if isinstance(told["bubblewrap"], str) and isinstance(told["landlock"], str):
        pytest.skip(f"no sandbox here: {told}")
    for tier in ("bubblewrap", "landlock"):
        found = told[tier]
        if isinstance(found, str):
            continue
        assert found["user"][1:] == ["end"]
        assert found["ended"] >= 4
        assert found["alive"] == found["left"] == []
        assert found["uid"]
        assert any("user" in gap for gap in told[f"{tier} gaps"])
        if tier == "bubblewrap":
            assert found["user"][0] == "1000"
            assert int(found["many"][0]) <= 8


# The choice.


def test_the_best_tier_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tier("landlock")
    monkeypatch.setattr(bubblewrap, "_TOOLS", ())
    monkeypatch.setattr(bubblewrap.Bubblewrap, "start", _unavailable)
    assert choice.choose(allow_unsandboxed=False).name == "landlock"


def test_without_a_sandbox_nothing_runs_unless_that_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bubblewrap.Bubblewrap, "start", _unavailable)
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(SandboxUnavailableError, match=r"bubblewrap: gone; landlock: .*no Landlock"):
        choice.choose(allow_unsandboxed=False)
    assert choice.choose(allow_unsandboxed=True).name == "none"
    told = {one.name: one for one in choice.report()}
    assert not told["bubblewrap"].works
    assert told["bubblewrap"].detail == "gone"


async def test_even_without_a_sandbox_nothing_is_left(tmp_path: Path) -> None:
    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroups  # noqa: PLC0415
    from gatekeeper.terminals.runner.sandbox.plain import Plain  # noqa: PLC0415

    boxes = Sandboxes(Plain(cgroups=Cgroups(), owners=Owners()), tmp_path)
    async with boxes.running("sh", "-c", STUBBORN) as screen:
        await screen.until("up")
        assert await screen.held.end() >= 3


async def _unavailable(self: object, wanted: object) -> None:
    del self, wanted
    message = "gone"
    raise SandboxUnavailableError(message)
