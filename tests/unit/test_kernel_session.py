import itertools

from gatekeeper.kernel.session import ENDING, OPEN, TRANSITIONS, SessionStatus, may_move

S = SessionStatus


def test_every_status_has_a_row() -> None:
    assert set(TRANSITIONS) == set(SessionStatus)


def test_only_the_moves_of_the_table_are_legal() -> None:
    legal = {(a, b) for a, b in itertools.product(S, S) if may_move(a, b)}

    assert legal == {
        (S.AWAITING_APPROVAL, S.PENDING), (S.AWAITING_APPROVAL, S.DENIED),
        (S.AWAITING_APPROVAL, S.EXPIRED), (S.PENDING, S.READY), (S.PENDING, S.FAILED),
        (S.PENDING, S.REVOKED), (S.PENDING, S.EXPIRED), (S.READY, S.REVOKED),
        (S.READY, S.EXPIRED), (S.READY, S.ENDED), (S.ENDED, S.CLEANED), (S.FAILED, S.CLEANED), (S.REVOKED, S.CLEANED),
        (S.EXPIRED, S.CLEANED),
    }  # fmt: skip


def test_what_ended_is_only_cleaned_and_nothing_comes_back() -> None:
    for status in ENDING:
        assert TRANSITIONS[status] == {S.CLEANED}
    assert not TRANSITIONS[S.CLEANED]
    assert not TRANSITIONS[S.DENIED]
    assert not any(may_move(status, S.READY) for status in S if status is not S.PENDING)


def test_no_status_is_both_open_and_ending() -> None:
    assert not OPEN & ENDING
