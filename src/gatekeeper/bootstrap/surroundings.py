"""What a control plane has for every plane, wired: keys, the store, the clock, the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.bootstrap.housekeeping import Housekeeper
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.policy import PolicyHolder
from gatekeeper.platform.postgres.clock import StoreClock
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.random import Random

API_CONNECTIONS: Final = 24
JOB_CONNECTIONS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is built once and shared. Requests and jobs have connections of their own."""

    key: SigningKey
    """Signs what agents and runners are told."""
    evidence_key: SigningKey
    api_pool: Pool
    job_pool: Pool
    clock: StoreClock
    random: Random
    metrics: Metrics
    keeper: Housekeeper
    policies: PolicyHolder
    is_operator: Callable[[Principal], bool]


def surround(settings: ControlPlaneSettings) -> Surroundings:
    """Wire them. Raises `InputError` for a policy that cannot be used."""
    random, metrics = SystemRandom(), Metrics()
    job_pool = Pool(settings.store_dsn, name="gk-jobs", max_size=JOB_CONNECTIONS)
    clock = StoreClock(job_pool)
    keeper = Housekeeper(pool=job_pool, metrics=metrics, clock=clock, random=random)
    return Surroundings(
        key=SigningKey.load_or_create(settings.key_folder / "control-plane.jwk"),
        evidence_key=SigningKey.load_or_create(settings.key_folder / "evidence.jwk"),
        api_pool=Pool(settings.store_dsn, name="gk-api", max_size=API_CONNECTIONS),
        job_pool=job_pool,
        clock=clock,
        random=random,
        metrics=metrics,
        keeper=keeper,
        policies=PolicyHolder(
            settings.policy, loaded=keeper.policy_loaded, rejected=keeper.policy_rejected
        ),
        is_operator=settings.is_operator,
    )
