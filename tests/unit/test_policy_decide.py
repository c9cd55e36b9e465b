from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.kernel import policy
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.policy import Allowed, Denied, Deny, Grant, NeedsApproval, Policy, Who

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DANA = Principal(
    issuer="https://i",
    subject="dana",
    kind=PrincipalKind.HUMAN,
    email="d@x",
    groups=frozenset({"eng"}),
)


class Fails:
    source = "broken"

    def __call__(self, facts: Any) -> bool:
        raise policy.ConditionError(self.source)


def ask(**changes: Any) -> policy.AccessRequest:
    return replace(
        policy.AccessRequest(
            principal=DANA, plane="databases", target="pg", role="app_read", ttl=None, reason=""
        ),
        **changes,
    )


def grant(name: str = "g", **changes: Any) -> Grant:
    return replace(
        Grant(
            name=name, who=Who(groups=frozenset({"eng"})), plane="databases", targets=("pg*",),
            roles=("app_read",), max_ttl=HOUR,
        ),
        **changes,
    )  # fmt: skip


def test_nothing_is_allowed_without_a_grant() -> None:
    decision = policy.decide(Policy(), ask(), NOW)

    assert isinstance(decision, Denied)
    assert "no grant covers" in decision.reasons[0]


def test_a_grant_allows_what_it_says_and_gives_its_time() -> None:
    rules = Policy(grants=(grant(),))

    assert policy.decide(rules, ask(), NOW) == Allowed(grant="g", ttl=HOUR, max_ttl=HOUR)
    asked = policy.decide(rules, ask(ttl=timedelta(minutes=5)), NOW)
    assert asked == Allowed(grant="g", ttl=timedelta(minutes=5), max_ttl=HOUR)
    for other in ({"plane": "terminals"}, {"target": "my"}, {"role": "app_write"}):
        assert isinstance(policy.decide(rules, ask(**other), NOW), Denied)


def test_too_long_is_denied_and_says_how_long_is_allowed() -> None:
    decision = policy.decide(Policy(grants=(grant(),)), ask(ttl=2 * HOUR), NOW)

    assert isinstance(decision, Denied)
    assert decision.alternatives == ("ask for 1h or less",)


def test_a_deny_wins() -> None:
    rules = Policy(grants=(grant(),), denies=(Deny(name="freeze", plane="databases"),))

    decision = policy.decide(rules, ask(), NOW)

    assert decision == Denied(reasons=("deny 'freeze' forbids it",))


def test_a_condition_that_fails_counts_against_the_caller() -> None:
    assert isinstance(policy.decide(Policy(grants=(grant(when=Fails()),)), ask(), NOW), Denied)
    denies = (Deny(name="d", plane="databases", when=Fails()),)
    assert isinstance(policy.decide(Policy(grants=(grant(),), denies=denies), ask(), NOW), Denied)


def test_the_longest_grant_answers_and_none_before_one_with_approval() -> None:
    approval = policy.Approval(count=1, groups=frozenset({"sre"}), expires=HOUR)
    long = grant("long", max_ttl=8 * HOUR, approval=approval)

    best = policy.decide(
        Policy(grants=(long, grant("a"), grant("b", max_ttl=2 * HOUR))), ask(), NOW
    )
    alone = policy.decide(Policy(grants=(long,)), ask(), NOW)

    assert isinstance(best, Allowed)
    assert best.grant == "b"
    assert isinstance(alone, NeedsApproval)


def test_a_denial_names_each_reason_and_what_would_be_allowed() -> None:
    rules = Policy(
        grants=(
            grant("weak"),
            grant("strong", roles=("app_write",), who=Who(groups=frozenset({"dba"}))),
        )
    )

    decision = policy.decide(rules, ask(role="app_write"), NOW)

    assert isinstance(decision, Denied)
    assert decision.reasons == ("grant 'strong' is for others",)
    assert decision.alternatives == ("role 'app_read' for up to 1h would be allowed",)


def test_every_field_of_who_must_match() -> None:
    who = Who(groups=frozenset({"eng", "x"}), emails=frozenset({"d@x"}), kinds=frozenset({"human"}))

    assert who.matches(DANA)
    assert not who.matches(replace(DANA, email="other"))
    assert not who.matches(replace(DANA, groups=frozenset()))
    assert not who.matches(replace(DANA, kind=PrincipalKind.WORKLOAD))
    assert not Who(issuers=frozenset({"https://o"})).matches(DANA)
    assert not Who(subjects=frozenset({"o"})).matches(DANA)


NAMES = st.sampled_from(["pg", "pg-2", "*", "my", "pg*", "app_read", "app_write"])
GRANTS = st.builds(
    grant,
    name=st.sampled_from(["a", "b"]),
    who=st.builds(Who, groups=st.frozensets(st.sampled_from(["eng", "dba"]), max_size=2)),
    targets=st.tuples(NAMES),
    roles=st.tuples(NAMES),
    max_ttl=st.timedeltas(timedelta(seconds=1), timedelta(days=1)),
    when=st.sampled_from([None, Fails()]),
)
DENIES = st.builds(
    Deny,
    name=st.just("d"),
    plane=st.just("databases"),
    targets=st.tuples(NAMES),
    roles=st.tuples(NAMES),
    when=st.sampled_from([None, Fails()]),
)
REQUESTS = st.builds(
    ask,
    target=st.sampled_from(["pg", "my"]),
    role=st.sampled_from(["app_read", "app_write"]),
    ttl=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=2)),
)


@given(st.lists(GRANTS, max_size=4), st.lists(DENIES, max_size=2), DENIES, REQUESTS)
def test_properties(
    grants: list[Grant], denies: list[Deny], more: Deny, request: policy.AccessRequest
) -> None:
    rules = Policy(grants=tuple(grants), denies=tuple(denies))
    decision = policy.decide(rules, request, NOW)

    if isinstance(decision, Allowed):
        fitting = [
            g for g in grants
            if g.when is None and g.who.matches(DANA)
            and policy.matches(g.targets, request.target) and policy.matches(g.roles, request.role)
        ]  # fmt: skip
        assert decision.ttl <= decision.max_ttl == max(g.max_ttl for g in fitting)
        assert request.ttl in (None, decision.ttl)
    else:
        stricter = replace(rules, denies=(*rules.denies, more))
        assert not isinstance(policy.decide(stricter, request, NOW), Allowed)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_pattern_without_a_star_matches_itself_alone(pattern: str, text: str) -> None:
    if "*" not in pattern:
        assert policy.matches([pattern], text) == (pattern == text)
    assert policy.matches(["*"], text)
