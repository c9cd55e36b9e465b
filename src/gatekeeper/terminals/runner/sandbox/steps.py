"""Argument lists, handed to a POSIX shell without ever becoming shell text.

`INIT` takes its steps as positional parameters: a count, that many arguments, the next count.
All but the last run one after the other; the last takes the shell's place, so that it is the
leader of the session and in the foreground of its terminal. Standard error is a pipe to the
runner when it starts; steps never see that pipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import InputError
from gatekeeper.terminals.runner.sandbox.interface import MAX_STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STARTED: Final = b"started"
STEP_DONE: Final = b"step done"
"""Lines on the status pipe."""
SIGNALLED: Final = (b"signalled", b"setsid: ")
"""How a line begins that says that a signal ended it: the keeper's word, and the name of
util-linux's setsid, which complains that its child "did not exit normally"."""

INIT: Final = r"""
exec 3>&2 2>&1
echo started >&3
ulimit -p "$1" 2>/dev/null || ulimit -u "$1" 2>/dev/null
shift
while n=$1; shift; [ "$#" -gt "$n" ]; do
  (
    left=$# kept=$n
    while [ "$left" -gt 0 ]; do
      if [ "$kept" -gt 0 ]; then set -- "$@" "$1"; kept=$((kept - 1)); fi
      shift
      left=$((left - 1))
    done
    exec "$@" 3>&-
  ) || exit
  echo 'step done' >&3
  shift "$n"
done
exec "$@" 3>&-
"""


def init_arguments(steps: Sequence[Sequence[str]], *, processes: int | None) -> list[str]:
    """Return what runs the steps: a shell, `INIT`, and every step's arguments as they are.

    `processes` None: their number is not limited for each user.
    """
    flat = [word for step in steps for word in (str(len(step)), *step)]
    return [
        "/bin/sh",
        "-c",
        INIT,
        "init",
        "unlimited" if processes is None else str(processes),
        *flat,
    ]


def check_steps(steps: Sequence[Sequence[str]]) -> None:
    """Refuse what cannot be run as it is given."""
    if not 1 <= len(steps) <= MAX_STEPS or not all(step and step[0] for step in steps):
        message = f"There must be 1 to {MAX_STEPS} steps, each with a program"
        raise InputError(message)
    if any("\0" in word for step in steps for word in step):
        message = "An argument must not hold a NUL"
        raise InputError(message)
    if any(step[0].startswith("-") for step in steps):
        message = "The name of a program must not begin with a dash"
        raise InputError(message)


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse what is no variable: a NUL would begin an option of bubblewrap's."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            message = "The environment holds a name or a value that none can have"
            raise InputError(message)
