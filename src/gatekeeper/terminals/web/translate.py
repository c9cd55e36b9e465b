"""Between the wire's models and the plane's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.kernel import policy
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ttl import format_ttl, parse_ttl
from gatekeeper.platform.http.requests import fingerprint
from gatekeeper.terminals.model import Bundle, DatabaseWanted, NewTerminal, Size
from gatekeeper.wire import terminals as wire
from gatekeeper.wire.sessions import SessionError

if TYPE_CHECKING:
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.terminals.model import (
        NewShare,
        Profile,
        Share,
        Terminal,
        TerminalChange,
        Ticket,
    )


def new_terminal(
    body: wire.CreateTerminal, *, idempotency_key: str | None, correlation_id: str
) -> NewTerminal:
    """Read a request. Raises `InputError` for a duration that is none, or for two commands."""
    if body.command is not None and body.shell is not None:
        msg = "command, shell: expected one of the two"
        raise InputError(msg)
    command = body.command or (() if body.shell is None else (body.shell,))
    return NewTerminal(
        profile=body.profile,
        command=command,
        shell=body.shell is not None,
        prompt=body.prompt,
        bundle=None if body.bundle is None else _bundle(body.bundle),
        database=None
        if body.database is None
        else DatabaseWanted(target=body.database.target, role=body.database.role),
        ttl=None if body.ttl is None else parse_ttl(body.ttl),
        size=Size(columns=body.columns, rows=body.rows),
        reason=body.reason,
        idempotency_key=idempotency_key,
        body_sha256=fingerprint(body),
        correlation_id=correlation_id,
    )


def terminal_view(
    terminal: Terminal, reader: Principal, queue_place: int | None = None
) -> wire.TerminalView:
    """Show a terminal. Its last screen goes to whose it is; to look at that of somebody else
    is a question of its own, which is evidence.
    """
    ended = terminal.ended
    own = reader.key == terminal.requester
    return wire.TerminalView(
        terminal_id=terminal.id,
        status=terminal.status.value,
        profile=terminal.profile,
        command=terminal.command,
        requester=terminal.requester_email or terminal.requester,
        reason=terminal.reason,
        created_at=terminal.created_at,
        ttl_seconds=int(terminal.ttl.total_seconds()),
        stages=tuple(
            wire.StageView(stage=stage.value, at=at)
            for stage, at in sorted(terminal.stages.items(), key=lambda item: item[1])
        ),
        queue_place=queue_place,
        ready_at=terminal.ready_at,
        expires_at=terminal.expires_at,
        ended_at=terminal.ended_at,
        cleaned_at=terminal.cleaned_at,
        ending=None if ended is None else ended.ending.value,
        exit_code=None if ended is None else ended.exit_code,
        signal=None if ended is None else ended.signal,
        last_screen=ended.last_screen if own and ended is not None else None,
        sandbox=terminal.sandbox,
        bundle_sha256=None if terminal.bundle is None else terminal.bundle.sha256,
        database=_database(terminal),
        recording=_recording(terminal),
        error=_error(terminal),
        correlation_id=terminal.correlation_id,
    )


def ticket_view(ticket: Ticket) -> wire.TicketView:
    return wire.TicketView(
        url=ticket.url,
        ticket=ticket.token,
        mode=ticket.mode.value,
        expires_at=ticket.expires_at,
    )


def share_view(made: NewShare, public_url: str) -> wire.ShareView:
    """Show a new share. The secret stands behind `#`: no server and no log gets to see it."""
    return wire.ShareView(
        share_id=made.share.id,
        url=f"{public_url.rstrip('/')}/console/shared#{made.secret}",
        expires_at=made.share.expires_at,
    )


def opened_view(share: Share, ticket: Ticket) -> wire.SharedTerminal:
    return wire.SharedTerminal(
        terminal_id=share.terminal, expires_at=share.expires_at, ticket=ticket_view(ticket)
    )


def profile_view(profile: Profile, decision: policy.Decision) -> wire.ProfileView:
    allowed = isinstance(decision, policy.Allowed)
    return wire.ProfileView(
        profile=profile.name,
        command=profile.command,
        any_command=profile.any_command,
        bundles=profile.bundles,
        network=profile.network,
        allowed=allowed,
        max_ttl=format_ttl(min(decision.max_ttl, profile.max_ttl))
        if isinstance(decision, policy.Allowed)
        else None,
        reasons=() if isinstance(decision, policy.Allowed) else decision.explain(),
    )


def change_view(change: TerminalChange) -> wire.TerminalEventView:
    return wire.TerminalEventView(
        seq=change.cursor[1],
        terminal_id=change.terminal,
        status=change.status.value,
        profile=change.profile,
        at=change.at,
    )


def _bundle(body: wire.BundleRequest) -> Bundle:
    return Bundle(url=body.url, sha256=body.sha256, install=body.install)


def _database(terminal: Terminal) -> wire.DatabaseView | None:
    if terminal.database is None:
        return None
    return wire.DatabaseView(
        target=terminal.database.target,
        role=terminal.database.role,
        session_id=terminal.database_session,
    )


def _recording(terminal: Terminal) -> wire.RecordingView | None:
    if terminal.ended is None:
        return None
    return wire.RecordingView(
        bytes=terminal.ended.recording_bytes,
        head=terminal.ended.recording_head,
        deleted_at=terminal.recording_deleted_at,
    )


def _error(terminal: Terminal) -> SessionError | None:
    if terminal.error is None:
        return None
    return SessionError(
        code=terminal.error.code,
        message=terminal.error.message,
        retryable=terminal.error.retryable,
    )
