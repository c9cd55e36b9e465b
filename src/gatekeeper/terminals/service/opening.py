"""What becomes of a request for a terminal: held against its profile, drafted, and added."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gatekeeper.kernel.audit import Actor, AuditKind
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals import errors
from gatekeeper.terminals.evidence import terminal_event
from gatekeeper.terminals.model import Stage, Terminal

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from gatekeeper.kernel import policy
    from gatekeeper.kernel.audit import Json
    from gatekeeper.kernel.errors import Refusal
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.model import Bundle, NewTerminal, Profile
    from gatekeeper.terminals.ports import TerminalUnit


def check(wanted: NewTerminal, profile: Profile) -> Refusal | None:
    """Hold what is asked for against the profile."""
    own = wanted.command or (wanted.bundle is not None and wanted.bundle.install)
    if own and not profile.any_command:
        return errors.own_command_only(profile)
    if wanted.bundle is not None and not profile.bundles:
        return errors.no_bundles(profile)
    if wanted.ttl is not None and wanted.ttl > profile.max_ttl:
        return errors.ttl_out_of_bounds(profile)
    return None


def draft(
    wanted: NewTerminal,
    *,
    terminal: TerminalId,
    instance: str,
    runner: str,
    principal: Principal,
    profile: Profile,
    decision: policy.Allowed,
    ttl: timedelta,
    now: datetime,
) -> Terminal:
    """Make a pending terminal of a request that was allowed."""
    return Terminal(
        id=terminal,
        status=SessionStatus.PENDING,
        requester=principal.key,
        requester_email=principal.email,
        principal=principal,
        runner=runner,
        instance=instance,
        profile=profile.name,
        command=wanted.command or profile.command,
        shell=wanted.shell,
        prompt=wanted.prompt,
        bundle=wanted.bundle,
        database=wanted.database,
        database_session=None,
        size=wanted.size,
        reason=wanted.reason,
        grant=decision.grant,
        ttl=ttl,
        max_ttl=decision.max_ttl,
        correlation_id=wanted.correlation_id,
        created_at=now,
        ready_at=None,
        expires_at=None,
        ended_at=None,
        cleaned_at=None,
        stages={Stage.QUEUED: now},
        ended=None,
        error=None,
    )


async def open_terminal(unit: TerminalUnit, drafted: Terminal, principal: Principal) -> Terminal:
    """Add it, with the job that starts it and its first event."""
    terminal = await unit.add(drafted)
    await unit.schedule_launch(terminal)
    await unit.record(
        terminal_event(
            AuditKind.TERMINAL_CREATED,
            terminal,
            at=terminal.created_at,
            actor=Actor.of(principal),
            grant=terminal.grant,
            ttlSeconds=int(terminal.ttl.total_seconds()),
            reason=terminal.reason,
            command=list(terminal.command),
            shell=terminal.shell,
            promptChars=len(terminal.prompt or ""),
            bundle=_told_bundle(terminal.bundle),
            database=None
            if terminal.database is None
            else {"target": terminal.database.target, "role": terminal.database.role},
        )
    )
    return terminal


def _told_bundle(bundle: Bundle | None) -> Json:
    """Say where a bundle is from; a query may be a signature, and evidence is kept for ever."""
    if bundle is None:
        return None
    address = urlsplit(bundle.url)
    return {"from": f"{address.hostname}{address.path}", "sha256": bundle.sha256}
