"""What a decision needs from the world. Each has one fake for tests and one real adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import (
        BackendRequest,
        BackendResponse,
        Decided,
        LiveSession,
        Read,
        Rejected,
        Scope,
    )


class Expression(Protocol):
    """A compiled expression. Calling it raises `EvaluationError` when it has no value."""

    source: str
    reads: frozenset[Read]
    """Everything it can read of the scope; ("request.headers",) alone means all of them."""

    def __call__(self, scope: Scope) -> Any: ...  # noqa: ANN401  # text, number, list, mapping, ...


class Pattern(Protocol):
    """A compiled regular expression, linear in the text (RE2)."""

    def __call__(self, text: str) -> bool:
        """Tell whether it is found anywhere in the text."""
        ...


class Language(Protocol):
    """Compiles what a configuration says. Each raises `ValueError` that says what is wrong."""

    def condition(self, source: str) -> Expression:
        """Compile CEL that is true or false. Its value is a bool, or `EvaluationError`."""
        ...

    def expression(self, source: str) -> Expression:
        """Compile a template when the source contains `{{` or `{%`, else CEL of any type."""
        ...

    def template(self, source: str) -> Expression:
        """Compile a template. Its value is text; text without braces stands for itself."""
        ...

    def url(self, source: str) -> Expression:
        """Compile a URL whose scheme, host and port are literal.

        Each `{{ … }}` is percent-encoded for the part of the URL it stands in. Its value is a
        whole URL.
        """
        ...

    def file(self, path: str) -> Expression:
        """Compile the template in a file of the templates folder."""
        ...

    def pattern(self, source: str) -> Pattern:
        """Compile an RE2 pattern."""
        ...


class Backends(Protocol):
    """Calls what rules ask. Bounded in time, bytes and pages; never raises."""

    async def call(self, request: BackendRequest) -> BackendResponse: ...


class Tokens(Protocol):
    """Verifies JSON Web Tokens of the configured issuers."""

    async def verify(self, issuer: str, token: str) -> Mapping[str, Any] | Rejected:
        """Return the claims of a token all of which is verified, or why it is not believed."""
        ...


class Sessions(Protocol):
    """Knows the live Gatekeeper sessions of a caller."""

    async def live(self, token: str) -> tuple[LiveSession, ...] | Rejected: ...


class Observer(Protocol):
    """Is told of every decision. It may not fail, nor take long."""

    def decided(self, decided: Decided) -> None: ...

    def failed(self, error: BaseException) -> None:
        """Is told of a defect that made a decision an error."""
        ...


class SharedCache(Protocol):
    """A cache that several processes share. It may forget; it never raises.

    `None` from `get` means: not there, or not to be had. The caller evaluates then.
    """

    async def get(self, key: bytes) -> bytes | None: ...

    async def put(self, key: bytes, value: bytes, seconds: float) -> None: ...
