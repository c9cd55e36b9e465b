"""What an agent ends by itself, when no control plane is left to ask for it."""

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes.provider import FakeProvider
from gatekeeper.databases.adapters.agents.executor import AgentExecutor, ServedTarget
from gatekeeper.databases.model import CreateUser, ObjectPolicy
from gatekeeper.kernel import ids, scram
from gatekeeper.kernel.ids import RoleName
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.random import SystemRandom

RANDOM = SystemRandom()


def an_agent(**targets: FakeProvider) -> AgentExecutor:
    return AgentExecutor(
        name="a",
        key=Ed25519PrivateKey.generate(),
        control_planes={},
        targets={
            name: ServedTarget(provider=provider, owned_objects=ObjectPolicy.DROP)
            for name, provider in targets.items()
        },
        seen=ReplayGuard(),
        clock=SystemClock(),
        random=RANDOM,
    )


async def a_login(provider: FakeProvider, minutes: int) -> RoleName:
    session = ids.session_id(RANDOM.bytes(ids.RANDOM_BYTES))
    name = ids.role_name(session)
    await provider.create_ephemeral_user(
        CreateUser(
            session=session,
            username=name,
            role="app_read",
            ttl=timedelta(minutes=minutes),
            verifier=scram.make_verifier(Secret("x"), b"s" * scram.SALT_BYTES, 64),
            correlation_id="c",
        )
    )
    return name


async def test_overdue_logins_are_ended_by_the_targets_clock_and_nothing_else() -> None:
    provider = FakeProvider()
    for _ in range(70):
        await a_login(provider, minutes=1)
    alive = await a_login(provider, minutes=5)
    agent = an_agent(pg=provider)

    await agent.sweep()
    assert len(provider.logins) == 71

    provider.skew = timedelta(seconds=75)
    await agent.sweep()
    assert len(provider.logins) == 71, "within the grace they are the control plane's to end"

    provider.skew = timedelta(seconds=95)
    await agent.sweep()
    assert list(provider.logins) == [alive]


async def test_a_target_that_does_not_answer_holds_up_no_other() -> None:
    away, there = FakeProvider(), FakeProvider()
    await a_login(there, minutes=1)
    away.reachable = False
    there.skew = timedelta(minutes=5)

    await an_agent(away=away, there=there).sweep()

    assert there.logins == {}
