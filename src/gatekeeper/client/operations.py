"""Every operation of the API: how its request is made, and how its answer is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel

from gatekeeper.client.api import Operation
from gatekeeper.wire import audit, identity, sessions, terminals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import httpx

    from gatekeeper.client.api import Query
    from gatekeeper.kernel.secret import Secret

M = TypeVar("M", bound=BaseModel)


def create_session(
    body: sessions.CreateSession, *, idempotency_key: str, wait: int = 0
) -> Operation[sessions.SessionView]:
    return Operation(
        name="create_session",
        method="POST",
        path="/sessions",
        query={"wait": wait},
        body=_json(body),
        headers={"Idempotency-Key": idempotency_key},
        read=_as(sessions.SessionView),
        repeatable=True,
    )


def get_session(session: str) -> Operation[sessions.SessionView]:
    return _get("get_session", f"/sessions/{_segment(session)}", sessions.SessionView)


def list_sessions(
    *,
    statuses: Collection[str] = (),
    target: str | None = None,
    role: str | None = None,
    mine: bool = False,
    limit: int = sessions.DEFAULT_PAGE_ITEMS,
    cursor: str | None = None,
) -> Operation[sessions.SessionPage]:
    query: Query = {"limit": limit, "mine": str(mine).lower(), "status": sorted(statuses)}
    given = {"target": target, "role": role, "cursor": cursor}
    query |= {key: value for key, value in given.items() if value is not None}
    return _get("list_sessions", "/sessions", sessions.SessionPage, query)


def revoke_session(session: str, *, wait: int = 0) -> Operation[sessions.SessionView]:
    return Operation(
        name="revoke_session",
        method="POST",
        path=f"/sessions/{_segment(session)}/revoke",
        query={"wait": wait},
        read=_as(sessions.SessionView),
        repeatable=True,
    )


def extend_session(session: str, body: sessions.ExtendSession) -> Operation[sessions.SessionView]:
    return _post(
        "extend_session", f"/sessions/{_segment(session)}/extend", body, sessions.SessionView
    )


def session_events(last_event_id: str | None = None) -> Operation[str]:
    """To be streamed: lines of server-sent events."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return Operation(
        name="session_events", method="GET", path="/sessions/events", headers=headers, read=_text
    )


def list_targets() -> Operation[sessions.TargetList]:
    return _get("list_targets", "/targets", sessions.TargetList)


def list_roles() -> Operation[sessions.RoleList]:
    return _get("list_roles", "/roles", sessions.RoleList)


def explain_policy(body: sessions.ExplainRequest) -> Operation[sessions.Explanation]:
    return _post("explain_policy", "/policy/explain", body, sessions.Explanation)


def target_doctor(target: str) -> Operation[sessions.DoctorReport]:
    return Operation(
        name="target_doctor",
        method="POST",
        path=f"/targets/{_segment(target)}/doctor",
        read=_as(sessions.DoctorReport),
        repeatable=True,
    )


def reconcile(body: sessions.ReconcileRequest) -> Operation[sessions.ReconcileReport]:
    return _post("reconcile", "/reconcile", body, sessions.ReconcileReport)


def create_terminal(
    body: terminals.CreateTerminal, *, idempotency_key: str, wait: int = 0
) -> Operation[terminals.TerminalView]:
    return Operation(
        name="create_terminal",
        method="POST",
        path="/terminals",
        query={"wait": wait},
        body=_json(body),
        headers={"Idempotency-Key": idempotency_key},
        read=_as(terminals.TerminalView),
        repeatable=True,
    )


def list_terminals(
    *,
    statuses: Collection[str] = (),
    mine: bool = False,
    limit: int = sessions.DEFAULT_PAGE_ITEMS,
    cursor: str | None = None,
) -> Operation[terminals.TerminalPage]:
    query: Query = {"limit": limit, "mine": str(mine).lower(), "status": sorted(statuses)}
    given = {"cursor": cursor}
    query |= {key: value for key, value in given.items() if value is not None}
    return _get("list_terminals", "/terminals", terminals.TerminalPage, query)


def list_profiles() -> Operation[terminals.ProfileList]:
    return _get("list_profiles", "/profiles", terminals.ProfileList)


def get_terminal(terminal: str) -> Operation[terminals.TerminalView]:
    return _get("get_terminal", _terminal(terminal), terminals.TerminalView)


def attach_terminal(
    terminal: str, body: terminals.AttachRequest
) -> Operation[terminals.TicketView]:
    return _post("attach_terminal", f"{_terminal(terminal)}/attach", body, terminals.TicketView)


def stop_terminal(terminal: str, *, wait: int = 0) -> Operation[terminals.TerminalView]:
    return Operation(
        name="stop_terminal",
        method="DELETE",
        path=_terminal(terminal),
        query={"wait": wait},
        read=_as(terminals.TerminalView),
        repeatable=True,
    )


def terminal_events(last_event_id: str | None = None) -> Operation[str]:
    """To be streamed: lines of server-sent events."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return Operation(
        name="terminal_events", method="GET", path="/terminals/events", headers=headers, read=_text
    )


def terminal_recording(terminal: str) -> Operation[str]:
    """To be downloaded: the bytes of an asciicast v3 file."""
    path = f"{_terminal(terminal)}/recording"
    return Operation(name="terminal_recording", method="GET", path=path, read=_text)


def send_input(terminal: str, body: terminals.SendInput) -> Operation[None]:
    return Operation(
        name="send_input",
        method="POST",
        path=f"{_terminal(terminal)}/input",
        body=_json(body),
        read=lambda _response: None,
    )


def terminal_screen(terminal: str) -> Operation[terminals.ScreenView]:
    return _get("terminal_screen", f"{_terminal(terminal)}/screen", terminals.ScreenView)


def wait_for_text(terminal: str, body: terminals.WaitForText) -> Operation[terminals.Waited]:
    return _post("wait_for_text", f"{_terminal(terminal)}/wait", body, terminals.Waited)


def share_terminal(terminal: str, body: terminals.ShareTerminal) -> Operation[terminals.ShareView]:
    return _post("share_terminal", f"{_terminal(terminal)}/share", body, terminals.ShareView)


def open_share(body: terminals.OpenShare) -> Operation[terminals.SharedTerminal]:
    return _post("open_share", "/shares/open", body, terminals.SharedTerminal)


def audit_events(
    *, after: int = 0, limit: int = 100, session: str | None = None
) -> Operation[audit.EventPage]:
    query: Query = {"after": after, "limit": limit}
    if session is not None:
        query["session"] = session
    return _get("audit_events", "/audit/events", audit.EventPage, query)


def audit_checkpoints(*, limit: int = 1) -> Operation[audit.CheckpointPage]:
    return _get("audit_checkpoints", "/audit/checkpoints", audit.CheckpointPage, {"limit": limit})


def audit_proof(seq: int) -> Operation[audit.Proof]:
    return _get("audit_proof", f"/audit/proof/{seq}", audit.Proof)


def audit_export() -> Operation[str]:
    """To be streamed: the lines of an export."""
    return Operation(name="audit_export", method="GET", path="/audit/export", read=_text)


def exchange_token(subject_token: Secret) -> Operation[identity.TokenAnswer]:
    """Exchange a CI job's token (RFC 8693)."""
    form = {
        "grant_type": identity.TOKEN_EXCHANGE,
        "subject_token": subject_token.reveal(),
        "subject_token_type": identity.JWT_TYPE,
    }
    return Operation(
        name="exchange_token",
        method="POST",
        path="/auth/token",
        body=urlencode(form).encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        read=_as(identity.TokenAnswer),
        repeatable=True,
    )


def token_keys() -> Operation[identity.JsonWebKeys]:
    return _get("token_keys", "/.well-known/jwks.json", identity.JsonWebKeys)


def auth_config() -> Operation[identity.AuthConfig]:
    return _get("auth_config", "/auth/config", identity.AuthConfig)


def who_am_i() -> Operation[sessions.WhoAmI]:
    return _get("who_am_i", "/whoami", sessions.WhoAmI)


def health() -> Operation[sessions.Health]:
    return _get("health", "/healthz", sessions.Health)


def readiness() -> Operation[sessions.Health]:
    return _get("readiness", "/readyz", sessions.Health)


def metrics() -> Operation[str]:
    return Operation(name="metrics", method="GET", path="/metrics", read=_text, repeatable=True)


def _get(name: str, path: str, model: type[M], query: Query | None = None) -> Operation[M]:
    return Operation(
        name=name, method="GET", path=path, query=query or {}, read=_as(model), repeatable=True
    )


def _post(name: str, path: str, body: BaseModel, model: type[M]) -> Operation[M]:
    return Operation(name=name, method="POST", path=path, body=_json(body), read=_as(model))


def _terminal(terminal: str) -> str:
    return f"/terminals/{_segment(terminal)}"


def _segment(text: str) -> str:
    """Quote one part of a path, so that no text of a caller can become another path."""
    return quote(text, safe="").replace(".", "%2E")


def _json(body: BaseModel) -> bytes:
    return body.model_dump_json(by_alias=True, exclude_none=True).encode()


def _as(model: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: model.model_validate_json(response.content)


def _text(response: httpx.Response) -> str:
    return response.text
