"""Agent 5 and what surrounds it: the order of rules, quarantine, and what goes wrong midway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from factories.decisions import ANYBODY, BEARER, Gate, bearer, compiled, endpoint, request
from fakes.backends import answered
from gatekeeper.forwardauth.model import Outcome, Rejected

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import BackendResponse, Effect


def asking(name: str, **more: Any) -> dict[str, Any]:
    return {"backendApi": {"url": f"https://facts.example/{name}"}, **more}


def called(gate: Gate) -> list[str]:
    return [call.url.rpartition("/")[2] for call in gate.calls]


@pytest.mark.parametrize(
    ("statuses", "outcome", "calls"),
    [
        ([200, 200, 200], Outcome.PASS, ["a", "b", "c"]),
        ([200, 404, 200], Outcome.FAIL, ["a", "b"]),
        ([200, 500, 200], Outcome.ERROR, ["a", "b"]),
        ([404, 500, 200], Outcome.FAIL, ["a"]),
        ([500, 404, 200], Outcome.ERROR, ["a"]),
    ],
)
def test_rules_run_in_order_for_as_long_as_each_passes(
    statuses: list[int], outcome: Outcome, calls: list[str]
) -> None:
    answers = iter(statuses)

    def outside(_: Effect) -> BackendResponse:
        return answered({}, status=next(answers))

    rules = {name: asking(name) for name in ("c", "b", "a")}
    gate = Gate({"endpoints": {"api": endpoint("a", "b", "c")}, "rules": rules}, outside=outside)
    answer = gate.ask(request())
    assert (answer.outcome, called(gate)) == (outcome, calls)
    if outcome is not Outcome.PASS:
        assert answer.reason.startswith(f"{calls[-1]}: ")


def test_a_rule_that_two_endpoints_use_is_one_rule_and_keeps_their_policies_apart() -> None:
    rule = {"conditions": {"whenAll": ["vars.global.who == request.headers['x-who']"]}}
    gate = Gate(
        {
            "endpoints": {
                "api": endpoint("rule", variables={"who": "'a'"}),
                "web": endpoint("rule", variables={"who": "'b'"}),
            },
            "rules": {"rule": rule},
        }
    )
    one = gate.plans["api"].chain.rules[0]
    assert one is gate.plans["web"].chain.rules[0]
    for name, who, outcome in (("api", "a", "pass"), ("api", "b", "fail"), ("web", "b", "pass")):
        assert gate.ask(request(headers={"x-who": who}), endpoint=name).outcome == outcome


BROKEN = {"conditions": {"whenAll": ["request.metod == 'GET'"]}}


def test_only_what_needs_a_broken_definition_is_quarantined() -> None:
    found = compiled(
        {
            "endpoints": {
                "good": endpoint("good"),
                "two": endpoint("good", "bad", "worse", "bad"),
                "absent": endpoint("good", "nobody"),
                "wrong": endpoint("good", variables={"a": "nonsense"}),
            },
            "rules": {"good": {}, "bad": BROKEN, "worse": BROKEN},
        }
    )
    generation = found.generation
    assert set(generation.plans) == {"good"}
    assert generation.quarantined == {"two", "absent", "wrong"}
    reasons = {(one.kind, one.name): one.reason for one in generation.skipped}
    assert reasons["endpoint", "two"] == "missing rule dependencies: bad, worse"
    assert reasons["endpoint", "absent"] == "missing rule dependencies: nobody"
    assert reasons["rule", "bad"].startswith("rules.bad.conditions.whenAll.0: ")
    assert reasons["endpoint", "wrong"].startswith("endpoints.wrong.variables.a: ")
    assert {fault.where[1] for fault in found.faults} == {"bad", "worse", "wrong"}
    assert len(generation.unready()) == len(reasons) == 5


def test_everything_wrong_with_a_definition_is_told_at_once() -> None:
    rule = {
        "conditions": {"whenAll": ["nonsense", "1 + 1"]},
        "variables": {"a": "also.nonsense"},
        "auth": [{"match": [{"type": "bearer", "value": ["/(/", "/ok/"]}]}],
        "backendApi": {"url": "https://{{ request.host }}/", "headers": {"x-a": "{{ x"}},
    }
    places = {fault.where[2:] for fault in compiled({"rules": {"rule": rule}}).faults}
    assert places == {
        ("conditions", "whenAll", 0),
        ("conditions", "whenAll", 1),
        ("variables", "a"),
        ("auth", 0, "match", 0, "value"),
        ("backendApi", "url"),
        ("backendApi", "headers", "x-a"),
    }


def test_without_an_endpoint_nothing_is_ready() -> None:
    assert compiled({}).generation.unready() == ("no endpoint is configured",)
    good = compiled({"endpoints": {"api": endpoint("good")}, "rules": {"good": {}}})
    assert good.generation.unready() == ()


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("rules.second.a", "first reads rules.second.a: this rule has not run by then"),
        ("rules.first.a", "first reads rules.first.a: this rule has not run by then"),
        ("response.a", "first reads response.a: no rule that has run by then exports it"),
    ],
)
def test_a_rule_cannot_read_what_runs_later(read: str, message: str) -> None:
    exports = {"responses": {"pass": {"variables": {"a": "1"}}}}
    rules = {"first": {"conditions": {"whenAll": [f"{read} == 1"]}}, "second": exports}
    found = compiled({"endpoints": {"api": endpoint("first", "second")}, "rules": rules})
    assert [fault.message for fault in found.faults] == [message]
    other = compiled({"endpoints": {"api": endpoint("second", "first")}, "rules": rules})
    assert (not other.faults) is (read != "rules.first.a")


def test_a_later_rule_reads_only_what_is_exported_when_a_rule_passes() -> None:
    rules = {
        "first": {"responses": {"fail": {"variables": {"a": "1"}}}},
        "second": {"conditions": {"whenAll": ["rules.first.a == 1"]}},
    }
    found = compiled({"endpoints": {"api": endpoint("first", "second")}, "rules": rules})
    (fault,) = found.faults
    assert fault.message == "second reads rules.first.a: the rule does not export it"
    assert fault.where == ("endpoints", "api", "rules", 1)


def test_the_session_of_the_caller_is_asked_for_with_the_callers_token() -> None:
    rule = {"conditions": {"whenAll": ["session.live"]}}
    gate = Gate(
        {
            "endpoints": {"api": endpoint("rule", authentication={"allow": {"authorization": ["bearer"], "none": True}})},
            "rules": {"rule": rule},
        },
        outside=lambda _effect: (),
    )  # fmt: skip
    assert gate.ask(request()).outcome is Outcome.FAIL
    assert not gate.effects
    assert gate.ask(request(headers=bearer("t"))).outcome is Outcome.FAIL
    assert [getattr(effect, "token", None) for effect in gate.effects] == ["t"]
    assert ANYBODY["allow"]["none"] is True


@pytest.mark.parametrize(
    ("status", "outcome"), [(401, Outcome.FAIL), (403, Outcome.ERROR), (503, Outcome.ERROR)]
)
def test_a_token_that_gatekeeper_does_not_know_holds_no_session(
    status: int, outcome: Outcome
) -> None:
    """Any stranger can bring one: that is a refusal. Where nothing is known it is an error."""
    gate = Gate(
        {
            "endpoints": {"api": endpoint("rule", authentication=BEARER)},
            "rules": {"rule": {"conditions": {"whenAll": ["session.live"]}}},
        },
        outside=lambda _effect: Rejected(status, "why"),
    )
    assert gate.ask(request(headers=bearer("t"))).outcome is outcome
