"""Which claims make a job a workload, and which must not."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gatekeeper.bootstrap.identity import make_identity
from gatekeeper.bootstrap.settings import ControlPlaneSettings
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.workload import WorkloadRule, workload_of
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.oidc.workload import WorkloadIssuerSettings, WorkloadRuleSettings
from gatekeeper.platform.random import SystemRandom


def rule(**claims: Any) -> WorkloadRule:
    return WorkloadRule(name="w", groups=frozenset({"g"}), claims=claims)


@pytest.mark.parametrize(
    ("wanted", "claim"),
    [
        ("acme/shop", "acme/shop"),
        ("acme/*", "acme/shop"),
        ("acme/shop-*", "acme/shop-eu"),
        ("refs/heads/release-*", "refs/heads/release-7"),
        ("repo:acme/*:ref:refs/heads/main", "repo:acme/shop:ref:refs/heads/main"),
        (True, True),
        (7, 7),
    ],
)
def test_a_claim_that_fits_is_admitted(wanted: Any, claim: Any) -> None:
    assert rule(c=wanted).admits({"c": claim, "other": 1})


@pytest.mark.parametrize(
    ("wanted", "claim"),
    [
        ("acme/shop", "acme/shop2"),
        ("acme/shop", "ACME/shop"),
        ("acme/shop", "acme/shop\n"),
        ("acme/shop", ["acme/shop"]),
        ("acme/shop", {"acme/shop": True}),
        ("acme/shop", None),
        ("acme/*", "acme/shop/evil"),
        ("acme/*", "evil/acme/shop"),
        ("acme.*", "acmeXshop"),
        ("[a-z]*", "acme"),
        ("refs/heads/*", "refs/heads/x/y"),
        # A `*` for a branch does not reach over into what follows it.
        ("repo:acme/*:ref:refs/heads/main", "repo:acme/x:environment:y:ref:refs/heads/main"),
        ("true", True),
        (True, "true"),
        (True, 1),
        (1, True),
        (1, 1.0),
        ("7", 7),
    ],
)
def test_a_claim_of_another_value_type_or_shape_is_not(wanted: Any, claim: Any) -> None:
    assert not rule(c=wanted).admits({"c": claim})


def test_a_missing_claim_and_one_of_several_that_differs_admit_nobody() -> None:
    two = rule(repository="acme/shop", ref="refs/heads/main")

    assert two.admits({"repository": "acme/shop", "ref": "refs/heads/main"})
    assert not two.admits({"repository": "acme/shop"})
    assert not two.admits({"repository": "acme/shop", "ref": "refs/heads/dev"})
    assert not two.admits({})


def test_the_first_rule_that_admits_a_job_names_it() -> None:
    rules = [rule(sub="a"), WorkloadRule(name="second", groups=frozenset(), claims={"sub": "b*"})]

    found = workload_of(rules, {"sub": "b"})

    assert found is not None
    assert found.name == "second"
    assert workload_of(rules, {"sub": "c"}) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"repository": "acme/shop"},
        {"repository": "acme/*", "ref": "*"},
        {"repository_id": 7},
        {"project_path": "acme/*"},
        {"sub": "repo:acme/*:ref:refs/heads/main"},
        {"sub": "system:serviceaccount:ci:runner"},
    ],
)
def test_a_rule_that_says_whose_jobs_it_is_for_is_taken(claims: dict[str, Any]) -> None:
    assert WorkloadRuleSettings(name="w", claims=claims).rule().claims == claims


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"ref": "refs/heads/main"},
        {"environment": "production", "ref_protected": "true"},
        {"repository": "*"},
        {"repository": "acme*"},
        {"repository": "acme*/shop"},
        {"repository": "*/shop"},
        {"repository": "/*"},
        {"repository_owner": "*"},
        {"sub": "repo:*/shop:ref:refs/heads/main"},
        {"sub": "repo:*"},
        {"sub": "spiffe://*"},
        {"repository": True},
        {"repository": ["acme/shop"]},
        {"repository": None},
        {"repository": 1.5},
        {"repository": ""},
    ],
)
def test_a_rule_that_would_admit_strangers_is_refused_when_it_is_loaded(
    claims: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        WorkloadRuleSettings(name="w", claims=claims)


def test_an_issuer_without_rules_or_audience_is_refused() -> None:
    with pytest.raises(ValidationError):
        WorkloadIssuerSettings.model_validate({"issuer": "https://i", "audience": "a", "rules": []})
    with pytest.raises(ValidationError):
        WorkloadIssuerSettings.model_validate(
            {"issuer": "https://i", "rules": [{"name": "w", "claims": {"sub": "a"}}]}
        )


@settings(deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_without_a_star_a_text_is_met_by_itself_alone(wanted: str, claim: str) -> None:
    if "*" not in wanted:
        assert rule(c=wanted).admits({"c": claim}) == (wanted == claim)


@settings(deadline=None)
@given(st.text(alphabet="ab/:*.\n", max_size=10), st.text(alphabet="ab/:.\n", max_size=10))
def test_a_star_never_adds_or_hides_a_part(wanted: str, claim: str) -> None:
    if rule(c=wanted).admits({"c": claim}):
        assert claim.count("/") == wanted.count("/")
        assert claim.count(":") == wanted.count(":")


RULES = [{"name": "w", "claims": {"sub": "a"}}]
ISSUER = {"issuer": "https://ci.example", "audience": "https://gk.example"}
SETTINGS: dict[str, Any] = {
    "store_dsn": "x", "public_url": "https://gk.example", "key_folder": "k", "policy": "p",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workload_issuers": [ISSUER | {"rules": RULES}] * 2}, "stands here once"),
        (
            {"workload_issuers": [ISSUER | {"issuer": "https://gk.example", "rules": RULES}]},
            "public_url is our own",
        ),
        ({"issuers": [ISSUER, ISSUER]}, "stands here once"),
        (
            {"issuers": [ISSUER], "workload_issuers": [ISSUER | {"rules": RULES}]},
            "past their rules",
        ),
    ],
)
def test_settings_that_would_let_a_token_past_the_rules_are_refused(
    changes: dict[str, Any], words: str
) -> None:
    assert ControlPlaneSettings.model_validate(
        SETTINGS | {"workload_issuers": [ISSUER | {"rules": RULES}]}
    )
    with pytest.raises(ValidationError, match=words):
        ControlPlaneSettings.model_validate(SETTINGS | changes)


def test_workloads_need_an_address_that_nobody_can_answer_in_the_place_of() -> None:
    settings = ControlPlaneSettings.model_validate(
        SETTINGS
        | {"public_url": "http://10.0.0.1", "workload_issuers": [ISSUER | {"rules": RULES}]}
    )

    async def record(kind: Any, **_: Any) -> None:
        raise AssertionError(kind)

    with pytest.raises(InputError, match="public_url"):
        make_identity(
            settings,
            clock=SystemClock(),
            random=SystemRandom(),
            per_minute=lambda: 1,
            record=record,
        )
