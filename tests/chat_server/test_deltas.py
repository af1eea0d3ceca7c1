from __future__ import annotations

import itertools
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server import deltas
from chat_server.deltas import COALESCE_S, Deltas
from chat_server.events import RunDelta, ServerEvent
from memory.messages import RunId

RUN = RunId("run")

pieces = st.text(alphabet=st.sampled_from("ab é👍👨‍👩‍👧\u0301\n"), min_size=1, max_size=6)
steps = st.lists(
    st.one_of(
        pieces.map(lambda piece: ("add", piece)),
        st.just(("flush", "")),
        st.floats(0, 2 * COALESCE_S).map(lambda passed: ("pass", str(passed))),
    ),
    max_size=40,
)


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deltas, "time", clock)
    return clock


class Published:
    """What was sent, and an event for each."""

    def __init__(self) -> None:
        self.events: list[RunDelta] = []
        self.arrived = anyio.Event()

    def __call__(self, event: ServerEvent) -> None:
        assert isinstance(event, RunDelta)
        self.events.append(event)
        self.arrived.set()

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events]


@given(steps)
async def test_offsets_fit_and_the_text_adds_up_whatever_is_flushed_when(
    taken: list[tuple[str, str]],
) -> None:
    clock, published = Clock(), Published()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deltas, "time", SimpleNamespace(monotonic=clock.monotonic))
        made = Deltas(RUN, published)
        for what, value in taken:
            if what == "add":
                made.add(value)
            elif what == "flush":
                made.flush()
            else:
                clock.now += float(value)
        made.flush()
    received = ""
    for event in published.events:
        assert (event.run, event.offset) == (RUN, len(received))
        assert event.text
        received += event.text
    assert received == "".join(value for what, value in taken if what == "add")


@settings(deadline=None)
@given(st.lists(st.floats(0, COALESCE_S), max_size=40))
async def test_pieces_alone_are_never_sent_more_often_than_the_eye_sees(
    pauses: list[float],
) -> None:
    clock, sent_at = Clock(), list[float]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deltas, "time", clock)
        made = Deltas(RUN, lambda _event: sent_at.append(clock.now))
        for pause in pauses:
            clock.now += pause
            made.add("x")
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent_at)]
    assert all(gap >= COALESCE_S for gap in gaps)


async def test_the_first_piece_is_sent_at_once_and_the_next_ones_in_company(clock: Clock) -> None:
    published = Published()
    made = Deltas(RUN, published)
    made.add("Once")
    assert published.texts == ["Once"]
    made.add(" upon")
    made.add(" a")
    assert published.texts == ["Once"]
    clock.now += 2 * COALESCE_S
    made.add(" time")
    assert published.texts == ["Once", " upon a time"]


async def test_a_piece_without_a_successor_is_sent_when_its_time_has_come() -> None:
    published = Published()
    made = Deltas(RUN, published)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.run)
            for text in ("one", "two", "three"):
                published.arrived = anyio.Event()
                made.add(text)
                await published.arrived.wait()
            tasks.cancel_scope.cancel()
    assert published.texts == ["one", "two", "three"]


async def test_what_waits_when_it_is_cancelled_can_still_be_flushed(clock: Clock) -> None:
    published = Published()
    made = Deltas(RUN, published)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        made.add("said")
        made.add(" and waiting")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    made.flush()
    assert published.texts == ["said", " and waiting"]


async def test_without_anything_to_send_nothing_is_sent() -> None:
    published = Published()
    Deltas(RUN, published).flush()
    assert published.events == []
