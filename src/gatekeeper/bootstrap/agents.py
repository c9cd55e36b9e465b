"""How the control plane reaches its agents, wired: a transport each, and what these need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from gatekeeper.bootstrap.agent import agent_executor
from gatekeeper.bootstrap.settings import InProcessAgent, PollingAgent, PushedAgent
from gatekeeper.databases.adapters.agents.http import Doorkeeper, mail_routes
from gatekeeper.databases.adapters.agents.mailbox import CHANNEL, Mailbox
from gatekeeper.databases.adapters.agents.transports import Fetched, HttpPush, InProcess
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.postgres.notifications import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from fastapi import APIRouter

    from gatekeeper.bootstrap.settings import AgentOfPlane, ControlPlaneSettings
    from gatekeeper.databases.adapters.agents.gateway import Transport
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.postgres.pool import Pool

    Work = Coroutine[object, object, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The agents of a control plane, and what it runs to reach them."""

    keys: Mapping[str, Ed25519PublicKey]
    transports: Mapping[str, Transport]
    routes: tuple[APIRouter, ...] = ()
    close_polls: Callable[[], None] = lambda: None
    background: Mapping[str, Callable[[], Work]] = field(default_factory=dict)


def reach_agents(
    settings: ControlPlaneSettings, *, key: SigningKey, pool: Pool, clock: Clock
) -> Reached:
    """Wire the transports; the mailbox, its routes and its tasks only if an agent polls."""
    keys = {name: _key(agent) for name, agent in settings.agents.items()}
    mailbox = Mailbox(pool)
    transports = {
        name: _transport(name, agent, settings, key=key, mailbox=mailbox)
        for name, agent in settings.agents.items()
    }
    polling = {
        name: keys[name]
        for name, agent in settings.agents.items()
        if isinstance(agent, PollingAgent)
    }
    if not polling:
        return Reached(keys=keys, transports=transports)
    listener = Listener(settings.store_dsn, CHANNEL, mailbox.heard, name="gk-agent-mail")
    doorkeeper = Doorkeeper(name=settings.name, keys=polling, clock=clock)
    return Reached(
        keys=keys,
        transports=transports,
        routes=(mail_routes(mailbox, doorkeeper),),
        close_polls=mailbox.close,
        background={"agent mail": listener.run, "agent mail cleaning": mailbox.run},
    )


def _key(agent: AgentOfPlane) -> Ed25519PublicKey:
    if isinstance(agent, InProcessAgent):
        return SigningKey.load(agent.key_file).private.public_key()
    return public_key(agent.public_key)


def _transport(
    name: str,
    agent: AgentOfPlane,
    settings: ControlPlaneSettings,
    *,
    key: SigningKey,
    mailbox: Mailbox,
) -> Transport:
    match agent:
        case PushedAgent():
            return HttpPush(agent.url)
        case PollingAgent():
            return Fetched(mailbox, name)
        case InProcessAgent():
            return InProcess(
                agent_executor(
                    name=name,
                    key=SigningKey.load(agent.key_file).private,
                    control_planes={settings.name: key.private.public_key()},
                    targets=agent.targets,
                )
            )
    assert_never(agent)
