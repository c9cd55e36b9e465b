"""The pages, wired: who is signed in, and where from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatekeeper.platform.console import cookies
from gatekeeper.platform.console.sessions import ConsoleSessions
from gatekeeper.platform.console.signing_in import CodeFlow
from gatekeeper.platform.http.rates import CallRates
from gatekeeper.platform.oidc import development
from gatekeeper.terminals.web.page.answers import Answers
from gatekeeper.terminals.web.page.routes import console_routes
from gatekeeper.terminals.web.page.signing_in import HOME, Desk

if TYPE_CHECKING:
    from fastapi import APIRouter, Request

    from gatekeeper.bootstrap.identity import Identity
    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.postgres.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Who is signed in to the pages; `of_page` says whose page made a call of the API."""

    settings: ControlPlaneSettings
    sessions: ConsoleSessions
    random: Random

    async def of_page(self, request: Request) -> Principal | None:
        secret = cookies.session_of(request)
        if secret is None or not cookies.is_from_page(request, self._origin):
            return None
        return await self.sessions.find(secret)

    def routes(self, identity: Identity) -> list[APIRouter]:
        people = _people(self.settings)
        issuers = {one.issuer: one for one in identity.issuers if one.issuer in people}
        flow = CodeFlow(
            issuers,
            verifier=identity.verifier,
            redirect_uri=f"{self._origin}{HOME}/callback",
            random=self.random,
        )
        desk = Desk(
            issuers=issuers,
            sessions=self.sessions,
            flow=flow,
            verifier=identity.verifier,
            origin=self._origin,
            sign_in_origins=self.settings.console_sign_in_origins,
            failures=CallRates(),
        )
        terminals = self.settings.terminals
        gateway = self._origin if terminals is None else terminals.gateway_url
        answers = Answers.make(gateway=gateway, random=self.random)
        return console_routes(desk=desk, answers=answers)

    @property
    def _origin(self) -> str:
        return cookies.origin_of(self.settings.public_url)


def make_console(
    settings: ControlPlaneSettings, *, pool: Pool, clock: Clock, random: Random
) -> Console:
    sessions = ConsoleSessions(pool=pool, clock=clock, random=random, issuers=_people(settings))
    return Console(settings=settings, sessions=sessions, random=random)


def _people(settings: ControlPlaneSettings) -> frozenset[str]:
    """Name the issuers of people. CI jobs have tokens too, and no browser."""
    embedded = {settings.public_url + development.PREFIX} if settings.development_users else set()
    return frozenset({one.issuer for one in settings.issuers} | embedded)
