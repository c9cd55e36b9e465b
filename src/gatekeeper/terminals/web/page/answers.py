"""What every page carries.

Scripts and styles come from here alone, and none stands in the page; the page talks to us and
to the gateway, is framed by nobody, tells nobody where its reader came from, and is not kept.
xterm.js makes style sheets as it runs: these are let in by a number used once (`csp.js`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from gatekeeper.kernel import base64url
from gatekeeper.platform.console.cookies import origin_of
from gatekeeper.platform.pages import Pages
from gatekeeper.terminals.web.page.assets import FOLDER, NotBuiltError, assets

if TYPE_CHECKING:
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.random import Random

NONCE_BYTES: Final = 16
HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
PLAIN: Final = HEADERS | {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Writes pages. `gateway` is the address that terminals are attached through."""

    gateway: str
    random: Random
    pages: Pages

    @classmethod
    def make(cls, *, gateway: str, random: Random) -> Answers:
        return cls(gateway=gateway, random=random, pages=Pages(FOLDER / "templates"))

    def page(
        self,
        name: str,
        *,
        principal: Principal | None = None,
        status: int = 200,
        **values: object,
    ) -> Response:
        try:
            found = assets()
        except NotBuiltError as error:
            return PlainTextResponse(f"{error}\n", status_code=503, headers=PLAIN)
        nonce = base64url.encode(self.random.bytes(NONCE_BYTES))
        body = self.pages.render(
            name,
            asset=found.address,
            modules=found.modules,
            nonce=nonce,
            principal=principal,
            **values,
        )
        return HTMLResponse(body, status_code=status, headers=HEADERS | self._policy(nonce))

    def _policy(self, nonce: str) -> dict[str, str]:
        parts = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": f"'self' 'nonce-{nonce}'",
            "connect-src": f"'self' {origin_of(self.gateway)}",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
        }
        return {"Content-Security-Policy": "; ".join(f"{k} {v}" for k, v in parts.items())}


def redirect(address: str) -> RedirectResponse:
    return RedirectResponse(address, status_code=303, headers=PLAIN)
