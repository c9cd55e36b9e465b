"""The policy that decides who may have a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gatekeeper.kernel.policy import Policy


class PolicySource(Protocol):
    """The policy in force. A broken file never takes the last good one away."""

    def current(self) -> Policy: ...
