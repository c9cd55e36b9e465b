"""What a decision worker loads: a process for each core, so each library is paid for many times."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("fastapi", "starlette", "psycopg", "typer", "redis", "grpc", "google.protobuf")


MODULES = (
    "gatekeeper.platform.oidc.verifier",
    "gatekeeper.platform.outbound.client",
    "gatekeeper.forwardauth.adapters.backends",
    "gatekeeper.forwardauth.adapters.tokens",
    "gatekeeper.forwardauth.adapters.sessions",
    "gatekeeper.bootstrap.forwardauth.serving",
)


def test_what_a_worker_is_made_of_loads_no_library_it_does_not_use() -> None:
    program = f"import sys, {', '.join(MODULES)}; print(*(m for m in {HEAVY} if m in sys.modules))"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == []


WORKER = """
import sys
from pathlib import Path
from gatekeeper.bootstrap.forwardauth.configuration import first_generation
from gatekeeper.bootstrap.forwardauth.serving import load
from gatekeeper.bootstrap.forwardauth.outbound import Outbound

path = Path(sys.argv[1])
loaded = load(path, environ={})
Outbound(loaded.configuration.server).prepare(loaded)
assert first_generation(path, loaded).unready() == ()
print(*(m for m in sys.argv[2:] if m in sys.modules))
"""
LATER = ("aiohttp", "cel_expr_python.ext.ext_math")
"""What only some configurations need."""
RULES = [
    ({}, ()),
    ({"conditions": {"whenAll": ["request.method == 'GET'"]}}, ()),
    ({"conditions": {"whenAll": ["math.greatest(1, 2) == 2"]}}, (LATER[1],)),
    ({"conditions": {"whenAll": ["lookup(request.headers, 'a') == null"]}}, (LATER[1],)),
    ({"backendApi": {"url": "http://127.0.0.1:9/"}}, (LATER[0],)),
]


@pytest.mark.parametrize(("rule", "needed"), RULES)
def test_a_worker_loads_what_its_rules_need_before_it_decides(
    tmp_path: Path, rule: dict[str, Any], needed: tuple[str, ...]
) -> None:
    endpoint = {"authentication": {"allow": {"none": True}}, "rules": [{"name": "r"}]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"endpoints": {"app": endpoint}, "rules": {"r": rule}}))

    said = subprocess.run(
        [sys.executable, "-c", WORKER, str(path), *LATER],
        capture_output=True,
        text=True,
        check=True,
    )

    assert tuple(said.stdout.split()) == needed
