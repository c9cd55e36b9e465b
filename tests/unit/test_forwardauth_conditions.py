"""The truth table of conditions, cell by cell; and what a backend's answer makes of it."""

import pytest

from factories.decisions import gate, request
from gatekeeper.forwardauth.model import BackendResponse, Outcome

TRUE = "request.method == 'GET'"
FALSE = "request.method == 'POST'"
ERROR = "request.headers['x-absent'] == 'a'"
NOT_BOOLEAN = "backend.body"
"""No value that is true or false: it is null here."""

TABLE = [
    ("errorWhen", TRUE, Outcome.ERROR),
    ("errorWhen", FALSE, Outcome.PASS),
    ("errorWhen", ERROR, Outcome.ERROR),
    ("errorWhen", NOT_BOOLEAN, Outcome.ERROR),
    ("failWhen", TRUE, Outcome.FAIL),
    ("failWhen", FALSE, Outcome.PASS),
    ("failWhen", ERROR, Outcome.ERROR),
    ("failWhen", NOT_BOOLEAN, Outcome.ERROR),
    ("whenAll", TRUE, Outcome.PASS),
    ("whenAll", FALSE, Outcome.FAIL),
    ("whenAll", ERROR, Outcome.ERROR),
    ("whenAll", NOT_BOOLEAN, Outcome.ERROR),
]


@pytest.mark.parametrize(("key", "condition", "outcome"), TABLE)
def test_a_cell_of_the_table(key: str, condition: str, outcome: Outcome) -> None:
    answer = gate({"conditions": {key: [condition]}}).ask(request())
    assert answer.outcome is outcome
    assert (answer.status == 200) is (outcome is Outcome.PASS)


@pytest.mark.parametrize(
    "alias", [("pass", "whenAll"), ("fail", "failWhen"), ("error", "errorWhen")]
)
def test_the_short_names_of_the_lists_mean_the_same(alias: tuple[str, str]) -> None:
    short, long = ({"conditions": {name: [FALSE, TRUE]}} for name in alias)
    assert gate(short).ask(request()).outcome is gate(long).ask(request()).outcome


ORDER = [
    ({"errorWhen": [TRUE], "failWhen": [TRUE], "whenAll": [TRUE]}, Outcome.ERROR),
    ({"failWhen": [TRUE], "whenAll": [TRUE]}, Outcome.FAIL),
    ({"failWhen": [FALSE, TRUE], "whenAll": [TRUE]}, Outcome.FAIL),
    ({"errorWhen": [FALSE], "failWhen": [FALSE], "whenAll": [TRUE]}, Outcome.PASS),
    ({"failWhen": [ERROR], "whenAll": [TRUE]}, Outcome.ERROR),
    ({"failWhen": [TRUE, ERROR]}, Outcome.FAIL),
    ({"failWhen": [ERROR, TRUE]}, Outcome.ERROR),
    ({"whenAll": [TRUE, TRUE]}, Outcome.PASS),
    ({"whenAll": [TRUE, FALSE]}, Outcome.FAIL),
    ({"whenAll": [FALSE, ERROR]}, Outcome.FAIL),
    ({"whenAll": [ERROR, FALSE]}, Outcome.ERROR),
    ({}, Outcome.PASS),
]


@pytest.mark.parametrize(("conditions", "outcome"), ORDER)
def test_error_is_judged_before_fail_before_pass(
    conditions: dict[str, list[str]], outcome: Outcome
) -> None:
    assert gate({"conditions": conditions}).ask(request()).outcome is outcome


@pytest.mark.parametrize("last", [TRUE, FALSE, ERROR, NOT_BOOLEAN])
@pytest.mark.parametrize("first", [TRUE, FALSE, ERROR, NOT_BOOLEAN])
def test_the_first_that_does_not_hold_says_what_it_is_worth(first: str, last: str) -> None:
    def told(sources: list[str]) -> tuple[Outcome, str]:
        answer = gate({"conditions": {"whenAll": sources}}).ask(request())
        return answer.outcome, answer.reason

    assert told([first, last]) == (told([last]) if first == TRUE else told([first]))


def test_conditions_are_judged_apart_when_they_are_too_long_together() -> None:
    long = f"request.path != '{'a' * 3_000}'"
    assert gate({"conditions": {"whenAll": [long, long]}}).ask(request()).outcome is Outcome.PASS
    answer = gate({"conditions": {"whenAll": [long, FALSE, long]}}).ask(request())
    assert answer.outcome is Outcome.FAIL


def test_a_comment_ends_with_its_condition() -> None:
    both = ["request.method == 'GET' // or 'HEAD')", FALSE]
    assert gate({"conditions": {"whenAll": both}}).ask(request()).outcome is Outcome.FAIL
    assert gate({"conditions": {"whenAll": both[:1] * 2}}).ask(request()).outcome is Outcome.PASS


NO_ANSWER = BackendResponse(error="connection refused")
ANSWERS = [
    (BackendResponse(status=200), {}, Outcome.PASS),
    (BackendResponse(status=200), {"whenAll": [FALSE]}, Outcome.FAIL),
    (BackendResponse(status=404), {}, Outcome.FAIL),
    (BackendResponse(status=404), {"whenAll": ["backend.status == 404"]}, Outcome.FAIL),
    (BackendResponse(status=204), {"whenAll": [TRUE]}, Outcome.FAIL),
    (BackendResponse(status=500), {}, Outcome.ERROR),
    (BackendResponse(status=503), {"whenAll": [TRUE]}, Outcome.ERROR),
    (BackendResponse(status=503), {"failWhen": ["backend.status == 503"]}, Outcome.FAIL),
    (NO_ANSWER, {}, Outcome.ERROR),
    (NO_ANSWER, {"whenAll": [TRUE]}, Outcome.ERROR),
    (NO_ANSWER, {"whenAll": [FALSE]}, Outcome.ERROR),
    (NO_ANSWER, {"failWhen": ["backend.error != ''"]}, Outcome.FAIL),
    (
        BackendResponse(status=200, body={"ok": True}),
        {"whenAll": ["backend.body.ok"]},
        Outcome.PASS,
    ),
    (BackendResponse(status=200, body={"ok": 1}), {"whenAll": ["backend.body.ok"]}, Outcome.ERROR),
    (BackendResponse(status=200, body={}), {"whenAll": ["backend.body.ok"]}, Outcome.ERROR),
    (
        BackendResponse(status=200, body=None),
        {"whenAll": ["lookup(backend.body, 'ok') == null"]},
        Outcome.PASS,
    ),
]


@pytest.mark.parametrize(("response", "conditions", "outcome"), ANSWERS)
def test_what_a_backend_answered_is_judged(
    response: BackendResponse, conditions: dict[str, list[str]], outcome: Outcome
) -> None:
    rule = {"backendApi": {"url": "https://facts.example/x"}, "conditions": conditions}
    assert gate(rule, outside=lambda _: response).ask(request()).outcome is outcome
