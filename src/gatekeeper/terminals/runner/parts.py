"""What a terminal is made of, beside what this folder brings: given to it by the wiring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.kernel.secret import Secret
    from gatekeeper.terminals.model import Bundle, Stage
    from gatekeeper.terminals.ports import BoundLogin


class Door(Protocol):
    """Leads out of a terminal's sandbox to one database. The password is made here."""

    def make_login(self) -> str:
        """Make the password; return its SCRAM verifier."""
        ...

    async def open(self, login: BoundLogin) -> None: ...

    def secrets(self) -> tuple[Secret, ...]: ...

    def environment(self) -> dict[str, str]: ...

    async def close(self) -> None: ...


class Fetch(Protocol):
    """Fetches a bundle into a folder. Raises `BundleRefusedError`."""

    async def __call__(
        self,
        bundle: Bundle,
        *,
        into: Path,
        progress: Callable[[str], None],
        reached: Callable[[Stage], None],
    ) -> None: ...
