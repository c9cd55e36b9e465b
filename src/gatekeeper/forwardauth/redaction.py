"""What of a decision may be shown: never a credential, in whatever text it stands.

A value is taken out by what it is (a secret of the configuration, or a credential that the
request presents, as it is or as it is written in URLs, headers and JSON), by the name it goes
under, and by its looks. The first holds wherever it came to stand; the others catch what a
backend made up.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from gatekeeper.kernel.secret import REDACTED

SHORT: Final = 4
"""Characters. A shorter value is taken out where it stands alone, not out of every word."""
MAX_TEXT_CHARS: Final = 2_000
"""Of one text that is shown; what is longer is cut."""
MAX_READ_CHARS: Final = 16_384
"""Of one text that is looked through."""
MAX_ITEMS: Final = 100
"""Of one list or mapping that is shown."""
MAX_DEPTH: Final = 16

CREDENTIAL_HEADERS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "x-auth-token",
        "x-csrf-token",
        "x-amz-security-token",
        "authentication-info",
    }
)
_NAME: Final = re.compile(
    r"pass(?:word|wd|phrase)|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key"
    r"|credential|signature|authorization|cookie|session[-_.]?id|^(?:sid|sig|code|pwd|jwt|otp)$",
    re.IGNORECASE,
)
_LOOKS: Final = (
    re.compile(r"(?<=://)[^/\s:@]+:[^@\s/]+(?=@)"),
    re.compile(r"(?i)\b(?:bearer|basic)\s+[a-z0-9._~+/=-]{4,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*){1,4}"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
)
_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#\s]{1,200})=([^&#\s]*)")
_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")
_CUT: Final = " [cut]"


def is_credential(name: str) -> bool:
    """Tell whether a header, parameter or key of this name holds a credential."""
    return name.lower() in CREDENTIAL_HEADERS or _NAME.search(name) is not None


class Redactor:
    """Takes credentials out of texts and values. `secrets` are those that are known."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for one in set(secrets) for form in _forms(one)}
        # The longest first: a secret that is part of another one must not leave its rest.
        self._long = sorted((f for f in forms if len(f) >= SHORT), key=len, reverse=True)
        short = sorted((re.escape(f) for f in forms if len(f) < SHORT), key=len, reverse=True)
        self._short = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)") if short else None
        self._longest = len(self._long[0]) if self._long else 0

    def text(self, text: str) -> str:
        """Return a text without credentials."""
        is_cut = len(text) > MAX_READ_CHARS
        shown = self._without_known(text[:MAX_READ_CHARS])
        for looks in _LOOKS:
            shown = looks.sub(REDACTED, shown)
        shown = _PARAMETER.sub(_parameter, shown)
        if is_cut:  # its end may be the beginning of a secret
            shown = shown[: -self._longest or None]
        if is_cut or len(shown) > MAX_TEXT_CHARS:
            return shown[:MAX_TEXT_CHARS] + _CUT
        return shown

    def _without_known(self, text: str) -> str:
        for form in self._long:
            if form in text:
                text = text.replace(form, REDACTED)
        return text if self._short is None else self._short.sub(REDACTED, text)

    def value(self, value: Any, depth: int = 0) -> Any:  # noqa: ANN401  # whatever a step has
        """Return a value as plain JSON has it, without credentials."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return value if self._without_known(str(value)) == str(value) else REDACTED
        if depth < MAX_DEPTH and isinstance(value, Mapping):
            return {
                self.text(str(name)): self._named(str(name), inner, depth)
                for name, inner in list(value.items())[:MAX_ITEMS]
            }
        if depth < MAX_DEPTH and isinstance(value, list | tuple):
            return [self.value(inner, depth + 1) for inner in value[:MAX_ITEMS]]
        return self._text_of(value)

    def _named(self, name: str, value: Any, depth: int) -> Any:  # noqa: ANN401
        if is_credential(name) and not isinstance(value, Mapping | list | tuple):
            return value if value in (None, "", True, False) else REDACTED
        return self.value(value, depth + 1)

    def _text_of(self, value: object) -> str:
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        try:
            parsed = json.loads(text) if text[:1] in ("{", "[") else None
        except (ValueError, RecursionError):
            parsed = None
        if parsed is None:
            return self.text(text)
        # A body in JSON: its keys say what is a credential.
        return self.text(json.dumps(self.value(parsed), ensure_ascii=False))


def _parameter(match: re.Match[str]) -> str:
    name, value = match.groups()
    shown = REDACTED if value and is_credential(unquote_plus(name)) else value
    return f"{name}={shown}"


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it may be written."""
    for form in {secret, unquote(secret), secret.strip()} - {""}:
        yield form
        for escaped in (quote(form, safe=""), quote(form), quote_plus(form)):
            yield escaped
            yield _ESCAPE.sub(lambda hexadecimal: hexadecimal[0].lower(), escaped)
        yield json.dumps(form)[1:-1]
        yield json.dumps(form, ensure_ascii=False)[1:-1]
        yield repr(form)[1:-1]
        if len(form) >= SHORT:
            data = form.encode("utf-8", "surrogatepass")
            yield base64.b64encode(data).decode().rstrip("=")
            yield base64.urlsafe_b64encode(data).decode().rstrip("=")
