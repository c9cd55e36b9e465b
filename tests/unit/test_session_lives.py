"""The table of legal moves, walked by everything that may happen to a session, in any order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gatekeeper.kernel.session import ENDING, OPEN, TRANSITIONS, SessionStatus, may_move

S = SessionStatus

WOULD_BE = {
    "approved": S.PENDING, "turned down": S.DENIED, "made": S.READY, "not made": S.FAILED,
    "revoked": S.REVOKED, "over": S.EXPIRED,
}  # fmt: skip
"""What a session would become by what happens to it, if the table lets it."""


class Life(RuleBasedStateMachine):
    @initialize(first=st.sampled_from([S.AWAITING_APPROVAL, S.PENDING]))
    def asked_for(self, first: SessionStatus) -> None:
        self.lived = [first]
        self.has_login = False

    @rule(what=st.sampled_from(sorted(WOULD_BE)))
    def happens(self, what: str) -> None:
        self._move(WOULD_BE[what])

    @precondition(lambda self: self.lived[-1] in {S.PENDING, *ENDING})
    @rule()
    def a_login_is_made_also_late(self) -> None:
        self.has_login = True

    @rule()
    def it_is_proven_that_there_is_no_login(self) -> None:
        self.has_login = False
        self._move(S.CLEANED)

    def _move(self, to: SessionStatus) -> None:
        if may_move(self.lived[-1], to):
            self.lived.append(to)

    @invariant()
    def no_status_comes_back(self) -> None:
        assert len(set(self.lived)) == len(self.lived)

    @invariant()
    def access_that_ended_stays_ended(self) -> None:
        ended = [status not in OPEN for status in self.lived]
        assert ended == sorted(ended)

    @invariant()
    def what_may_have_a_login_is_not_over(self) -> None:
        if self.has_login:
            assert TRANSITIONS[self.lived[-1]]

    @invariant()
    def only_what_ended_is_cleaned(self) -> None:
        if self.lived[-1] is S.CLEANED:
            assert self.lived[-2] in ENDING

    @invariant()
    def the_end_can_be_reached_from_here(self) -> None:
        assert _reachable(self.lived[-1]) & {S.CLEANED, S.DENIED}


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


def _reachable(status: SessionStatus) -> set[SessionStatus]:
    found = {status}
    for to in TRANSITIONS[status]:
        found |= _reachable(to)
    return found


def test_every_status_is_reached_from_a_request() -> None:
    assert _reachable(S.AWAITING_APPROVAL) == set(SessionStatus)
