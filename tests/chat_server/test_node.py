from __future__ import annotations

import anyio

from chat_server import node as node_module
from chat_server.courier import Courier
from chat_server.node import Node
from memory.errors import ShortTermUnavailable
from memory.live.broker import DEAD_AFTER_S, Inheritance, NodeId, RunFacts
from memory.live.in_process_broker import Hub, InProcessBroker
from memory.messages import ConversationId, MessageId, RunId, UserId


class Nodes:
    """Nodes on one hub, whose clock a test moves."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.now = 100.0
        self.hub = Hub(clock=lambda: self.now)
        self._tasks = tasks

    def add(self, name: str) -> Node:
        broker = InProcessBroker(self.hub, NodeId(name))
        return Node(broker, Courier(broker, self._tasks))


def facts(node: str) -> RunFacts:
    return RunFacts(
        run=RunId("r1"),
        user=UserId("ann"),
        conversation=ConversationId("c"),
        question=MessageId("m"),
        node=NodeId(node),
        timestamp=1.0,
        model="a model",
    )


async def steady(node: Node) -> None:
    """Let *node* have beaten for long enough to know silence from a pause of the broker."""
    await node._beat()
    node._steady_since -= DEAD_AFTER_S + 0.1


async def test_a_silent_nodes_runs_go_to_one_of_the_others_and_it_hears_of_that() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, two, three = nodes.add("1"), nodes.add("2"), nodes.add("3")
        inherited: list[Inheritance] = []
        dead: list[str] = []

        def inherit(runs: Inheritance) -> None:
            inherited.append(runs)

        two.on_inherited = three.on_inherited = inherit
        one.on_taken_for_dead = lambda: dead.append("1")
        for node in (one, two, three):
            await steady(node)
        nodes.hub.running[RunId("r1")] = facts("1")
        nodes.now += DEAD_AFTER_S + 0.1
        nodes.hub.beats[NodeId("3")] = nodes.now
        await two._beat()
        await three._beat()
        assert [[run.facts.run for run in left.runs] for left in inherited] == [["r1"]]
        assert not dead
        await one._beat()
        assert dead == ["1"]
        await one._beat()
        assert dead == ["1"]


async def test_after_a_pause_of_the_broker_everybody_gets_time_to_beat_again() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, two = nodes.add("1"), nodes.add("2")
        inherited: list[Inheritance] = []

        def inherit(runs: Inheritance) -> None:
            inherited.append(runs)

        two.on_inherited = inherit
        await one._beat()
        await steady(two)
        nodes.hub.away = True
        await two._beat()
        nodes.hub.away = False
        nodes.now += DEAD_AFTER_S + 0.1
        await two._beat()
        assert not inherited
        assert two.others == {"1"}, "nobody can know that it does not live"
        await one._beat()
        await steady(two)
        await two._beat()
        assert not inherited


async def test_a_process_is_known_to_all_before_it_serves_and_waits_for_a_broker_not_for_ever() -> (
    None
):
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, two = nodes.add("1"), nodes.add("2")
        tasks.start_soon(one.run)
        with anyio.fail_after(10):
            await two.introduce()
        assert one.others == {"2"}
        assert two.others == {"1"}
        nodes.hub.away = True
        with anyio.fail_after(10):
            await nodes.add("3").introduce()
        tasks.cancel_scope.cancel()


async def test_who_lives_is_known_while_the_broker_answers() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, two = nodes.add("1"), nodes.add("2")
        await two._beat()
        await one._beat()
        assert one.others == {"2"}
        nodes.hub.away = True
        await one._beat()
        one._beaten_at -= DEAD_AFTER_S
        assert one.others == frozenset()


async def test_a_broker_that_lost_everything_is_noticed_and_is_no_death() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, told = nodes.add("1"), list[str]()
        one.on_broker_lost = lambda: told.append("lost")
        one.on_taken_for_dead = lambda: told.append("dead")
        await one._beat()
        nodes.hub.flush()
        await one._beat()
        await one._beat()
        assert told == ["lost"]


async def test_who_stood_still_asks_before_it_writes() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, told = nodes.add("1"), list[str]()
        one.on_taken_for_dead = lambda: told.append("dead")
        await one._beat()
        del nodes.hub.beats[NodeId("1")]
        await one.assure()
        assert not told, "it has just beaten"
        one._tried_at -= node_module.DOUBT_AFTER_S + 0.1
        one._beaten_at -= node_module.DOUBT_AFTER_S + 0.1
        assert one.stood_still
        await one.assure()
        assert told == ["dead"]


async def test_nothing_is_counted_any_more_of_a_process_that_is_gone() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, two = nodes.add("1"), nodes.add("2")
        await two._beat()
        await one._beat()
        one._courier.count_events((two.id,))
        await one._beat()
        assert one._courier._sent == {two.id: 1}
        await two.depart()
        await one._beat()
        assert one._courier._sent == {}


async def test_an_inheritance_whose_answer_was_lost_is_asked_for_again() -> None:
    async with anyio.create_task_group() as tasks:
        nodes = Nodes(tasks)
        one, two = nodes.add("1"), nodes.add("2")
        inherited: list[Inheritance] = []
        two.on_inherited = inherited.append
        await one._beat()
        await steady(two)
        nodes.hub.running[RunId("r1")] = facts("1")
        nodes.now += DEAD_AFTER_S + 0.1
        inherit = two._broker.inherit

        async def unanswered(node: NodeId) -> Inheritance | None:
            await inherit(node)
            raise ShortTermUnavailable("no answer")

        two._broker.inherit = unanswered  # type: ignore[method-assign]  # the moment matters
        await two._beat()
        assert not inherited
        two._broker.inherit = inherit  # type: ignore[method-assign]
        for _ in range(2):
            await two._beat()
        assert [[run.facts.run for run in left.runs] for left in inherited] == [["r1"]]
