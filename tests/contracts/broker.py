"""What every broker does; a test module gives the fixture ``world`` and inherits the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import pytest

from memory.errors import ShortTermUnavailable
from memory.live.broker import (
    DEAD_AFTER_S,
    KEEP_EVENTS,
    Broker,
    Event,
    Letter,
    NodeId,
    Outgoing,
    Position,
    RunFacts,
    RunText,
)
from memory.messages import ConversationId, MessageId, RunId, UserId

ANN, BOB = UserId("ann"), UserId("bob/{}:é")
ONE, TWO = NodeId("1-a"), NodeId("2-b")
TEA = ConversationId("tea")


class World(Protocol):
    """A back end with nothing in it."""

    def open(self, node: NodeId) -> Broker: ...

    async def lose_all(self) -> None:
        """Empty it under the brokers that are open."""
        ...

    async def let_pass(self, seconds: float) -> None:
        """Make all beats older by *seconds*."""
        ...

    def break_off(self) -> None:
        """Let no call be answered any more."""
        ...


def facts(run: str, node: NodeId = ONE, user: UserId = ANN) -> RunFacts:
    return RunFacts(
        run=RunId(run),
        user=user,
        conversation=TEA,
        question=MessageId("m1"),
        node=node,
        timestamp=1.5,
        model="a model",
    )


class Line:
    """What comes in for a node, as it comes."""

    def __init__(self) -> None:
        self.came: list[Event | Letter | None] = []
        self._more = anyio.Event()

    async def read(self, broker: Broker) -> None:
        async for came in broker.incoming():
            self.came.append(came)
            self._more.set()

    async def until(self, count: int) -> list[Event | Letter | None]:
        with anyio.fail_after(10):
            while len(self.came) < count:
                self._more = anyio.Event()
                await self._more.wait()
        return self.came


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Line]:
    """*broker*'s line, open."""
    line = Line()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.read, broker)
        await line.until(1)
        assert line.came == [None]
        yield line
        tasks.cancel_scope.cancel()


class BrokerContract:
    """The suite."""

    async def test_events_are_numbered_for_each_user_and_kept(self, world: World) -> None:
        one = world.open(ONE)
        begin = (await one.enter(ANN)).position
        assert begin.seq == 0
        sent = await one.publish(
            [Outgoing(ANN, b'{"a":1}'), Outgoing(BOB, b'{"b":1}'), Outgoing(ANN, b'{"a":\n2}')]
        )
        assert [place.position.seq for place in sent] == [1, 1, 2]
        assert sent[0].position.epoch == begin.epoch != sent[1].position.epoch
        assert await one.since(ANN, begin) == [(1, b'{"a":1}'), (2, b'{"a":\n2}')]
        assert await one.since(ANN, Position(begin.epoch, 1)) == [(2, b'{"a":\n2}')]
        assert await one.since(ANN, Position(begin.epoch, 2)) == []

    async def test_of_what_was_missed_all_is_given_or_nothing(self, world: World) -> None:
        one = world.open(ONE)
        epoch = (await one.enter(ANN)).position.epoch
        batch = [Outgoing(ANN, b"{%d}" % number) for number in range(500)]
        for _ in range(KEEP_EVENTS // 500):
            await one.publish(batch)
        await one.publish(batch[:3])
        assert await one.since(ANN, Position(epoch, 2)) is None
        kept = await one.since(ANN, Position(epoch, 3))
        assert kept is not None
        assert [seq for seq, _ in kept] == list(range(4, KEEP_EVENTS + 4))
        assert await one.since(ANN, Position("another", 10)) is None
        assert await one.since(ANN, Position(epoch, KEEP_EVENTS + 4)) is None

    async def test_events_reach_the_other_nodes_that_the_user_is_connected_to(
        self, world: World
    ) -> None:
        one, two = world.open(ONE), world.open(TWO)
        await one.enter(ANN)
        async with listening(two) as line:
            (alone,) = await one.publish([Outgoing(ANN, b"{0}")])
            assert alone.nodes == ()
            entered = await two.enter(ANN)
            assert entered.nodes == (ONE,)
            assert entered.position == alone.position
            await two.enter(BOB)
            sent = await one.publish([Outgoing(ANN, b"{1\n}"), Outgoing(BOB, b"{2}")])
            assert [place.nodes for place in sent] == [(TWO,), (TWO,)]
            _, first, second = await line.until(3)
            assert first == Event(ANN, sent[0].position, b"{1\n}", ONE)
            assert second == Event(BOB, sent[1].position, b"{2}", ONE)
            await two.leave(ANN)
            (alone,) = await one.publish([Outgoing(ANN, b"{3}")])
            assert alone.nodes == ()

    async def test_many_users_are_renewed_at_once(self, world: World) -> None:
        one = world.open(ONE)
        await one.publish([Outgoing(ANN, b"{}")])
        positions = await one.stay([ANN, BOB])
        assert [position.seq for position in positions] == [1, 0]
        assert positions == await one.stay([ANN, BOB])

    async def test_letters_go_to_one_node_or_to_all_in_order(self, world: World) -> None:
        one, two = world.open(ONE), world.open(TWO)
        async with listening(two) as line, listening(one) as own:
            await one.post([(TWO, b"a\nb"), (None, b"c"), (NodeId("nobody"), b"d"), (TWO, b"")])
            assert (await line.until(4))[1:] == [
                Letter(ONE, b"a\nb"),
                Letter(ONE, b"c"),
                Letter(ONE, b""),
            ]
            assert (await own.until(2))[1:] == [Letter(ONE, b"c")]

    async def test_nodes_hear_of_each_other_and_of_silence(self, world: World) -> None:
        one, two = world.open(ONE), world.open(TWO)
        first = await one.beat()
        assert (first.known, first.alive, first.silent) == (False, frozenset(), frozenset())
        assert (await two.beat()).alive == {ONE}
        again = await one.beat()
        assert again.known
        assert again.alive == {TWO}
        assert again.generation == first.generation
        await world.let_pass(DEAD_AFTER_S + 1)
        late = await one.beat()
        assert late.alive == frozenset()
        assert late.silent == {TWO}
        await two.depart()
        assert (await one.beat()).silent == frozenset()

    async def test_a_silent_node_is_inherited_once_and_finds_out(self, world: World) -> None:
        one, two, three = world.open(ONE), world.open(TWO), world.open(NodeId("3"))
        for node in (one, two, three):
            await node.beat()
        await one.claim(ANN, TEA, client_id="x", alive=())
        await two.claim(BOB, TEA, client_id="x", alive=())
        await one.begin_run(facts("r1"))
        await one.begin_run(facts("r2", user=BOB))
        assert await one.checkpoint([RunText(RunId("r1"), ANN, 0, "wé".encode())]) == [True]
        assert await two.inherit(ONE) is None, "it beats"
        await world.let_pass(DEAD_AFTER_S + 1)
        left = await two.inherit(ONE)
        assert left is not None
        assert {run.facts.run: run.text for run in left.runs} == {"r1": "wé", "r2": ""}
        assert set(left.users) == {ANN}
        assert await three.inherit(ONE) is None, "it is inherited already"
        again = await two.inherit(ONE)
        assert again is not None, "the answer may not have come"
        assert sorted(again.runs, key=str) == sorted(left.runs, key=str)
        assert not (await one.beat()).known
        assert (await one.beat()).known
        for run in left.runs:
            await two.end_run(run.facts.user, run.facts.run)
        assert await one.runs(ANN) == await one.runs(BOB) == []
        assert await two.inherit(ONE) is None, "it beats, and nothing is left"

    async def test_a_conversation_is_seen_to_by_one_living_node(self, world: World) -> None:
        one, two = world.open(ONE), world.open(TWO)
        first = await one.claim(ANN, TEA, client_id="x", alive={TWO})
        assert (first.holder, first.repeated) == (ONE, False)
        other = await two.claim(ANN, TEA, client_id="x", alive={ONE})
        assert (other.holder, other.repeated) == (ONE, False)
        again = await one.claim(ANN, TEA, client_id="x", alive={TWO})
        assert (again.holder, again.repeated) == (ONE, True)
        assert (await two.claim(BOB, TEA, client_id="x", alive={ONE})).holder == TWO
        taken = await two.claim(ANN, TEA, client_id="y", alive=())
        assert (taken.holder, taken.repeated) == (TWO, False), "nobody else lives"
        await one.release(ANN, TEA)
        assert (await one.claim(ANN, TEA, client_id=None, alive={TWO})).holder == TWO
        await two.release(ANN, TEA)
        assert (await one.claim(ANN, TEA, client_id=None, alive={TWO})).holder == ONE

    async def test_texts_of_runs_grow_where_they_end(self, world: World) -> None:
        one, two = world.open(ONE), world.open(TWO)
        await one.begin_run(facts("r1"))
        run = RunId("r1")
        assert await one.checkpoint([RunText(run, ANN, 0, b"ab"), RunText(run, ANN, 2, b"cd")]) == [
            True,
            True,
        ]
        assert await one.checkpoint([RunText(run, ANN, 3, b"x")]) == [False]
        assert await one.checkpoint([RunText(run, ANN, 0, "äöü".encode()[:5])]) == [True]
        (live,) = await two.runs(ANN)
        assert live.facts == facts("r1")
        assert live.text == "äö", "half a character is none"
        assert await two.runs(BOB) == []
        await one.end_run(ANN, run)
        assert await two.runs(ANN) == []

    async def test_when_all_is_lost_everything_begins_anew(self, world: World) -> None:
        one = world.open(ONE)
        before = (await one.publish([Outgoing(ANN, b"{}")]))[0].position
        generation = (await one.beat()).generation
        await world.lose_all()
        beat = await one.beat()
        assert beat.generation != generation
        assert await one.since(ANN, before) is None
        after = (await one.publish([Outgoing(ANN, b"{}")]))[0].position
        assert after.epoch != before.epoch
        assert after.seq == 1

    async def test_a_numbering_begins_anew_for_one_user_whose_nodes_stay(
        self, world: World
    ) -> None:
        one, two = world.open(ONE), world.open(TWO)
        await two.enter(ANN)
        before = await one.publish([Outgoing(ANN, b"{}"), Outgoing(BOB, b"{}")])
        await one.begin_anew(ANN)
        assert await one.since(ANN, before[0].position) is None
        assert await one.since(BOB, before[1].position) == []
        (after,) = await one.publish([Outgoing(ANN, b"{}")])
        assert after.position.epoch != before[0].position.epoch
        assert after.nodes == (TWO,)

    async def test_events_are_forgotten_and_their_numbers_go_on(self, world: World) -> None:
        one = world.open(ONE)
        (before, last) = await one.publish([Outgoing(ANN, b"{}"), Outgoing(ANN, b"{}")])
        await one.begin_anew(ANN, numbering=False)
        assert await one.since(ANN, before.position) is None
        assert await one.since(ANN, last.position) == []
        (after,) = await one.publish([Outgoing(ANN, b'{"a":1}')])
        assert after.position == Position(last.position.epoch, last.position.seq + 1)
        assert await one.since(ANN, last.position) == [(after.position.seq, b'{"a":1}')]

    async def test_without_an_answer_every_call_says_so(self, world: World) -> None:
        one = world.open(ONE)
        world.break_off()
        with pytest.raises(ShortTermUnavailable):
            await one.publish([Outgoing(ANN, b"{}")])
        with pytest.raises(ShortTermUnavailable):
            await one.beat()
