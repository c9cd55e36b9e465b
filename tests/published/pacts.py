"""What each side needs of the other, as Pact writes it down: tests/pacts, made by `make docs`.

Jobs and results travel in signed envelopes with random ids, which no example can match; what
is pinned is what stands inside them. Jobs are the agent's to read, results the control
plane's, the API `gk`'s. Matching is by type and shape where a value is the other side's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pact import Pact, match

from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret
from published.reference import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACTS: Final = ROOT / "tests" / "pacts"

VERIFIER: Final = scram.make_verifier(Secret("a password"), b"a" * scram.SALT_BYTES, 64)
SESSION: Final = "ses_" + "a" * 20
USERNAME: Final = "gk_" + "a" * 20
CORRELATION: Final = "cor_pact"
TARGET: Final = "pg"
NONCE: Final = "0" * 32
PROBLEM: Final = "application/problem+json"

SESSION_ID: Final = r"^ses_[a-z2-7]{20}$"
TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$"


def write(folder: Path) -> None:
    """Write every pact there is."""
    folder.mkdir(exist_ok=True)
    for pact in (api(), jobs(), results()):
        pact.write_file(folder, overwrite=True)


def session_id(letter: str) -> str:
    """Each interaction has a session of its own, so that their order does not matter."""
    return "ses_" + letter * 20


def api() -> Pact:
    """What `gk` needs of the control plane's API."""
    pact = Pact("gk", "control-plane")
    (
        pact.upon_receiving("a request for a session")
        .given("dana may read pg")
        .with_request("POST", "/sessions")
        .with_query_parameters({"wait": "10"})
        .with_header("Idempotency-Key", "pact")
        .with_body(
            {
                "target": TARGET, "role": "app_read", "ttl": "5m", "reason": "why",
                "credential": {"kind": "scram-sha-256", "verifier": VERIFIER},
            },
            "application/json",
        )
        .will_respond_with(201)
        .with_body(_ready(), "application/json")
    )  # fmt: skip
    _given_session(pact, "a request to see a session", letter="b", method="GET").with_body(
        _ready("b"), "application/json"
    )
    (
        pact.upon_receiving("a request to list sessions")
        .given("a ready session", id=session_id("c"))
        .with_request("GET", "/sessions")
        .with_query_parameters({"limit": "50", "mine": "true", "status": "ready"})
        .will_respond_with(200)
        .with_body({"items": match.each_like(_ready("c"), min=1)}, "application/json")
    )
    _given_session(
        pact, "a request to extend a session", letter="d", path="/extend", body={"ttl": "30m"}
    ).with_body(_ready("d"), "application/json")
    revoked = _given_session(pact, "a request to revoke a session", letter="e", path="/revoke")
    revoked.with_query_parameters({"wait": "10"}).with_body(
        {**_ready("e"), "status": "cleaned", "cleanedAt": _time()}, "application/json"
    )
    (
        pact.upon_receiving("a request to see a session that is not there")
        .with_request("GET", f"/sessions/{session_id('z')}")
        .will_respond_with(404)
        .with_body(
            {
                "type": "urn:gatekeeper:problem:NOT_FOUND", "title": match.like("Not found"),
                "status": 404, "code": "NOT_FOUND", "detail": match.like("there is none"),
                "correlationId": match.like(CORRELATION), "retryable": False,
            },
            PROBLEM,
        )
    )  # fmt: skip
    return pact


def jobs() -> Pact:
    """What an agent needs of the jobs it is given, each in a batch of one."""
    pact = Pact("agent", "control-plane")
    for name, job in job_examples():
        pact.upon_receiving(name, "Async").with_body(_batch(job), "application/json")
    return pact


def job_examples() -> Iterator[tuple[str, dict[str, Any]]]:
    login = {"sessionId": match.regex(SESSION, regex=SESSION_ID), "username": match.like(USERNAME)}
    create = {
        **_job("create_session", f"create:{SESSION}"), **login,
        "role": "app_read", "ttlSeconds": match.integer(300),
    }  # fmt: skip
    yield (
        "a job to make a login from a verifier",
        {**create, "verifier": match.like(VERIFIER), "sealTo": None},
    )
    yield (
        "a job to make a login and its password",
        {**create, "verifier": None, "sealTo": match.like(SEAL_TO)},
    )
    yield (
        "a job to extend a login",
        {
            **_job("extend_session", f"extend:{SESSION}:{NONCE}"), **login,
            "ttlSeconds": match.integer(600),
        },
    )  # fmt: skip
    yield "a job to end a login", {**_job("revoke_session", f"revoke:{SESSION}"), **login}
    yield "a job to report logins", _job("reconcile", f"reconcile:{NONCE}")
    yield "a job to check a target", _job("doctor", f"doctor:{NONCE}")


def results() -> Pact:
    """What a control plane needs of an agent's results."""
    pact = Pact("control-plane", "agent")
    for name, result in result_examples():
        pact.upon_receiving(name, "Async").with_body(result, "application/json")
    return pact


def result_examples() -> Iterator[tuple[str, dict[str, Any]]]:
    times = {"expiresAt": _time(), "targetNow": _time()}
    yield (
        "a login was made",
        {
            **_result("create_session", f"create:{SESSION}"), **times,
            "status": "ready", "sealedPassword": None,
        },
    )  # fmt: skip
    yield (
        "a login could not be made",
        {
            **_result("create_session", f"create:{SESSION}"),
            "status": "failed",
            "error": {
                "code": match.like("TARGET_UNREACHABLE"),
                "message": match.like("the target does not answer"),
                "retryable": match.boolean(True),  # an example
            },
        },
    )
    yield (
        "a login was extended",
        {**_result("extend_session", f"extend:{SESSION}:{NONCE}"), **times, "status": "extended"},
    )
    yield (
        "a login is gone",
        {
            **_result("revoke_session", f"revoke:{SESSION}"),
            "status": "gone", "existed": match.boolean(True),  # an example
            "backendsEnded": match.integer(2), "accessCutAt": _time(), "verifiedAt": _time(),
            "owned": [], "left": [],
        },
    )  # fmt: skip
    yield (
        "logins were reported",
        {
            **_result("reconcile", f"reconcile:{NONCE}"),
            "status": "completed",
            "users": match.each_like(
                {
                    "username": match.like(USERNAME), "canLogin": match.boolean(True),  # an example
                    "expiresAt": _time(), "backends": match.integer(0),
                    "packs": match.each_like("app_read"), "drift": [],
                },
                min=1,
            ),
        },
    )  # fmt: skip
    yield (
        "a target was checked",
        {
            **_result("doctor", f"doctor:{NONCE}"),
            "status": "completed",
            "checks": match.each_like(
                {
                    "name": match.like("schema"),
                    "status": match.regex("ok", regex="^(ok|warning|failed)$"),
                    "detail": match.like("is there"),
                },
                min=1,
            ),
        },
    )


SEAL_TO: Final = '{"crv":"X25519","kty":"OKP","x":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE"}'


def _batch(job: dict[str, Any]) -> Any:  # Pact's type leaves lists out
    return [job]


def _job(kind: str, job: str) -> dict[str, Any]:
    return {
        "type": kind, "id": match.like(job), "correlationId": match.like(CORRELATION),
        "target": match.like(TARGET),
    }  # fmt: skip


def _result(kind: str, job: str) -> dict[str, Any]:
    return {"type": kind, "jobId": match.like(job), "correlationId": match.like(CORRELATION)}


def _given_session(
    pact: Pact,
    what: str,
    *,
    letter: str,
    method: str = "POST",
    path: str = "",
    body: dict[str, Any] | None = None,
) -> Any:  # Pact's own
    session = session_id(letter)
    asked = pact.upon_receiving(what).given("a ready session", id=session)
    asked.with_request(method, f"/sessions/{session}{path}")
    if body is not None:
        asked.with_body(body, "application/json")
    return asked.will_respond_with(200)


def _ready(letter: str = "a") -> dict[str, Any]:
    return {
        "sessionId": match.regex(session_id(letter), regex=SESSION_ID), "status": "ready",
        "target": TARGET, "role": "app_read", "requester": match.like("dana@example.com"),
        "reason": match.like("why"), "createdAt": _time(), "ttlSeconds": match.integer(300),
        "username": match.regex(USERNAME, regex="^gk_[a-z2-7]{20}$"), "expiresAt": _time(),
        "connection": {
            "host": match.like("127.0.0.1"), "port": match.integer(5432),
            "database": match.like("shop"), "sslmode": match.like("disable"),
        },
    }  # fmt: skip


def _time() -> Any:  # Pact's own
    return match.regex("2026-01-02T03:04:05Z", regex=TIME)
