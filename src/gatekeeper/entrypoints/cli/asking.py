"""Asking for a login: the options that say which, the request, and how the answer is used."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.caller import Exit, fail, waiting
from gatekeeper.entrypoints.cli.completion import complete_role, complete_target
from gatekeeper.kernel import scram
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.wire.sessions import CreateSession, ScramCredential, dsn

if TYPE_CHECKING:
    from gatekeeper.client.api import Client
    from gatekeeper.entrypoints.cli.caller import Caller
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.wire.sessions import SessionView

WAIT_SECONDS: Final = 20

Target = Annotated[
    str | None,
    typer.Option("--target", "-t", help="Where to.", autocompletion=complete_target),
]
Role = Annotated[
    str, typer.Option("--role", "-r", help="Which role pack.", autocompletion=complete_role)
]
Ttl = Annotated[
    str | None, typer.Option(help="For how long: 90s, 15m, 4h. Without it the policy chooses.")
]
Reason = Annotated[str, typer.Option(help="What for; it is kept in the evidence.")]


def ask(
    caller: Caller,
    client: Client,
    target: str | None,
    role: str,
    ttl: str | None,
    reason: str,
    *,
    generated: bool,
) -> tuple[SessionView, Secret | None]:
    """Create a session and wait until it is ready; return it with the password made here."""
    wanted = target or caller.settings.default_target
    if wanted is None:
        fail(
            "no --target given, and no default_target configured\n  try: gk target list shows them",
            Exit.USAGE,
        )
    if caller.settings.require_reason and not reason:
        fail("this profile asks for a --reason", Exit.USAGE)
    password = None if generated else scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
    body = CreateSession(
        target=wanted,
        role=role,
        ttl=ttl or caller.settings.default_ttl,
        reason=reason,
        credential="generated" if password is None else _credential(password),
    )
    operation = operations.create_session(
        body, idempotency_key=secrets.token_urlsafe(24), wait=WAIT_SECONDS
    )
    with waiting(f"waiting for {wanted} to make the login"):
        view = client.call(operation)
    if view.status is SessionStatus.PENDING:
        fail(f"session {view.session_id} is not ready after {WAIT_SECONDS} s", Exit.TIMED_OUT)
    if view.status is not SessionStatus.READY:
        why = "" if view.error is None else f": {view.error.message} ({view.error.code})"
        fail(f"session {view.session_id} is {view.status.value}{why}", Exit.ERROR)
    return view, password


def dsn_of(view: SessionView, password: Secret | None) -> str:
    """Build the DSN here, from the password made here; or take the generated one."""
    if password is None:
        return view.dsn or ""
    place = view.connection
    if place is None:
        fail("the server does not say where the target is", Exit.ERROR)
    return dsn(
        place,
        session=view.session_id,
        username=view.username or "",
        password=password.reveal(),
    )


def _credential(password: Secret) -> ScramCredential:
    verifier = scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES))
    return ScramCredential(kind="scram-sha-256", verifier=verifier)


def environment_of(view: SessionView) -> dict[str, str]:
    """Return the libpq variables of a session, without its password."""
    place = view.connection
    if place is None:
        return {}
    return {
        "PGHOST": place.host,
        "PGPORT": str(place.port),
        "PGDATABASE": place.database,
        "PGUSER": view.username or "",
        "PGSSLMODE": place.sslmode,
        "PGAPPNAME": f"gk/{view.session_id}",
    }
