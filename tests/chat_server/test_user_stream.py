from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chat_server.outbox import Outbox
from chat_server.user_stream import UserStream
from memory.live.broker import Position


class Listener(Outbox):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[dict[str, object]] = []

    def put(self, frame: object) -> None:
        self.got.append(msgspec.json.decode(frame.payload))  # type: ignore[attr-defined]  # a Frame


def stream_at(epoch: str, seq: int) -> tuple[UserStream, Listener]:
    stream, listener = UserStream(lambda: 0.0), Listener()
    stream.follow(Position(epoch, seq))
    stream.outboxes.add(listener)
    return stream, listener


def event(number: int) -> bytes:
    return b'{"type":"e","n":%d}' % number


@given(st.permutations(list(range(1, 9))), st.lists(st.integers(1, 8), max_size=8))
def test_events_leave_once_and_in_order_however_they_arrive(
    order: list[int], again: list[int]
) -> None:
    stream, listener = stream_at("e", 0)
    for seq in [*again, *order]:
        stream.arrive(Position("e", seq), event(seq))
    assert [frame["seq"] for frame in listener.got] == list(range(1, 9))
    assert all(frame["n"] == frame["seq"] for frame in listener.got)
    assert not stream.has_gap


def test_a_gap_is_known_until_it_is_filled() -> None:
    stream, listener = stream_at("e", 4)
    stream.arrive(Position("e", 6), event(6))
    assert stream.has_gap
    assert not listener.got
    stream.arrive(Position("e", 5), event(5))
    assert not stream.has_gap
    assert stream.position == Position("e", 6)


def test_another_numbering_is_followed_and_the_last_one_is_not_believed_any_more() -> None:
    stream, listener = stream_at("old", 7)
    stream.arrive(Position("new", 3), event(3))
    assert listener.got == [
        {"type": "reset", "epoch": "new", "seq": 2},
        {"seq": 3, "type": "e", "n": 3},
    ]
    stream.arrive(Position("old", 8), event(8))
    assert stream.position == Position("new", 3)


def test_alone_events_are_numbered_here_until_the_broker_is_back_with_what_it_had() -> None:
    stream, listener = stream_at("shared", 7)
    stream.stand_alone()
    own = stream.epoch
    stream.add(event(1))
    stream.stand_alone()
    stream.add(event(2))
    assert stream.position == Position(own, 2)
    assert [frame["type"] for frame in listener.got] == ["reset", "e", "e"]
    stream.arrive(Position("shared", 8), event(8))
    assert stream.position == Position("shared", 8)
    assert [frame["type"] for frame in listener.got][3:] == ["reset", "e"]


def test_a_stream_that_forgets_goes_on_counting() -> None:
    stream = UserStream(lambda: 0.0)
    stream.add(b'{"type":"x"}')
    epoch = stream.epoch
    stream.forget()
    assert (stream.epoch, stream.log.seq, stream.log.since(0)) == (epoch, 1, None)
    stream.add(b'{"type":"x"}')
    assert len(stream.log.since(1) or ()) == 1
