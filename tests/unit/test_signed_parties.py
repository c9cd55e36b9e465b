"""Parties to signed messages: a question is for one reader, an answer is of whoever was asked."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.kernel.errors import Refusal
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import Opened
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.random import SystemRandom

KEYS = {name: Ed25519PrivateKey.generate() for name in ("plane", "agent", "other")}


def party(name: str) -> Party:
    """Make a party that knows everybody."""
    return Party(
        name=name,
        key=KEYS[name],
        trusted={name: (key.public_key(),) for name, key in KEYS.items()},
        clock=SystemClock(),
        random=SystemRandom(),
    )


def heard(message: Opened | Refusal) -> Opened:
    assert isinstance(message, Opened), message
    return message


def why(message: Opened | Refusal) -> str:
    assert isinstance(message, Refusal)
    return message.detail.removeprefix("the message is refused: ")


def test_a_question_and_its_answers_are_heard_once() -> None:
    plane, agent = party("plane"), party("agent")
    question = plane.ask(b"do it", reader="agent", purpose="job")

    opened = heard(agent.open(question.envelope, "job"))
    answers = [agent.answer(payload, opened) for payload in (b"done", b"that too")]
    said = [heard(plane.open_answer(answer, question)) for answer in answers]

    assert (opened.payload, opened.sender) == (b"do it", "plane")
    assert [(one.payload, one.sender) for one in said] == [
        (b"done", "agent"),
        (b"that too", "agent"),
    ]
    again = "it was seen before, or too many were"
    assert why(agent.open(question.envelope, "job")) == again
    assert why(plane.open_answer(answers[0], question)) == again


def test_a_question_is_for_its_reader_and_purpose_alone() -> None:
    question = party("plane").ask(b"", reader="agent", purpose="job")

    assert why(party("other").open(question.envelope, "job")) == "it is meant for another reader"
    assert why(party("agent").open(question.envelope, "poll")) == "it serves another purpose"


def test_an_answer_is_about_one_question() -> None:
    plane, agent = party("plane"), party("agent")
    first, second = (plane.ask(b"", reader="agent", purpose="report") for _ in range(2))

    answer = agent.answer(b"", heard(agent.open(first.envelope, "report")))

    assert why(plane.open_answer(answer, second)) == "it answers another message"


@pytest.mark.parametrize("claimed", ["other", "agent"])
def test_nobody_answers_for_whoever_was_asked(claimed: str) -> None:
    """Though it overheard the question, and is trusted with questions of its own."""
    plane = party("plane")
    question = plane.ask(b"", reader="agent", purpose="job")
    overheard = heard(party("agent").open(question.envelope, "job"))
    liar = Party(
        name=claimed, key=KEYS["other"], trusted={}, clock=SystemClock(), random=SystemRandom()
    )

    answer = liar.answer(b"", overheard)

    assert why(plane.open_answer(answer, question)) == "it is not signed by a key we trust"
