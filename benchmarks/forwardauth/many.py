"""Many rules: what they cost who uses five of them, and how long they take to load.

And a reload under load: how much longer the slowest requests take while a configuration is read
and compiled.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import yaml

from benchmarks.forwardauth import servers
from benchmarks.forwardauth.ladder import ROUNDS, WARM_UP_SECONDS, measure
from benchmarks.forwardauth.load import load, parsed
from benchmarks.forwardauth.processes import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.forwardauth.ladder import Step

RULES = 1_000
RELOAD_SECONDS = 9
LOOK_SECONDS = 0.2
"""From one look whether a change is in force to the next."""

LOAD = """
import os, sys, time
from pathlib import Path
from gatekeeper.bootstrap.forwardauth.configuration import compile_loaded
from gatekeeper.forwardauth.adapters.files import load
began = time.process_time()
compiled = compile_loaded(load(Path(sys.argv[1]), environ={}))
print(time.process_time() - began)
assert not compiled.faults, compiled.faults
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    rules: int
    steady_p50: float
    steady_p99: float
    p50: float
    p99: float
    taken: int
    """Configurations that were taken meanwhile."""
    failed: int


def used(folder: Path, seconds: int) -> Iterator[Step]:
    """Measure an endpoint that uses five rules, where there are five, and where there are many."""
    for rules in (5, RULES):
        port = free_port()
        configuration = servers.many(servers.configuration(port, free_port()), rules)
        command = servers.passctrl(folder / "config.json", configuration)
        started = running(command, port, log=folder / "log")
        with started as pid, load(port, mount=servers.MOUNT) as asked:
            yield measure(f"5 rules of {rules:,}", asked, pid, seconds=seconds)


def load_seconds(folder: Path) -> float:
    """Return the CPU seconds to read and compile many rules, from YAML."""
    path = folder / "many.yaml"
    configuration = servers.many(servers.configuration(free_port(), free_port()), RULES)
    path.write_text(_yaml(configuration), encoding="utf-8")
    command = [sys.executable, "-c", LOAD, str(path)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    return median(float(one.stdout) for one in said)


def _yaml(value: object) -> str:
    return yaml.safe_dump(json.loads(json.dumps(value)))


def reloaded(folder: Path) -> Iterator[Reload]:
    """Change the file again and again under load."""
    for rules in (5, 100, RULES):
        port, operations = free_port(), free_port()
        configuration = servers.many(servers.configuration(port, operations), rules)
        path = folder / "config.json"
        started = running(servers.passctrl(path, configuration), port, log=folder / "log")
        with started, load(port, mount=servers.MOUNT) as asked:
            asked.run(WARM_UP_SECONDS)
            steady = [asked.run(RELOAD_SECONDS // ROUNDS) for _ in range(ROUNDS)]
            before = _taken(operations)
            process = asked.start(RELOAD_SECONDS)
            changes = 0
            while process.poll() is None:
                if _taken(operations) - before == changes:  # the last one is in force
                    changes += 1
                    configuration["rules"]["rule-4"]["description"] = f"change {changes}"
                    fresh = folder / "fresh"
                    fresh.write_text(json.dumps(configuration), encoding="utf-8")
                    fresh.rename(path)
                time.sleep(LOOK_SECONDS)
            said = parsed(process.communicate()[0])
            yield Reload(
                rules=rules,
                steady_p50=median(one.p50 for one in steady),
                steady_p99=median(one.p99 for one in steady),
                p50=said.p50,
                p99=said.p99,
                taken=_taken(operations) - before,
                failed=said.failed + sum(one.failed for one in steady),
            )


def _taken(operations: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{operations}/metrics") as answer:
        found = re.search(
            r'passctrl_reloads_total\{result="taken"\} ([\d.]+)', answer.read().decode()
        )
    return int(float(found[1])) if found else 0
