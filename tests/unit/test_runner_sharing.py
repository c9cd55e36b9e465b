"""Who gets which bytes, and who may type: whatever happens, in whatever order."""

from __future__ import annotations

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.protocol.sharing import Ring, Send, Sharing, Viewer

RING, WINDOW = 64, 16


def join(
    sharing: Sharing,
    subject: str = "dana",
    mode: Mode = Mode.WRITE,
    offset: int | None = None,
    *,
    acks: bool = True,
) -> Viewer:
    return sharing.join(subject=subject, name=subject, mode=mode, acks=acks, offset=offset)


def take_all(sharing: Sharing, viewer: Viewer) -> bytes:
    """Return what a viewer gets while it acknowledges everything."""
    got = b""
    while isinstance(send := sharing.next(viewer), Send):
        got += send.data
        sharing.sent(viewer, send)
        sharing.ack(viewer, send.offset + len(send.data))
    return got


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_a_ring_keeps_the_last_bytes_by_their_offsets(pieces: list[bytes]) -> None:
    ring, whole = Ring(RING), b"".join(pieces)
    for piece in pieces:
        ring.append(piece)

    assert (ring.start, ring.end) == (max(len(whole) - RING, 0), len(whole))
    for offset in range(ring.start, ring.end + 1):
        assert ring.read(offset, 7) == whole[offset : offset + 7]


class Delivery(RuleBasedStateMachine):
    """Output, acknowledgements, and cables pulled at any time, of one client that comes back.

    What it saw is always the stream: bytes from its offset on, or a screen and what follows it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sharing = Sharing(ring=RING, window=WINDOW)
        self.stream = b""
        self.viewer: Viewer | None = None
        self.has: int | None = None
        """The offset up to which the client has the stream."""
        self.on_its_way: list[Send | int] = []

    @rule(size=st.integers(1, 90))
    def write(self, size: int) -> None:
        data = bytes((len(self.stream) + n) % 251 for n in range(size))
        self.stream += data
        self.sharing.ring.append(data)

    @precondition(lambda self: self.viewer is None)
    @rule(mode=st.sampled_from([Mode.READ, Mode.WRITE]))
    def attach(self, mode: Mode) -> None:
        self.viewer = join(self.sharing, mode=mode, offset=self.has)
        kept = self.has is not None and self.has >= self.sharing.ring.start
        if kept:
            assert self.viewer.sent == self.has, "what is kept is never drawn anew"

    @precondition(lambda self: self.viewer is not None)
    @rule()
    def send(self) -> None:
        assert self.viewer is not None
        match self.sharing.next(self.viewer):
            case Send() as send:
                self.sharing.sent(self.viewer, send)
                self.on_its_way.append(send)
            case "draw":
                at = self.sharing.ring.end
                self.sharing.drawn(self.viewer, at)
                self.on_its_way.append(at)

    @precondition(lambda self: self.on_its_way)
    @rule()
    def arrive(self) -> None:
        assert self.viewer is not None
        match self.on_its_way.pop(0):
            case Send(offset, data):
                expected = 0 if self.has is None else self.has
                assert offset == expected, "lost, or repeated"
                assert data == self.stream[offset : offset + len(data)]
                self.has = offset + len(data)
            case int() as drawn:
                self.has = drawn
        assert self.sharing.ack(self.viewer, self.has)

    @precondition(lambda self: self.viewer is not None)
    @rule()
    def pull_the_cable(self) -> None:
        assert self.viewer is not None
        self.sharing.leave(self.viewer)
        self.viewer, self.on_its_way = None, []

    @invariant()
    def no_more_than_a_window_is_on_its_way_between_screens(self) -> None:
        sent = 0
        for one in self.on_its_way:
            sent = sent + len(one.data) if isinstance(one, Send) else 0
            assert sent <= WINDOW
        assert sum(isinstance(one, int) for one in self.on_its_way) <= 1

    @invariant()
    def nobody_who_only_watches_holds_the_terminal_up(self) -> None:
        if self.viewer is None or self.viewer.mode is Mode.READ:
            assert self.sharing.may_read()

    def teardown(self) -> None:
        """Everybody who goes on reading has it all in the end."""
        if self.viewer is None:
            return
        for _ in range(60):
            if self.on_its_way:
                self.arrive()
            else:
                self.send()
        assert self.has == len(self.stream) or not self.stream


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_first_client_gets_everything_from_the_start() -> None:
    sharing = Sharing(ring=RING, window=WINDOW)
    sharing.ring.append(b"motd")

    assert take_all(sharing, join(sharing)) == b"motd"


def test_a_late_client_is_drawn_a_screen_and_gets_what_follows() -> None:
    sharing = Sharing(ring=RING, window=WINDOW)
    take_all(sharing, join(sharing))
    sharing.ring.append(b"before")
    late = join(sharing, "eve", Mode.READ)

    assert sharing.next(late) == "draw"
    sharing.drawn(late, sharing.ring.end)
    sharing.ring.append(b"after")
    assert take_all(sharing, late) == b"after"


def test_a_screen_is_not_drawn_again_before_the_last_one_was_seen() -> None:
    sharing = Sharing(ring=RING, window=WINDOW)
    viewer = join(sharing, mode=Mode.READ)
    sharing.ring.append(b"x" * 200)
    assert sharing.next(viewer) == "draw"
    sharing.drawn(viewer, 200)
    sharing.ring.append(b"x" * 200)

    assert sharing.next(viewer) is None
    assert sharing.ack(viewer, 200)
    assert sharing.next(viewer) == "draw"


def test_the_holder_holds_the_terminal_up_by_its_window_and_no_longer() -> None:
    sharing = Sharing(ring=RING, window=WINDOW)
    holder = join(sharing)
    sharing.ring.append(b"x" * WINDOW)
    assert not sharing.may_read()
    send = sharing.next(holder)
    assert isinstance(send, Send)
    sharing.sent(holder, send)
    assert not sharing.may_read()

    sharing.ack(holder, 1)
    assert sharing.may_read()


def test_what_was_never_sent_is_not_acknowledged() -> None:
    sharing = Sharing(ring=RING, window=WINDOW)
    viewer = join(sharing)
    sharing.ring.append(b"x")

    assert not sharing.ack(viewer, 1)


def test_an_offset_from_the_future_is_drawn_a_screen() -> None:
    sharing = Sharing(ring=RING, window=WINDOW)

    assert sharing.next(join(sharing, offset=1)) == "draw"


Act = tuple[Literal["take", "release", "write"], int]
PEOPLE = [("dana", Mode.WRITE), ("dana", Mode.WRITE), ("eve", Mode.WRITE), ("olga", Mode.MODERATE), ("rob", Mode.READ)]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "release", "write"]), st.integers(0, len(PEOPLE) - 1)),
        max_size=20,
    )
)
def test_the_lease_goes_only_where_it_may(acts: list[Act]) -> None:
    sharing = Sharing()
    viewers = [join(sharing, subject, mode) for subject, mode in PEOPLE]
    for act, who in acts:
        before, viewer = sharing.holder, viewers[who]
        if act == "take":
            assert sharing.take(viewer) == (sharing.holder is viewer)
        elif act == "release":
            sharing.release(viewer)
        else:
            assert sharing.may_write(viewer) == (sharing.holder is viewer)

        after = sharing.holder
        assert after is None or after.mode is not Mode.READ
        if before is not None and after is not before:
            given_back = act == "release" and before is viewer
            may = viewer.mode is Mode.MODERATE or viewer.subject == before.subject
            assert given_back or (act == "take" and after is viewer and may)


def test_who_comes_back_has_the_input_again_though_the_old_socket_still_stands() -> None:
    sharing = Sharing()
    old = join(sharing)
    new = join(sharing)

    assert sharing.holder is new
    sharing.leave(old)
    assert sharing.holder is new
    join(sharing, "eve")
    assert sharing.holder is new


def test_a_moderator_does_not_take_the_input_by_looking() -> None:
    sharing = Sharing()
    moderator = join(sharing, "olga", Mode.MODERATE)

    assert sharing.holder is None
    assert sharing.may_write(moderator)
