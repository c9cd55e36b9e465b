"""Sends, compares, and finds. What a finding means is in knowledge.py.

Whether the application was reached is known when it tells so (`echo`), or by its status: 2xx and
101 let through; what proxies and PassCtrl refuse with is a refusal; of the rest nothing is said.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from gatekeeper.entrypoints.passctrl.examining.exchange import SWITCHING, Answer, Sending
from gatekeeper.entrypoints.passctrl.examining.knowledge import MEANINGS, Severity
from gatekeeper.entrypoints.passctrl.examining.probes import spellings, strangers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.entrypoints.passctrl.examining.exchange import Arrived, Client

IDENTITIES: Final = ("X-User", "X-Groups", "X-Email")
"""What `passctrl init` has the proxy hand on."""
FORGED: Final = "passctrl-doctor-forged"
REFUSING: Final = frozenset({400, 401, 403, 407, 408, 411, 413, 414, 417, 421, 426, 431, 500, 501,
                             502, 503, 504, 505})  # fmt: skip
LETTING_IN: Final = frozenset({SWITCHING, *range(200, 300), 304})
AMBIGUOUS: Final = re.compile(r"//|/\.{1,2}(?:[/;]|$)|%2e|%2f|%5c|%25|%00|[\\#]", re.IGNORECASE)
"""In a path PassCtrl refuses each of these."""
INVALID: Final = {
    "X-Forwarded-Method": "no method",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": "no host",
    "X-Forwarded-Uri": "no-path",
    "X-Original-URL": "no-url",
    "X-Original-Method": "no method",
}
"""PassCtrl refuses each, if it is told. Of X-Forwarded-For it reads what the proxy appends."""
PROXIES: Final = ("nginx", "caddy", "envoy", "traefik", "haproxy")


class Verdict(Enum):
    LET_IN = "let in"
    REFUSED = "refused"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    code: str
    sent: str
    got: str

    @property
    def severity(self) -> Severity:
        return MEANINGS[self.code].severity


@dataclass(slots=True, kw_only=True)
class Examination:
    """Examine what answers at a path. `echo`: the application tells there what arrived."""

    client: Client
    path: str
    echo: bool = False
    identities: Sequence[str] = IDENTITIES
    findings: list[Finding] = field(default_factory=list)
    server: str = ""
    """What the proxy calls itself."""
    _refusal: Answer = field(default=Answer(status=None))
    _unclear: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Send everything. Raises `OSError` when nothing answers at all."""
        refusal = self._refusal = await self.client.ask(Sending(target=self.path))
        if refusal.status is None:
            raise OSError(refusal.why)
        self.server = f"{refusal.value('server')} {refusal.value('via')}".lower()
        if not self._reached("open", Sending(target=self.path), refusal):
            await self._strangers()
        if self.client.credential is None:
            self._find("not-examined", "", "no credential was given")
        else:
            await self._with_credential()
        if self._unclear:
            first = ", ".join(self._unclear[:3])
            self._find("unclear", first, f"{len(self._unclear)} such answers")
        if self.client.spent:
            self._find("not-finished", "", f"{self.client.sent} requests were sent")

    @property
    def proxy(self) -> str | None:
        return next((name for name in PROXIES if name in self.server), None)

    def _find(self, code: str, sent: str, got: str) -> None:
        self.findings.append(Finding(code=code, sent=sent, got=got))

    def _verdict(self, answer: Answer) -> Verdict:
        status = answer.status
        if status is None:
            return Verdict.REFUSED if "closed" in answer.why else Verdict.UNCLEAR
        if self.echo and answer.arrived is not None:
            return Verdict.LET_IN
        if status in LETTING_IN:
            return Verdict.LET_IN
        if status in REFUSING:
            return Verdict.REFUSED
        login = self._refusal.value("location").partition("?")[0]
        if login and answer.value("location").partition("?")[0] == login:
            return Verdict.REFUSED
        return Verdict.UNCLEAR

    def _reached(self, code: str, sending: Sending, answer: Answer) -> bool:
        """Note it when the application was reached that must not be."""
        verdict = self._verdict(answer)
        if verdict is Verdict.LET_IN:
            # The status refuses, and yet it is the application's own answer.
            refuses = answer.status in REFUSING
            self._find("error-page" if refuses else code, str(sending), str(answer))
        elif verdict is Verdict.UNCLEAR:
            self._unclear.append(f"{sending}: {answer}")
        return verdict is Verdict.LET_IN

    async def _strangers(self) -> None:
        unknown = f"passctrl-doctor-{secrets.token_hex(4)}"
        probes = strangers(self.path, self.client.site.authority, self.identities, unknown)
        for code, sending in probes:
            if self.client.spent:
                return
            self._reached(code, sending, await self.client.ask(sending))

    async def _with_credential(self) -> None:
        plain = Sending(target=self.path, credential=True)
        answer = await self.client.ask(plain)
        if self._verdict(answer) is not Verdict.LET_IN or answer.status in REFUSING:
            self._find("credential-refused", str(plain), str(answer))
            await self._told_by_the_client(let_in=False)
            return
        await self._connection_reused(plain)
        await self._two_credentials()
        await self._told_by_the_client(let_in=True)
        if self.echo and answer.arrived is not None:
            await self._seen_by_the_application(answer.arrived)
        else:
            self._find("not-examined", "", "the application did not tell what arrived")

    async def _connection_reused(self, plain: Sending) -> None:
        stranger = Sending(target=self.path)
        if self.findings and self.findings[0].code == "open":
            return
        _, second = await self.client.ask_in_turn(plain, stranger)
        self._reached("reuse-open", stranger, second)

    async def _two_credentials(self) -> None:
        name = self.client.credential_name
        for first in (True, False):
            sending = Sending(
                target=self.path, headers=(f"{name}: guessed",), credential=True, first=first
            )
            answer = await self.client.ask(sending)
            if self._verdict(answer) is Verdict.LET_IN:
                self._find("two-credentials", str(sending), str(answer))
                return

    async def _told_by_the_client(self, *, let_in: bool) -> None:
        """See whether a client's word about its own request makes a difference."""
        if let_in:
            attempts: list[tuple[str, ...]] = [
                (f"{name}: {value}",) for name, value in INVALID.items()
            ]
        else:
            told = {
                "X-Forwarded-Method": "GET",
                "X-Forwarded-Proto": self.client.site.scheme,
                "X-Forwarded-Host": self.client.site.authority,
                "X-Forwarded-Uri": self.path,
                "X-Forwarded-For": "192.0.2.1",
            }
            attempts = [tuple(f"{name}: {value}" for name, value in told.items())]
        for headers in attempts:
            sending = Sending(target=self.path, headers=headers, credential=True)
            answer = await self.client.ask(sending)
            if (self._verdict(answer) is Verdict.LET_IN) is not let_in:
                self._find("client-tells", str(sending), str(answer))

    async def _seen_by_the_application(self, arrived: Arrived) -> None:
        if not any(value for name in self.identities for value in arrived.values(name)):
            said = f"none of {', '.join(self.identities)} arrived"
            self._find("identity-missing", "the credential", said)
        await self._forged()
        await self._taken_away(arrived)
        await self._underscores()
        await self._paths()
        name = self.client.credential_name
        if arrived.values(name):
            self._find("credential-arrives", "the credential", f"{name} arrived")

    async def _forged(self) -> None:
        """Send identity headers of our own: alone, twice, in another case, with underscores."""
        for name in self.identities:
            line = f"{name}: {FORGED}"
            twin = f"{name.replace('-', '_')}: {FORGED}"
            for code, headers in (
                ("identity-survives", (line,)),
                ("identity-survives", (f"{name.lower()}: {FORGED}", f"{name.upper()}: {FORGED}")),
                ("twin-survives", (twin,)),
            ):
                sending = Sending(target=self.path, headers=headers, credential=True)
                answer = await self.client.ask(sending)
                seen = answer.arrived
                if seen is not None and any(FORGED in value for _, value in _of(seen, name)):
                    self._find(code, str(sending), f"{answer}, and it arrived")
                    break

    async def _taken_away(self, plain: Arrived) -> None:
        named = [name for name in self.identities if any(plain.values(name))]
        for headers in (
            (f"Connection: close, {', '.join(self.identities)}",),
            (f"Connection: Upgrade, {', '.join(self.identities)}", "Upgrade: passctrl-doctor"),
        ):
            sending = Sending(target=self.path, headers=headers, credential=True)
            answer = await self.client.ask(sending)
            seen = answer.arrived
            if seen is None:
                continue
            lost = [name for name in named if not any(seen.values(name))]
            if lost:
                self._find("identity-dropped", str(sending), f"{', '.join(lost)} did not arrive")
                return

    async def _underscores(self) -> None:
        sending = Sending(
            target=self.path, headers=(f"X_PassCtrl_Doctor: {FORGED}",), credential=True
        )
        answer = await self.client.ask(sending)
        seen = answer.arrived
        if seen is not None and seen.values("X_PassCtrl_Doctor"):
            self._find("underscores-pass", str(sending), f"{answer}, and it arrived")

    async def _paths(self) -> None:
        for target in spellings(self.path, self.client.site.authority):
            if self.client.spent:
                return
            sending = Sending(target=target, credential=True)
            answer = await self.client.ask(sending)
            seen = answer.arrived
            if seen is None:
                continue
            path = seen.target.partition("?")[0]
            if AMBIGUOUS.search(path):
                self._find("path-differs", str(sending), f"{answer}, and {path!a} arrived")


def _of(arrived: Arrived, name: str) -> list[tuple[str, str]]:
    """Return the headers of a name, and those that are its twins."""
    dashed = name.lower()
    return [pair for pair in arrived.headers if pair[0].lower().replace("_", "-") == dashed]
