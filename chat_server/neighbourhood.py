"""The wiring between the processes of one server: broker, letters, beats, and what they serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from secrets import token_hex

from anyio.abc import TaskGroup

from chat_server.checkpoints import Checkpoints
from chat_server.courier import Courier
from chat_server.desk import Desk
from chat_server.fanout import Fanout
from chat_server.forwarded import carry_out, rearrange
from chat_server.heir import Heir
from chat_server.live_metrics import Mishap
from chat_server.node import Neighbours, Node
from chat_server.relay import Relay
from chat_server.runs import Runs
from chat_server.settings import Settings
from chat_server.state import State
from chat_server.supervision import cancelled_at_end, supervise
from memory.live.broker import Broker, Inheritance, NodeId
from memory.live.redis_broker import RedisBroker
from memory.redis_process import RedisProcess


class Neighbourhood:
    """This process among the others of its server."""

    def __init__(
        self, broker: Broker, fanout: Fanout, runs: Runs, tasks: TaskGroup, *, model: str
    ) -> None:
        self.broker = broker
        self.courier = Courier(broker, tasks)
        self.node = Node(broker, self.courier)
        self.relay = Relay(broker, self.courier, fanout.streams)
        self.checkpoints = Checkpoints(broker, model)
        fanout.elsewhere = self.relay
        runs.on_shown = self.checkpoints.follow
        runs.on_finished = self.checkpoints.settle
        self.relay.in_doubt = lambda: self.node.stood_still
        self.relay.assured = self.node.assure
        self.courier.on_missed = self.relay.upkeep.compare_all
        self.node.on_broker_lost = self._broker_lost
        self._tasks = tasks
        self._count: Callable[[Mishap], None] = lambda _mishap: None

    @property
    def neighbours(self) -> Neighbours:
        """The ways to the others."""
        return Neighbours(self.broker, self.courier, self.node)

    async def serve(self, state: State, desk: Desk) -> None:
        """Begin to hear of the others, and to take over from them; they know of this process when
        it returns.
        """
        count = self._count = desk.metrics.live.mishap
        self.courier.on_count_wrong = partial(count, "letters_missed")
        self.relay.on_alone = partial(count, "events_alone")
        self.node.on_died = partial(count, "node_died")
        self.courier.on_asked = partial(carry_out, state)
        self.courier.on_rearranged = partial(rearrange, state)
        heir = Heir(desk, self.broker, self.node)
        self.node.on_inherited = partial(self._inherited, heir)
        self.node.on_taken_for_dead = partial(self._taken_for_dead, state)
        for name, task in (
            ("letters out", self.courier.run_sender),
            ("letters in", self.courier.run_receiver),
            ("beats", self.node.run),
            ("events out", self.relay.run_publisher),
            ("events in", self.relay.upkeep.run),
            ("checkpoints", self.checkpoints.run),
            ("claims", state["switchboard"].release_unused),
            ("inheritance", heir.run),
        ):
            self._tasks.start_soon(supervise, name, task)
        await self.node.introduce()

    def _inherited(self, heir: Heir, left: Inheritance) -> None:
        """Of what was said to a dead process, some may be stored that nobody was told of: clients
        of those users read anew.
        """
        heir.take_over(left.runs)
        for user in left.users:
            self.relay.upkeep.was_alone(user)

    def _broker_lost(self) -> None:
        self._count("broker_emptied")
        self.relay.broker_lost()
        self.checkpoints.begin_anew()

    def _taken_for_dead(self, state: State) -> None:
        """Others have ended what this process was making: it ends as they said."""
        self._count("taken_for_dead")
        self.relay.drop_pieces()
        state["runs"].interrupt_all()
        self.relay.upkeep.compare_all()


@asynccontextmanager
async def _opened(
    broker: RedisBroker, fanout: Fanout, runs: Runs, model: str
) -> AsyncIterator[Neighbourhood]:
    async with cancelled_at_end() as tasks:
        neighbourhood = Neighbourhood(broker, fanout, runs, tasks, model=model)
        try:
            yield neighbourhood
        finally:
            await neighbourhood.node.depart()
    await broker.aclose()


async def open_neighbourhood(
    settings: Settings, slot: int | None, fanout: Fanout, runs: Runs, stack: AsyncExitStack
) -> Neighbourhood | None:
    """This process among the others that share its Redis, until *stack* closes and it says
    goodbye; ``None`` where there can be none: it has no *slot*, and a Redis of its own.

    Then nothing is gained by a broker: what such a Redis would hold ends with this process.
    """
    if slot is None and not settings.redis.url:
        return None
    broker = RedisBroker.open(
        settings.redis.url or RedisProcess(settings.data_dir).url,
        node=NodeId(f"{slot or 0}-{token_hex(6)}"),
        prefix=settings.redis.key_prefix,
        timeout_s=settings.redis.timeout_s,
    )
    return await stack.enter_async_context(_opened(broker, fanout, runs, settings.model.name))
