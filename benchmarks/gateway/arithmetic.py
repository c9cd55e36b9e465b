"""What many sockets need, from what one costs: writes docs/explanation/terminals-at-scale.md.

    python -m benchmarks.gateway.arithmetic --idle-kib K --process-mib M --setup-us U
        --gib-cpu-seconds S --terminals-a-machine T --events-a-second E

Every figure is one that was measured: the first four by `python -m benchmarks.gateway`, the fifth
by `python -m benchmarks.terminals`, the last by `python -m benchmarks.databases`. What is assumed
of people is said on the page, and stands here.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final, NamedTuple

from gatekeeper.bootstrap.terminals.gateway import MAX_CONNECTIONS
from gatekeeper.terminals.gateway.watching import POLL_SECONDS
from gatekeeper.terminals.protocol.asciicast import MAX_SEGMENT_SECONDS
from gatekeeper.terminals.runner.reports import EVERY_SECONDS
from gatekeeper.terminals.settings import GatewaySettings

SOCKETS: Final = (100_000, 1_000_000)
STAYS_SECONDS: Final = 1_800
"""Assumed: a client attaches again after half an hour; a laptop sleeps, a train has a tunnel."""
BYTES_A_SECOND: Final = 500
"""Assumed: of output for each socket, people who read and programs that build taken together."""
WRITES: Final = 0.2
"""Assumed: this part of the terminals writes in a given minute; one socket each."""
MAX_SOCKETS: Final = int(GatewaySettings.model_fields["max_sockets"].default)


class Measured(NamedTuple):
    idle_kib: float
    """Of one client in a process of thousands."""
    process_mib: float
    """Of a gateway process without clients."""
    setup_us: float
    """CPU of a gateway for one set-up, with the ticket's check and the calls of the store."""
    gib_cpu_seconds: float
    """CPU of a gateway for one GiB to clients, on 40 flows."""
    terminals_a_machine: float
    """That live on one machine with output."""
    events_a_second: float
    """That the evidence's chain takes."""


class Needed(NamedTuple):
    processes: int
    memory_gib: float
    attaches: float
    cores: float
    database_calls: float
    connections: int
    events: float
    reports: float
    machines: int


def needed(sockets: int, one: Measured) -> Needed:
    processes = math.ceil(sockets / MAX_SOCKETS)
    attaches = sockets / STAYS_SECONDS
    machines = math.ceil(sockets / one.terminals_a_machine)
    per_attach = 3  # the ticket's transaction, the place, the claim
    events_per_attach = 2  # terminal.ticket_issued, terminal.attached
    return Needed(
        processes=processes,
        memory_gib=sockets * one.idle_kib / 1_048_576 + processes * one.process_mib / 1_024,
        attaches=attaches,
        cores=attaches * one.setup_us / 1e6
        + sockets * BYTES_A_SECOND / 2**30 * one.gib_cpu_seconds,
        database_calls=attaches * per_attach + processes / POLL_SECONDS,
        connections=processes * (MAX_CONNECTIONS + 1),
        events=attaches * events_per_attach + sockets * WRITES / MAX_SEGMENT_SECONDS,
        reports=machines / EVERY_SECONDS,
        machines=machines,
    )


def page(one: Measured) -> str:
    every = [needed(sockets, one) for sockets in SOCKETS]
    rows = "\n".join(
        f"| {words} | {' | '.join(form.format(getattr(each, name)) for each in every)} |"
        for words, name, form in ROWS
    )
    head = " | ".join(f"{sockets:,}" for sockets in SOCKETS)
    return TEMPLATE.read_text(encoding="utf-8").format(
        **one._asdict(), rows=rows, head=head, stays=STAYS_SECONDS // 60, bytes=BYTES_A_SECOND,
        writes=WRITES, max_sockets=MAX_SOCKETS, segment=MAX_SEGMENT_SECONDS,
        share=every[-1].events / one.events_a_second,
        wave=MAX_SOCKETS * one.setup_us / 1e6,
    )  # fmt: skip


TEMPLATE: Final = Path(__file__).with_suffix(".md")
ROWS: Final = (
    ("gateway processes", "processes", "{:,}"),
    ("their memory, GiB", "memory_gib", "{:,.1f}"),
    ("attaches a second", "attaches", "{:,.0f}"),
    ("cores for set-ups and bytes", "cores", "{:,.1f}"),
    ("calls of the store a second", "database_calls", "{:,.0f}"),
    ("gateways' connections to the store", "connections", "{:,}"),
    ("events of the evidence a second", "events", "{:,.0f}"),
    ("reports of runners a second", "reports", "{:,.0f}"),
    ("machines with runners", "machines", "{:,}"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in Measured._fields:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, required=True)
    print(page(Measured(**vars(parser.parse_args()))), end="")


if __name__ == "__main__":
    main()
