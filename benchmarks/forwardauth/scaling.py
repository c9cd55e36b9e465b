"""Workers share the port by SO_REUSEPORT. Here they share the cores with the load as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.forwardauth import servers
from benchmarks.forwardauth.ladder import measure
from benchmarks.forwardauth.load import load
from benchmarks.forwardauth.processes import BOTH_CORES, family, free_port, memory, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.forwardauth.ladder import Step
    from benchmarks.forwardauth.processes import Memory


def scaled(folder: Path, seconds: int) -> Iterator[tuple[int, Step, list[Memory]]]:
    """Measure one and two workers on all cores; yield the memory of each process too."""
    for workers in (1, 2):
        port = free_port()
        configuration = servers.configuration(port, free_port(), workers=workers)
        command = servers.passctrl(folder / "config.json", servers.judging(configuration, 5))
        started = running(command, port, core=BOTH_CORES, log=folder / "log")
        with started as pid, load(port, mount=servers.MOUNT) as asked:
            step = measure(f"{workers}", asked, pid, seconds=seconds)
            yield workers, step, [memory(each) for each in family(pid)]
