import json
import pickle

import pytest
from pydantic import BaseModel, ValidationError

from gatekeeper.kernel.secret import Secret

CANARY = "canary-Qx7"


class Holder(BaseModel):
    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{:>40}".format,
        lambda s: f"{s!r}",
        lambda s: repr([s]),
        lambda s: repr(Holder(secret=s)),
        lambda s: Holder(secret=s).model_dump_json(),
        lambda s: repr(Holder(secret=s).model_dump(mode="json")),
    ],
)
def test_no_way_of_showing_it_shows_it(show: "object") -> None:
    assert CANARY not in show(Secret(CANARY))  # type: ignore[operator]


def test_it_is_revealed_on_request() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_it_is_neither_pickled_nor_written_as_json() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(Secret(CANARY))
    with pytest.raises(TypeError):
        json.dumps(Secret(CANARY))


def test_secrets_are_equal_by_value_only_to_secrets() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


def test_a_wrong_type_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValidationError, match="given as text"):
        Holder.model_validate({"secret": 12})


def test_a_model_reads_it_from_text_and_from_itself() -> None:
    assert Holder.model_validate({"secret": CANARY}).secret == Secret(CANARY)
    assert Holder(secret=Secret(CANARY)).secret == Secret(CANARY)
