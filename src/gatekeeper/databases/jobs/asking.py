"""How the sessions of one target are brought before its agent, and each gets an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from gatekeeper.databases.model import Session, Target
    from gatekeeper.kernel.ids import SessionId

T = TypeVar("T")


async def answers_of(
    ask: Callable[[Target, Sequence[Session]], Awaitable[Sequence[T | Failure]]],
    sessions: Sequence[Session],
    targets: Mapping[str, Target],
    *,
    target_may_return: bool,
) -> Mapping[SessionId, T | Failure]:
    """Ask about sessions of one target; what goes wrong with all is the answer of each.

    `target_may_return` says whether it is worth waiting for a target that is not configured.
    """
    if not sessions:
        return {}
    name = sessions[0].target
    answers: Sequence[T | Failure]
    if (target := targets.get(name)) is None:
        answers = [_target_removed(name, retryable=target_may_return)] * len(sessions)
    else:
        try:
            answers = await ask(target, sessions)
        except GatekeeperError as error:
            answers = [Failure.of(error)] * len(sessions)
    return {session.id: answer for session, answer in zip(sessions, answers, strict=True)}


def _target_removed(name: str, *, retryable: bool) -> Failure:
    return Failure(
        code=ErrorCode.TARGET_MISCONFIGURED,
        message=f"target {name!r} is no longer configured; add it again to prove its logins gone",
        retryable=retryable,
    )
