"""Whatever an agent is sent, it refuses or answers with a signed result; it never fails."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fakes.provider import FakeProvider
from gatekeeper.databases.adapters.agents.executor import AgentExecutor, ServedTarget
from gatekeeper.databases.model import ObjectPolicy
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.crypto.envelope import Opened, ReplayGuard, open_envelope, seal
from gatekeeper.platform.random import SystemRandom
from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLANE, AGENT = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
TARGET: Final = "pg"

ids = st.from_regex(r"[a-z2-7]{20}", fullmatch=True)
words: Mapping[str, st.SearchStrategy[Any]] = {
    "id": st.text(min_size=1, max_size=128),
    "correlationId": st.text(min_size=1, max_size=64),
    "target": st.just(TARGET) | st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True),
    "ttlSeconds": st.integers(1, 31_536_000),
    "role": st.sampled_from(["app_read", "app_admin", "x"]),
    "verifier": st.none() | st.text(max_size=256),
    "sealTo": st.none()
    | st.text(max_size=1024)
    | st.sampled_from(['{"kty":"EC"}', "[]", '{"kty":"OKP","crv":"X25519","x":5}']),
    "type": st.sampled_from([*jobs.JOB.json_schema()["discriminator"]["mapping"]]),
}
fields: Mapping[str, tuple[str, ...]] = {
    "create_session": ("ttlSeconds", "role", "verifier", "sealTo"),
    "extend_session": ("ttlSeconds",),
}


@st.composite
def odd_jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A job of the right shape; what it says need not make sense."""
    kind = draw(words["type"])
    names = ("id", "correlationId", "target", *fields.get(kind, ()))
    job = {"type": kind, **{name: draw(words[name]) for name in names}}
    if kind.endswith("_session"):
        own = draw(ids)
        job["sessionId"] = f"ses_{own}"
        job["username"] = f"gk_{draw(st.just(own) | ids)}"
    return job


async def handled(envelope: str) -> str | Refusal:
    executor = AgentExecutor(
        name="agent",
        key=AGENT,
        control_planes={"plane": (PLANE.public_key(),)},
        targets={
            TARGET: ServedTarget(provider=FakeProvider(), owned_objects=ObjectPolicy.QUARANTINE)
        },
        seen=ReplayGuard(),
        clock=Frozen(),
        random=SystemRandom(),
    )
    return await executor.handle(envelope)


class Frozen:
    def now(self) -> datetime:
        return NOW


def sealed(payload: str) -> str:
    return seal(
        payload.encode(),
        key=PLANE,
        sender="plane",
        audience="agent",
        purpose="job",
        message_id="m1",
        now=NOW,
    )


def result_of(line: str) -> jobs.Result:
    opened = open_envelope(
        line,
        trusted={"agent": (AGENT.public_key(),)},
        audience="plane",
        purpose="result",
        now=NOW,
        seen=ReplayGuard(),
        in_reply_to="m1",
    )
    assert isinstance(opened, Opened), opened
    return jobs.RESULT.validate_json(opened.payload)


@given(st.text() | st.from_regex(r"[\w-]+\.[\w-]+\.[\w-]+", fullmatch=True))
def test_what_is_no_message_is_refused(envelope: str) -> None:
    answer = asyncio.run(handled(envelope))

    assert isinstance(answer, Refusal)
    assert answer.code is ErrorCode.AGENT_REJECTED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*words]) | st.text(), inner),
    max_leaves=12,
)


@given(st.text() | json_values.map(repr) | json_values.map(lambda v: json.dumps([v])))
def test_a_signed_message_that_holds_no_jobs_is_refused(payload: str) -> None:
    answer = asyncio.run(handled(sealed(payload)))

    assert isinstance(answer, Refusal)
    assert answer.code is ErrorCode.AGENT_REJECTED


@given(st.lists(odd_jobs(), min_size=1, max_size=4, unique_by=lambda job: job["id"]))
def test_every_job_of_the_right_shape_gets_its_own_signed_result(
    batch: list[dict[str, Any]],
) -> None:
    answer = asyncio.run(handled(sealed(json.dumps(batch))))

    assert isinstance(answer, str)
    results = [result_of(line) for line in answer.split("\n")]
    assert [(r.job_id, r.type) for r in results] == [(job["id"], job["type"]) for job in batch]
    for result, job in zip(results, batch, strict=True):
        assert (result.error is None) == (result.status != "failed")
        if job["target"] != TARGET:
            assert result.error is not None
            assert result.error.code == ErrorCode.AGENT_REJECTED


def test_a_key_that_nests_without_end_is_an_invalid_one() -> None:
    own = "a" * 20
    job = {
        "type": "create_session", "id": "deep", "correlationId": "c", "target": TARGET,
        "sessionId": f"ses_{own}", "username": f"gk_{own}", "role": "app_read", "ttlSeconds": 1,
        "verifier": None, "sealTo": "[" * 1024,
    }  # fmt: skip

    answer = asyncio.run(handled(sealed(json.dumps([job]))))

    assert isinstance(answer, str)
    error = result_of(answer).error
    assert error is not None
    assert error.code == ErrorCode.VALIDATION_ERROR
