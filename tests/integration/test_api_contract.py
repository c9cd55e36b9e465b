"""The whole API against its own description: what it is sent is generated from openapi.json.

Never a 5xx, every answer as described, what is not valid refused, no token no answer. The
streams of events are left out here: they do not end (tests/integration/test_api.py and
test_terminal_api.py read them).
"""

import secrets
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)
from test_api import Api, api, body  # noqa: F401  # `api` is a fixture

from gatekeeper.client import operations
from gatekeeper.wire import terminals
from gatekeeper.wire.problems import PROBLEM_MEDIA_TYPE
from published.reference import REFERENCE

# The server runs in a thread of this process, and its pool draws jitter from `random`.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

INVALID: Final = "the request is not valid"
EXAMPLES: Final = 15
MANY_EXAMPLES: Final = 200

schema = schemathesis.openapi.from_path(
    REFERENCE / "openapi.json",
    # Tokens are ours; unknown query parameters are ignored, as is usual in HTTP.
    config=schemathesis.Config.from_dict(
        {"generation": {"with-security-parameters": False, "allow-extra-parameters": False}}
    ),
).exclude(operation_id=["sessionEvents", "terminalEvents"])
bounded = settings(
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
)


@schema.parametrize()
@bounded
def test_every_operation_keeps_to_its_description(case: Any, api: Api) -> None:  # noqa: F811
    check(case, api)


@pytest.mark.slow
@schema.parametrize()
@settings(bounded, derandomize=False, max_examples=MANY_EXAMPLES)
def test_every_operation_keeps_to_its_description_at_length(
    case: Any,
    api: Api,  # noqa: F811
) -> None:
    check(case, api)


def check(case: Any, api: Api) -> None:  # noqa: F811
    token = api.token("dana", "eng", "operators").reveal()
    headers = {"Authorization": f"Bearer {token}"}
    aim(case, api)
    answer = case.call(base_url=api.url, headers=headers)
    case.validate_response(answer, headers=headers, excluded_checks=foreseen(answer))


def aim(case: Any, api: Api) -> None:  # noqa: F811
    """Lead valid requests to what is there: a generated name hits no target and no session."""
    if case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "session_id" in case.path_parameters:
        case.path_parameters["session_id"] = ready_session(api)
    if "terminal_id" in case.path_parameters:
        case.path_parameters["terminal_id"] = ready_terminal(api)
    if isinstance(case.body, dict) and case.path.endswith("/wait"):
        case.body["seconds"] = 0  # nobody waits here for a text that does not come
    if isinstance(case.body, dict) and len(case.body.get("target") or "") == 1:
        case.body["target"] = "pg"
        if "role" in case.body:
            case.body["role"] = "app_read"


def ready_session(api: Api) -> str:  # noqa: F811
    with api.client("dana") as client:
        ready = client.call(operations.list_sessions(statuses=["ready"], mine=True, limit=1)).items
        if ready:
            return ready[0].session_id
        made = client.call(
            operations.create_session(body(), idempotency_key=secrets.token_hex(8), wait=10)
        )
        return made.session_id


def ready_terminal(api: Api) -> str:  # noqa: F811
    with api.client("dana") as client:
        ready = client.call(operations.list_terminals(statuses=["ready"], mine=True, limit=1)).items
        if ready:
            return ready[0].terminal_id
        wanted = terminals.CreateTerminal(ttl="5m")
        return client.call(
            operations.create_terminal(wanted, idempotency_key=secrets.token_hex(8), wait=10)
        ).terminal_id


def foreseen(answer: Any) -> list[Any]:
    """Say which checks an answer is not to be held to: no schema can say what these refuse."""
    if answer.headers["content-type"] != [PROBLEM_MEDIA_TYPE]:
        return []
    problem = answer.json()
    if problem["status"] in (400, 422) and problem["detail"] != INVALID:
        return [positive_data_acceptance]  # a cursor, a grant type or a role that there is not
    if problem["status"] == 413:
        return [negative_data_rejection]  # a refusal that this check does not know as one
    if problem["code"] == "AGENT_REJECTED" and "'nobody'" in problem["detail"]:
        return [not_a_server_error]  # the target "lost" of this fixture has no agent
    return []
