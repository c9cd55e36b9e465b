"""What a decision worker loads: a process for each core, so each library is paid for many times."""

import subprocess
import sys

import pytest

HEAVY = ("fastapi", "starlette", "psycopg", "typer", "redis", "grpc", "google.protobuf")


@pytest.mark.parametrize(
    "module",
    [
        "gatekeeper.platform.oidc.verifier",
        "gatekeeper.platform.outbound.client",
        "gatekeeper.forwardauth.adapters.backends",
        "gatekeeper.forwardauth.adapters.tokens",
        "gatekeeper.forwardauth.adapters.sessions",
        "gatekeeper.bootstrap.forwardauth.serving",
    ],
)
def test_a_module_loads_no_library_it_does_not_use(module: str) -> None:
    program = f"import sys, {module}; print(*(m for m in {HEAVY} if m in sys.modules))"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == []
