"""Tier 1: namespaces, made by bubblewrap.

    unshare, sh   (root only) a mount namespace in which the two folders can be reached by anybody
    setpriv       (root only) the terminal's own user; no capability
    bwrap         user, process, IPC, host name, control group and network namespaces; a root of
                  its own; no capability, no new privileges, a system call filter
    setsid        a session of its own, whose terminal this is; it waits, and says on the status
                  pipe when a signal ended what it waited for, which bubblewrap would not tell
                  from an exit with 128 + n
    sh            the steps

Each takes the place of the one before, up to bubblewrap, which has one child. It waits at a gate
until its control group and its limits hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import limits, root, seccomp
from gatekeeper.terminals.runner.sandbox.folders import watched_work
from gatekeeper.terminals.runner.sandbox.held import Held
from gatekeeper.terminals.runner.sandbox.interface import DOORS, HOME, WORK
from gatekeeper.terminals.runner.sandbox.owners import MOUNT_POINTS, make_mount_points
from gatekeeper.terminals.runner.sandbox.pty import open_pty
from gatekeeper.terminals.runner.sandbox.starting import start_with
from gatekeeper.terminals.runner.sandbox.steps import init_arguments

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroup, Cgroups
    from gatekeeper.terminals.runner.sandbox.interface import Wanted
    from gatekeeper.terminals.runner.sandbox.owners import Owner, Owners

TEMPORARY_PART: Final = 4
"""Temporary files and shared memory each have this part of what the home has."""
_GO: Final = b"go\n"
_GATE: Final = """
read -r go || exit 1
exec 0<&1
"""
_MOUNTS: Final = """
doors=$1 work=$2 doors_at=$3 work_at=$4
shift 4
mount --bind "$doors" "$doors_at" || exit
[ -z "$work" ] || mount --bind "$work" "$work_at" || exit
"""
_TOOLS: Final = ("bwrap", "setsid", "setpriv", "unshare")


class Bubblewrap:
    """Starts terminals in namespaces of their own."""

    name: Literal["bubblewrap"] = "bubblewrap"

    def __init__(self, *, cgroups: Cgroups, owners: Owners) -> None:
        self._cgroups = cgroups
        self._owners = owners
        if os.geteuid() == 0:
            make_mount_points()
        self._tools = {tool: shutil.which(tool, path=root.PATH) for tool in _TOOLS}
        self._shown = {
            network: [*root.program_arguments(), *root.etc_arguments(network=network)]
            for network in (False, True)
        }

    async def start(self, wanted: Wanted) -> Held:
        for tool in ("bwrap", "setsid"):
            if self._tools[tool] is None:
                message = f"There is no {tool} on this machine"
                raise SandboxUnavailableError(message)

        def spawn(owner: Owner, cgroup: Cgroup | None) -> Held:
            return self._spawn(wanted, owner, cgroup)

        return await start_with(wanted, self._cgroups, self._owners, spawn)

    def _spawn(self, wanted: Wanted, owner: Owner, cgroup: Cgroup | None) -> Held:
        """Start it behind its gate, bound it, and open the gate."""
        with ExitStack() as stack:
            pty = open_pty(columns=wanted.columns, rows=wanted.rows, owner=owner.uid)
            stack.callback(os.close, pty.slave)
            on_failure = stack.enter_context(ExitStack())
            on_failure.callback(os.close, pty.master)
            status, told = os.pipe()
            stack.callback(os.close, told)
            on_failure.callback(os.close, status)
            waiting, gate = os.pipe()
            stack.callback(os.close, waiting)
            stack.callback(os.close, gate)
            process = self._popen(wanted, owner, (waiting, pty.slave, told), stack)
            on_failure.callback(process.wait)
            on_failure.callback(process.kill)
            if cgroup is not None:
                cgroup.add(process.pid)
            limits.apply(process.pid, wanted)
            os.write(gate, _GO)
            held = Held(
                name=self.name,
                process=process,
                master=pty.master,
                status=status,
                owner=owner,
                cgroup=cgroup,
                watched=watched_work(wanted),
            )
            on_failure.pop_all()
            return held

    def _popen(
        self,
        wanted: Wanted,
        owner: Owner,
        streams: tuple[int, int, int],
        stack: ExitStack,
    ) -> subprocess.Popen[bytes]:
        arguments, inherited = self._arguments(wanted, owner, stack)
        argument_fd = _memory_file(b"\0".join(os.fsencode(word) for word in arguments), stack)
        init = init_arguments(wanted.steps, processes=wanted.processes)
        inside = [str(self._tools["setsid"]), "--fork", "--wait", "--ctty", *init]
        bwrap = [str(self._tools["bwrap"]), "--args", str(argument_fd), "--", *inside]
        return subprocess.Popen(  # noqa: S603 - what it is made of stands above
            self._before(wanted, owner, bwrap),
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env={"PATH": root.PATH},
            cwd="/",
            pass_fds=(argument_fd, *inherited),
            start_new_session=True,
        )

    def _before(self, wanted: Wanted, owner: Owner, bwrap: list[str]) -> list[str]:
        """Return what leads to bubblewrap: the gate, and for root a user and its folders."""
        if not owner.own:
            return ["/bin/sh", "-c", f'{_GATE}exec "$@"', "gate", *bwrap]
        uid = str(owner.uid)
        as_owner = ["--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all"]
        work = "" if wanted.work is None else str(wanted.work)
        return [
            *(str(self._tools["unshare"]), "--mount", "--propagation", "private"),
            *("/bin/sh", "-c", f'{_GATE}{_MOUNTS}exec "$@"', "gate"),
            *(str(wanted.doors), work, str(MOUNT_POINTS.doors), str(MOUNT_POINTS.work)),
            *(str(self._tools["setpriv"]), *as_owner, "--", *bwrap),
        ]

    def _arguments(
        self, wanted: Wanted, owner: Owner, stack: ExitStack
    ) -> tuple[list[str], list[int]]:
        """Return bubblewrap's options, and the descriptors that they speak of."""
        files, inherited = [], []
        for path, text in root.written_files(network=wanted.network).items():
            inherited.append(_memory_file(text.encode(), stack))
            files += ["--perms", "0444", "--file", str(inherited[-1]), path]
        inherited.append(_memory_file(seccomp.program(internet=True), stack))
        doors, work = wanted.doors, wanted.work
        if owner.own:
            doors, work = MOUNT_POINTS.doors, work and MOUNT_POINTS.work
        return [
            *_namespaces(network=wanted.network),
            *("--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/etc/ssl"),
            *("--perms", "0755", "--dir", "/home"),
            *self._shown[wanted.network],
            *files,
            *_writable(wanted.disk_bytes),
            *("--ro-bind", str(doors), DOORS),
            *(() if work is None else ("--bind", str(work), WORK)),
            *("--remount-ro", "/", "--chdir", WORK if work else HOME, "--clearenv"),
            *_environment(wanted),
            *("--seccomp", str(inherited[-1])),
        ], inherited


def _namespaces(*, network: bool) -> list[str]:
    user = str(root.USER_ID)
    return [
        *("--unshare-user", "--uid", user, "--gid", user, "--disable-userns"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if network else ("--unshare-net",)),
        *("--hostname", root.HOSTNAME, "--die-with-parent", "--cap-drop", "ALL"),
    ]


def _writable(disk_bytes: int) -> list[str]:
    part = str(max(4096, disk_bytes // TEMPORARY_PART))
    return [
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", part, "--tmpfs", root.SHARED_MEMORY, "--remount-ro", "/dev"),
        *("--perms", "0700", "--size", str(max(4096, disk_bytes)), "--tmpfs", HOME),
        *("--perms", "1777", "--size", part, "--tmpfs", root.TEMPORARY),
        *("--dir", "/run", "--dir", "/var", "--symlink", root.TEMPORARY, f"/var{root.TEMPORARY}"),
    ]


def _environment(wanted: Wanted) -> list[str]:
    given = root.DEFAULTS | dict(wanted.environment)
    return [word for name, value in given.items() for word in ("--setenv", name, value)]


def _memory_file(content: bytes, stack: ExitStack) -> int:
    """Put bytes where a child can read them and `ps` cannot."""
    fd = os.memfd_create("gatekeeper")
    stack.callback(os.close, fd)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
