from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.kernel import policy
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.policy import Allowed, Denied, Deny, Grant, NeedsApproval, Policy, Who
from gatekeeper.kernel.ttl import parse_ttl

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


class Longer:
    """A condition on the time that would be given."""

    def __init__(self, seconds: int) -> None:
        self.source = f"request.ttlSeconds > {seconds}"
        self._seconds = seconds

    def __call__(self, facts: Any) -> bool:
        return bool(facts["request.ttlSeconds"] > self._seconds)

    def __repr__(self) -> str:
        return self.source


class Shorter(Longer):
    def __call__(self, facts: Any) -> bool:
        return not super().__call__(facts)


def test_an_open_time_is_judged_as_the_time_it_would_get() -> None:
    """Else a condition on the time is passed by asking for none."""
    short_only = grant(max_ttl=4 * HOUR, when=Shorter(900))
    no_long = Deny(name="d", plane="databases", when=Longer(3600))

    assert isinstance(policy.decide(Policy(grants=(short_only,)), ask(), NOW), Denied)
    assert isinstance(
        policy.decide(Policy(grants=(short_only,)), ask(ttl=timedelta(minutes=5)), NOW), Allowed
    )
    rules = Policy(grants=(grant("long", max_ttl=4 * HOUR), grant("short")), denies=(no_long,))
    assert policy.decide(rules, ask(), NOW) == Allowed(grant="short", ttl=HOUR, max_ttl=HOUR)


def test_a_grant_with_approval_answers_what_is_too_long_for_the_others() -> None:
    approval = policy.Approval(count=1, groups=frozenset({"sre"}), expires=HOUR)
    rules = Policy(grants=(grant("short"), grant("long", max_ttl=8 * HOUR, approval=approval)))

    decision = policy.decide(rules, ask(ttl=2 * HOUR), NOW)

    assert isinstance(decision, NeedsApproval)
    assert decision.grant == "long"
    assert decision.alternatives == ("ask for 1h or less",)


def test_a_denial_says_when_a_condition_could_not_be_evaluated() -> None:
    rules = Policy(
        grants=(grant(when=Fails()),), denies=(Deny(name="d", plane="databases", when=Fails()),)
    )

    decision = policy.decide(rules, ask(), NOW)

    assert isinstance(decision, Denied)
    assert decision.reasons == (
        "deny 'd' forbids it: its condition could not be evaluated",
        "grant 'g' has a condition that could not be evaluated",
    )


def test_a_denied_role_still_shows_the_weaker_one() -> None:
    rules = Policy(
        grants=(grant(), grant("write", roles=("app_write",))),
        denies=(Deny(name="freeze", plane="databases", roles=("app_write",)),),
    )

    decision = policy.decide(rules, ask(role="app_write"), NOW)

    assert decision == Denied(
        reasons=("deny 'freeze' forbids it",),
        alternatives=("role 'app_read' for up to 1h would be allowed",),
    )


def test_of_two_grants_alike_the_same_one_answers_in_any_order() -> None:
    a, b = grant("a"), grant("b")

    for grants in ((a, b), (b, a)):
        decision = policy.decide(Policy(grants=grants), ask(), NOW)
        assert decision == Allowed(grant="a", ttl=HOUR, max_ttl=HOUR)


NAMES = st.sampled_from(["pg", "pg-2", "*", "my", "pg*", "app_read", "app_write"])
TIMES = st.sampled_from([timedelta(minutes=m) for m in (1, 15, 60, 240, 1440)])
CONDITIONS = st.sampled_from([None, Fails(), Longer(0), Longer(1800), Shorter(1800)])
WHO = st.builds(Who, groups=st.frozensets(st.sampled_from(["eng", "dba"]), max_size=2))
APPROVAL = policy.Approval(count=1, groups=frozenset({"sre"}), expires=HOUR)
GRANTS = st.builds(
    grant,
    name=st.uuids().map(str),
    who=WHO,
    targets=st.tuples(NAMES),
    roles=st.tuples(NAMES),
    max_ttl=TIMES,
    when=CONDITIONS,
    approval=st.sampled_from([None, None, APPROVAL]),
)
DENIES = st.builds(
    Deny,
    name=st.uuids().map(str),
    plane=st.just("databases"),
    who=WHO,
    targets=st.tuples(NAMES),
    roles=st.tuples(NAMES),
    when=CONDITIONS,
)
POLICIES = st.builds(
    lambda grants, denies: Policy(grants=tuple(grants), denies=tuple(denies)),
    st.lists(GRANTS, max_size=5),
    st.lists(DENIES, max_size=2),
)
REQUESTS = st.builds(
    ask,
    target=st.sampled_from(["pg", "my"]),
    role=st.sampled_from(["app_read", "app_write"]),
    ttl=st.none() | TIMES,
)


def rank(decision: policy.Decision) -> tuple[int, timedelta]:
    """How much a decision gives: nothing, a question to somebody else, a time."""
    match decision:
        case Allowed():
            return 2, decision.ttl
        case NeedsApproval():
            return 1, timedelta()
        case Denied():
            return 0, timedelta()


def fits(rule: Grant | Deny, request: policy.AccessRequest, ttl: timedelta) -> bool:
    """The rule read once more, in the plainest words."""
    met = rule.when is None or (
        not isinstance(rule.when, Fails) and rule.when({"request.ttlSeconds": ttl.total_seconds()})
    )
    if isinstance(rule, Deny):
        met = met or isinstance(rule.when, Fails)
    return (
        met
        and rule.who.matches(request.principal)
        and policy.matches(rule.targets, request.target)
        and policy.matches(rule.roles, request.role)
    )


@settings(deadline=None)
@given(POLICIES, REQUESTS)
def test_the_decision_is_what_the_rules_say_one_by_one(
    rules: Policy, request: policy.AccessRequest
) -> None:
    given_times = [
        (grant, ttl)
        for grant in rules.grants
        for ttl in (grant.max_ttl if request.ttl is None else request.ttl,)
        if ttl <= grant.max_ttl
        and fits(grant, request, ttl)
        and not any(fits(deny, request, ttl) for deny in rules.denies)
    ]
    free = [(grant, ttl) for grant, ttl in given_times if grant.approval is None]

    decision = policy.decide(rules, request, NOW)

    if free:
        assert rank(decision) == (2, max(ttl for _grant, ttl in free))
    else:
        assert rank(decision)[0] == (1 if given_times else 0)


@settings(deadline=None)
@given(POLICIES, REQUESTS)
def test_no_time_is_longer_than_its_grant_says(
    rules: Policy, request: policy.AccessRequest
) -> None:
    decision = policy.decide(rules, request, NOW)

    if isinstance(decision, Allowed):
        (named,) = [grant for grant in rules.grants if grant.name == decision.grant]
        assert decision.ttl <= decision.max_ttl == named.max_ttl
        assert request.ttl in (None, decision.ttl)
    else:
        assert decision.explain()
        assert all(decision.explain())
        assert len(set(decision.explain())) == len(decision.explain())


@settings(deadline=None)
@given(POLICIES, REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_rules_says_nothing(
    rules: Policy, request: policy.AccessRequest, shuffler: Any
) -> None:
    grants, denies = list(rules.grants), list(rules.denies)
    shuffler.shuffle(grants)
    shuffler.shuffle(denies)
    shuffled = replace(rules, grants=tuple(grants), denies=tuple(denies))

    assert policy.decide(shuffled, request, NOW) == policy.decide(rules, request, NOW)


@settings(deadline=None)
@given(POLICIES, DENIES, REQUESTS)
def test_one_more_deny_never_gives_more(
    rules: Policy, deny: Deny, request: policy.AccessRequest
) -> None:
    stricter = replace(rules, denies=(*rules.denies, deny))

    assert rank(policy.decide(stricter, request, NOW)) <= rank(policy.decide(rules, request, NOW))


@settings(deadline=None)
@given(POLICIES, GRANTS, REQUESTS)
def test_one_more_grant_never_gives_less(
    rules: Policy, more: Grant, request: policy.AccessRequest
) -> None:
    wider = replace(rules, grants=(more, *rules.grants))

    assert rank(policy.decide(wider, request, NOW)) >= rank(policy.decide(rules, request, NOW))


@settings(deadline=None)
@given(POLICIES, REQUESTS, st.integers(0, 2))
def test_a_deny_without_a_condition_wins_wherever_it_stands(
    rules: Policy, request: policy.AccessRequest, place: int
) -> None:
    denies = list(rules.denies)
    denies.insert(place, Deny(name="stop", plane="databases"))

    decision = policy.decide(replace(rules, denies=tuple(denies)), request, NOW)

    assert isinstance(decision, Denied)
    assert "deny 'stop' forbids it" in decision.reasons
    assert decision.alternatives == ()


@settings(deadline=None)
@given(POLICIES, REQUESTS)
def test_what_is_said_to_be_allowed_instead_is(
    rules: Policy, request: policy.AccessRequest
) -> None:
    decision = policy.decide(rules, request, NOW)

    alternatives = () if isinstance(decision, Allowed) else decision.alternatives
    for text in alternatives:
        words = text.split()
        if words[0] == "ask":
            other = replace(request, ttl=parse_ttl(words[2]))
        else:
            other = replace(request, role=words[1].strip("'"), ttl=None)
        assert isinstance(policy.decide(rules, other, NOW), Allowed), text


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_pattern_without_a_star_matches_itself_alone(pattern: str, text: str) -> None:
    if "*" not in pattern:
        assert policy.matches([pattern], text) == (pattern == text)
    assert policy.matches(["*"], text)
