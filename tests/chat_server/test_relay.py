"""Several processes of one server on one hub: whatever is lost between them, no tab has a hole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.courier import Courier
from chat_server.errors import ChatError
from chat_server.events import Ok, RunDelta, RunStarted
from chat_server.fanout import Fanout
from chat_server.outbox import Outbox
from chat_server.protocol import ResumePoint
from chat_server.relay import Relay
from memory.live.broker import Entered, NodeId, Position
from memory.live.in_process_broker import Hub, InProcessBroker
from memory.messages import ConversationId, MessageId, RunId, UserId

ANN = UserId("ann")
NODES = 3
TABS = 4


class Process:
    """One process's fan-out on the hub."""

    def __init__(self, hub: Hub, name: str, tasks: anyio.abc.TaskGroup) -> None:
        self.broker = InProcessBroker(hub, NodeId(name))
        self.courier = Courier(self.broker, tasks)
        self.fanout = Fanout()
        self.relay = Relay(self.broker, self.courier, self.fanout.streams, retry_s=0.01)
        self.fanout.elsewhere = self.relay
        self.courier.on_missed = self.relay.upkeep.compare_all
        for task in (
            self.courier.run_sender,
            self.courier.run_receiver,
            self.relay.run_publisher,
            self.relay.upkeep.run,
        ):
            tasks.start_soon(task)


@asynccontextmanager
async def processes(count: int = NODES) -> AsyncIterator[tuple[Hub, list[Process]]]:
    hub = Hub()
    async with anyio.create_task_group() as tasks:
        yield hub, [Process(hub, f"n{number}", tasks) for number in range(count)]
        tasks.cancel_scope.cancel()


class Tab:
    """A client that follows the protocol: what it has seen, and whether that can be right."""

    def __init__(self, published: list[str]) -> None:
        self._published = published
        self._read_of = 0
        self.stack: AsyncExitStack | None = None
        self.outbox = Outbox()
        self.place: ResumePoint | None = None
        self.seen: list[str] = []
        """The runs that were announced since it last had to read over HTTP."""
        self.began_at = 0

    async def come(self, process: Process) -> None:
        self.outbox, self.stack = Outbox(), AsyncExitStack()
        joined = await self.stack.enter_async_context(
            process.fanout.joined(ANN, self.outbox, self.place)
        )
        if not joined.resumed:
            self._read_all(joined.epoch, joined.seq)
        for frame in joined.missed:
            self.outbox.put(frame)

    def _read_all(self, epoch: str, seq: int) -> None:
        self.place, self.began_at = ResumePoint(epoch, seq), seq
        self._read_of = len(self._published)
        self.seen.clear()

    @property
    def unheard(self) -> set[str]:
        """What was published since it last read over HTTP, and never arrived."""
        return set(self._published[self._read_of :]) - set(self.seen)

    async def leave(self) -> None:
        await self.read()
        if self.stack is not None:
            await self.stack.aclose()
            self.stack = None

    async def read(self) -> None:
        with anyio.move_on_after(0):
            while True:
                self._take(msgspec.json.decode((await self.outbox.take()).payload))
                self.outbox.written()

    def _take(self, frame: dict[str, object]) -> None:
        assert self.place is not None
        if frame["type"] == "reset":
            self._read_all(str(frame["epoch"]), int(str(frame["seq"])))
        elif "seq" in frame:
            assert frame["seq"] == self.place.seq + 1, "a hole, or one event twice"
            self.place = ResumePoint(self.place.epoch, self.place.seq + 1)
            self.seen.append(str(frame["run"]))


def started(number: int) -> RunStarted:
    return RunStarted(
        run=RunId(f"r{number}"),
        conversation=ConversationId("c"),
        message=MessageId("m"),
        model="m",
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, NODES - 1)),
        st.tuples(st.just("live"), st.integers(0, NODES - 1)),
        st.tuples(st.just("tab"), st.integers(0, TABS * NODES - 1)),
        st.tuples(st.sampled_from(["lose", "away", "back", "flush", "settle"]), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=100)
@given(STEPS)
async def test_no_tab_has_a_hole_or_an_event_twice_and_in_the_end_all_have_the_same(
    steps: list[tuple[str, int]],
) -> None:
    async with processes() as (hub, nodes):
        await anyio.wait_all_tasks_blocked()
        published: list[str] = []
        tabs = [Tab(published) for _ in range(TABS)]
        for number, (what, which) in enumerate(steps):
            if what == "tab":
                tab = tabs[which % TABS]
                await (tab.leave() if tab.stack else tab.come(nodes[which // TABS]))
            else:
                if what == "publish":
                    published.append(f"r{number}")
                await _happens(hub, nodes, what, which, number)
            for tab in tabs:
                await tab.read()
        await _settled(hub, nodes)
        for number, node in enumerate(nodes, start=10_000):
            published.append(f"r{number}")
            node.fanout.publish(ANN, started(number))
        await _settled(hub, nodes)
        here = [tab for tab in tabs if tab.stack is not None]
        for tab in here:
            await tab.read()
        assert len({tab.place for tab in here}) <= 1
        place = hub.place(ANN)
        for tab in here:
            assert not tab.unheard
            assert tab.place == ResumePoint(place.epoch, place.seq)
            stored = [msgspec.json.decode(event)["run"] for _, event in place.events]
            assert tab.seen == stored[len(stored) - (place.seq - tab.began_at) :]
        for tab in here:
            await tab.leave()


async def _happens(hub: Hub, nodes: list[Process], what: str, which: int, number: int) -> None:
    match what:
        case "publish":
            nodes[which].fanout.publish(ANN, started(number))
        case "live":
            nodes[which].fanout.publish_live(ANN, Ok(re=str(number)))
        case "lose":
            hub.loses = lambda node: node == "n1"
        case "away" | "back":
            hub.away = what == "away"
        case "flush":
            hub.flush()
            for node in nodes:  # as the next beat would find
                node.relay.broker_lost()
        case _:
            hub.loses = lambda _node: False
            await anyio.wait_all_tasks_blocked()


async def _settled(hub: Hub, nodes: list[Process]) -> None:
    """Everything works again, and the next beats have compared their counts."""
    hub.away, hub.loses = False, lambda _node: False
    for _ in range(3):
        for node in nodes:
            node.courier.announce()
            node.relay.upkeep.compare_all()
        await anyio.sleep(0.02)  # those who failed rest a while
        await anyio.wait_all_tasks_blocked()


async def test_a_delta_never_overtakes_the_event_before_it_here_or_elsewhere() -> None:
    async with processes(2) as (_, (one, two)):
        here, there = Outbox(), Outbox()
        await anyio.wait_all_tasks_blocked()
        async with one.fanout.joined(ANN, here), two.fanout.joined(ANN, there):
            await anyio.wait_all_tasks_blocked()
            one.fanout.publish(ANN, started(1))
            one.fanout.publish_live(ANN, RunDelta(run=RunId("r1"), offset=0, text="a"))
            one.fanout.publish(ANN, started(2))
            one.fanout.publish_live(ANN, RunDelta(run=RunId("r2"), offset=0, text="b"))
            await anyio.wait_all_tasks_blocked()
            for outbox in (here, there):
                got = []
                for _ in range(4):
                    frame = msgspec.json.decode((await outbox.take()).payload)
                    outbox.written()
                    got.append((frame["type"], frame["run"]))
                assert got == [
                    ("run.started", "r1"),
                    ("run.delta", "r1"),
                    ("run.started", "r2"),
                    ("run.delta", "r2"),
                ]


async def test_what_was_published_can_be_waited_for() -> None:
    async with processes(1) as (_, (one,)):
        here = Outbox()
        await anyio.wait_all_tasks_blocked()
        async with one.fanout.joined(ANN, here):
            await one.fanout.settled()
            for number in range(3):
                one.fanout.publish(ANN, started(number))
            with anyio.fail_after(5):
                await one.fanout.settled()
            seqs = []
            while not here.is_empty:
                seqs.append(msgspec.json.decode((await here.take()).payload).get("seq"))
                here.written()
            assert seqs == [1, 2, 3]


async def test_who_comes_back_to_another_process_gets_all_that_was_missed() -> None:
    async with processes(2) as (_, (one, two)):
        await anyio.wait_all_tasks_blocked()
        async with one.fanout.joined(ANN, Outbox()) as first:
            one.fanout.publish(ANN, started(1))
            await anyio.wait_all_tasks_blocked()
        one.fanout.publish(ANN, started(2))
        await anyio.wait_all_tasks_blocked()
        point = ResumePoint(first.epoch, first.seq)
        async with two.fanout.joined(ANN, Outbox(), point) as again:
            assert again.resumed
            runs = [msgspec.json.decode(frame.payload)["run"] for frame in again.missed]
            assert runs == ["r1", "r2"]


async def test_a_process_that_stood_still_shows_nothing_of_its_replies_before_it_is_assured() -> (
    None
):
    async with processes(1) as (_, (one,)):
        here, assured = Outbox(), anyio.Event()
        await anyio.wait_all_tasks_blocked()
        async with one.fanout.joined(ANN, here):
            one.relay.in_doubt = lambda: not assured.is_set()
            one.relay.assured = assured.wait
            one.fanout.publish_live(ANN, RunDelta(run=RunId("r1"), offset=0, text="a"))
            one.fanout.publish_live(ANN, Ok(re="1"))
            await anyio.wait_all_tasks_blocked()
            one.relay.drop_pieces()
            assured.set()
            await anyio.wait_all_tasks_blocked()
            one.fanout.publish_live(ANN, RunDelta(run=RunId("r2"), offset=0, text="b"))
            got = []
            for _ in range(2):
                got.append(msgspec.json.decode((await here.take()).payload))
                here.written()
            assert [frame.get("run", frame["type"]) for frame in got] == ["ok", "r2"]


@pytest.mark.parametrize("lost", ["an event", "a piece"])
async def test_a_letter_that_is_lost_is_noticed_with_the_next_count(lost: str) -> None:
    async with processes(2) as (hub, (one, two)):
        outbox, missed = Outbox(), list[int]()
        await anyio.wait_all_tasks_blocked()
        async with two.fanout.joined(ANN, outbox):
            one.fanout.publish(ANN, started(1))
            await anyio.wait_all_tasks_blocked()
            one.courier.announce()
            await anyio.wait_all_tasks_blocked()

            def note() -> None:
                missed.append(1)
                two.relay.upkeep.compare_all()

            two.courier.on_missed = note
            hub.loses = lambda node: node == "n1"
            if lost == "an event":
                one.fanout.publish(ANN, started(2))
            else:
                one.fanout.publish_live(ANN, RunDelta(run=RunId("r1"), offset=0, text="a"))
            await anyio.wait_all_tasks_blocked()
            hub.loses = lambda _node: False
            one.courier.announce()
            await anyio.wait_all_tasks_blocked()
            assert missed
            seqs = []
            with anyio.move_on_after(0.1):
                while True:
                    seqs.append(msgspec.json.decode((await outbox.take()).payload).get("seq"))
                    outbox.written()
            assert seqs == ([1, 2] if lost == "an event" else [1])


async def test_a_tab_that_moves_to_another_process_hears_the_rest_of_a_reply_there() -> None:
    async with processes(2) as (_, (one, two)):
        await anyio.wait_all_tasks_blocked()
        async with one.fanout.joined(ANN, Outbox()):
            one.fanout.publish(ANN, started(1))
            one.fanout.publish_live(ANN, RunDelta(run=RunId("r1"), offset=0, text="a"))
            await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
        there = Outbox()
        async with two.fanout.joined(ANN, there):
            await anyio.wait_all_tasks_blocked()
            one.fanout.publish_live(ANN, RunDelta(run=RunId("r1"), offset=1, text="b"))
            await anyio.wait_all_tasks_blocked()
            assert not there.is_empty
            got = msgspec.json.decode((await there.take()).payload)
            while got["type"] == "reset":  # its epoch began elsewhere
                there.written()
                assert not there.is_empty
                got = msgspec.json.decode((await there.take()).payload)
            assert got == {"type": "run.delta", "run": "r1", "offset": 1, "text": "b"}


async def test_what_is_noted_while_something_else_is_read_anew_is_read_too() -> None:
    ben = UserId("ben")
    async with processes(1) as (_, (one,)):
        await anyio.wait_all_tasks_blocked()
        async with one.fanout.joined(ANN, Outbox()), one.fanout.joined(ben, Outbox()):
            read, stay = list[UserId](), one.broker.stay

            async def slowly(users: Sequence[UserId]) -> list[Position]:
                if not read:
                    one.relay.upkeep.is_stale(ben)
                    one.relay.upkeep.was_alone(ANN)
                read.extend(users)
                await anyio.lowlevel.checkpoint()
                return await stay(users)

            one.broker.stay = slowly  # type: ignore[method-assign]  # the moment matters
            one.relay.upkeep.is_stale(ANN)
            await anyio.wait_all_tasks_blocked()
            assert read[0] == ANN
            assert sorted(read[1:]) == [ANN, ben]


async def test_who_came_while_the_broker_was_away_is_known_to_it_once_it_is_back() -> None:
    async with processes(2) as (hub, (one, two)):
        await anyio.wait_all_tasks_blocked()
        hub.away = True
        outbox = Outbox()
        async with two.fanout.joined(ANN, outbox):
            hub.away = False
            with anyio.fail_after(10):
                while not two.fanout.streams[ANN].entered:
                    await anyio.sleep(0.01)
            await anyio.wait_all_tasks_blocked()
            one.fanout.publish(ANN, started(1))
            with anyio.fail_after(10):
                while msgspec.json.decode((await outbox.take()).payload).get("run") != "r1":
                    outbox.written()


async def test_who_is_still_on_the_way_in_when_a_user_is_signed_out_does_not_come_in() -> None:
    async with processes(1) as (_, (one,)):
        await anyio.wait_all_tasks_blocked()
        enter, entering, goes_on = one.broker.enter, anyio.Event(), anyio.Event()

        async def slowly(user: UserId) -> Entered:
            entering.set()
            await goes_on.wait()
            return await enter(user)

        one.broker.enter = slowly  # type: ignore[method-assign]  # the moment matters
        told: list[ChatError] = []

        async def come() -> None:
            try:
                async with one.fanout.joined(ANN, Outbox()):
                    raise AssertionError("it came in")
            except ChatError as reason:
                told.append(reason)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come)
            await entering.wait()
            one.fanout.close_user(ANN, ChatError("not_authenticated", "signed out"))
            goes_on.set()
        assert [reason.code for reason in told] == ["not_authenticated"]
        assert not one.fanout.streams
        async with one.fanout.joined(ANN, Outbox()):
            assert one.fanout.users == 1
