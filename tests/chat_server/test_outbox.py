from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ChatError
from chat_server.events import RunDelta
from chat_server.frames import Frame, frame_of
from chat_server.outbox import MERGED_CHARS, Outbox, merged
from memory.messages import RunId

MOST_BYTES = 40


def lasting(text: str) -> Frame:
    return Frame(text.encode())


def piece(run: str, offset: int, text: str) -> Frame:
    return frame_of(RunDelta(run=RunId(run), offset=offset, text=text))


def spared() -> Frame:
    return Frame(b'{"type":"run.memories"}', ephemeral=True)


def told(frame: Frame) -> tuple[str, int, str]:
    delta = msgspec.json.decode(frame.payload, type=RunDelta)
    return delta.run, delta.offset, delta.text


class Wire:
    """Takes frames until ``room`` of them are there; what it took stands in ``taken``."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.taken: list[Frame] = []
        self.left = 0
        self.on_ready: Callable[[], None] | None = None

    @property
    def ready(self) -> bool:
        return len(self.taken) - self.left < self.room

    @property
    def waiting_bytes(self) -> int:
        return sum(len(frame) for frame in self.taken[self.left :])

    def write_frame(self, frame: Frame) -> None:
        self.taken.append(frame)

    def write_frames(self, frames: Sequence[Frame]) -> None:
        self.taken.extend(frames)

    def read(self) -> None:
        """What was written has left."""
        self.left = len(self.taken)
        assert self.on_ready is not None
        self.on_ready()


texts = st.text(alphabet=st.sampled_from("ab€👍"), max_size=8)
steps = st.lists(st.one_of(texts, st.none()), max_size=60)
"""A frame is put; ``None``: the oldest one is taken and written."""


@settings(deadline=None)
@given(steps)
async def test_frames_leave_in_order_and_never_more_than_fits_is_waiting(
    taken: list[str | None],
) -> None:
    outbox = Outbox(MOST_BYTES)
    waiting: deque[Frame] = deque()
    for step in taken:
        if step is None:
            if waiting:
                assert await outbox.take() is waiting.popleft()
                outbox.written()
            continue
        frame = lasting(step)
        outbox.put(frame)
        if sum(map(len, waiting)) + len(frame) > MOST_BYTES:
            reason = await outbox.closed()
            assert reason is not None
            assert reason.code == "slow_client"
            await outbox.drained()
            return
        waiting.append(frame)
    for frame in waiting:
        assert await outbox.take() is frame
        outbox.written()
    await outbox.drained()


runs = st.sampled_from(["one", "two"])
puts = st.lists(
    st.one_of(st.tuples(runs, st.text(max_size=6)), st.just("read"), st.just("lasting")),
    max_size=80,
)


@settings(deadline=None)
@given(puts, st.integers(1, 3))
def test_a_slow_reader_gets_every_piece_and_every_lasting_event_in_order(
    taken: list[tuple[str, str] | str], room: int
) -> None:
    wire = Wire(room)
    outbox = Outbox(wire=wire)
    said = {"one": "", "two": ""}
    numbers = 0
    for step in taken:
        if step == "read":
            wire.read()
        elif step == "lasting":
            outbox.put(lasting(f"{numbers} {len(said['one'])} {len(said['two'])}"))
            numbers += 1
        elif isinstance(step, tuple):
            run, text = step
            outbox.put(piece(run, len(said[run]), text))
            said[run] += text
    while not outbox.is_empty:
        wire.read()
    heard = {"one": "", "two": ""}
    seen = 0
    for frame in wire.taken:
        if frame.delta is not None:
            run, offset, text = told(frame)
            assert offset == len(heard[run])
            heard[run] += text
        else:
            number, one, two = map(int, frame.payload.split())
            assert number == seen
            seen += 1
            # A piece that came before it is not told after it.
            assert len(heard["one"]) >= one
            assert len(heard["two"]) >= two
    assert heard == said
    assert seen == numbers


def test_a_ready_wire_takes_the_very_frame_at_once() -> None:
    wire = Wire()
    outbox, frame = Outbox(wire=wire), lasting("shared")
    outbox.put(frame)
    assert wire.taken == [frame]
    assert outbox.is_empty


def test_pieces_that_wait_are_merged_when_the_wire_is_ready_again() -> None:
    wire = Wire(room=1)
    outbox = Outbox(wire=wire)
    outbox.put(lasting("first"))
    for offset, text in enumerate("abc"):
        outbox.put(piece("run", offset, text))
    wire.read()
    assert told(wire.taken[1]) == ("run", 0, "abc")


def test_pieces_of_two_replies_are_merged_each_but_not_across_a_lasting_event_or_a_gap() -> None:
    frames = [
        piece("one", 0, "a"),
        piece("two", 0, "x"),
        piece("one", 1, "b"),
        spared(),
        piece("two", 1, "y"),
        lasting("{}"),
        piece("one", 2, "c"),
        piece("one", 5, "f"),
    ]
    found = list(merged(frames))
    assert [told(frame) if frame.delta else None for frame in found] == [
        ("one", 0, "ab"),
        ("two", 0, "xy"),
        None,
        None,
        ("one", 2, "c"),
        ("one", 5, "f"),
    ]


def test_a_merged_frame_stays_below_the_largest_one_whatever_is_in_it() -> None:
    text = "\x01" * 4_096  # six bytes each in JSON
    frames = [piece("run", 4_096 * number, text) for number in range(5)]
    found = list(merged(frames))
    assert all(len(frame) < 65_536 for frame in found)
    assert max(len(told(frame)[2]) for frame in found) == MERGED_CHARS


def test_without_room_pieces_are_merged_then_dropped_then_the_client_is_sent_away() -> None:
    wire = Wire(room=1)
    outbox = Outbox(1_000, wire)
    outbox.put(lasting("x" * 100))  # it lies in the wire and counts
    for offset in range(200):  # 12 kB as they come, a few hundred bytes merged
        outbox.put(piece("run", offset, "x"))
    assert not outbox.is_closed
    outbox.put(lasting("y" * 700))
    assert not outbox.is_closed
    outbox.put(lasting("z" * 150))
    assert not outbox.is_closed
    wire.read()
    assert wire.taken[1].payload == b"y" * 700  # the pieces are gone; run.done tells them again
    outbox.put(lasting("0" * 900))
    outbox.put(lasting("1" * 900))
    assert outbox.closed_for is not None
    assert outbox.closed_for.code == "slow_client"
    assert outbox.is_empty


def test_what_was_missed_counts_for_nothing_until_it_was_written() -> None:
    wire = Wire(room=1)
    outbox = Outbox(20_000, wire)
    missed = [lasting(str(number) * 6_000) for number in range(9)]
    outbox.put_missed(missed)
    outbox.put(lasting("new"))
    while not outbox.is_empty:
        wire.read()
    assert wire.taken[:9] == missed
    assert not outbox.is_closed
    wire.room = 0
    outbox.put(lasting("a" * 12_000))
    outbox.put(lasting("b" * 12_000))
    assert outbox.is_closed


async def test_a_frame_counts_until_it_was_written() -> None:
    outbox = Outbox(10)
    outbox.put(lasting("12345678"))
    assert (await outbox.take()).payload == b"12345678"
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await outbox.drained()
    outbox.put(lasting("abc"))
    reason = await outbox.closed()
    assert reason is not None
    assert reason.code == "slow_client"
    assert reason.retryable


async def test_a_frame_that_was_taken_in_vain_is_taken_again() -> None:
    outbox = Outbox()
    with anyio.move_on_after(0.01):
        await outbox.take()
    frame = lasting("kept")
    outbox.put(frame)
    assert await outbox.take() is frame
    assert await outbox.take() is frame


async def test_a_waiting_reader_is_woken_by_a_frame() -> None:
    outbox, received = Outbox(), list[bytes]()

    async def read() -> None:
        received.append((await outbox.take()).payload)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            outbox.put(lasting("hello"))
    assert received == [b"hello"]


async def test_after_the_end_nothing_is_taken_in_and_the_first_reason_holds() -> None:
    outbox, ends = Outbox(), list[str]()
    outbox.on_closed = lambda: ends.append("closed")
    outbox.put(lasting("before"))
    outbox.close(None)
    outbox.close(ChatError("internal", "too late"))
    outbox.put(lasting("after"))
    assert await outbox.closed() is None
    assert ends == ["closed"]
    assert (await outbox.take()).payload == b"before"
    outbox.written()
    await outbox.drained()
