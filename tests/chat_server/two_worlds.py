"""Two processes of one server on twins: one store, one hub, a user who writes to both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from secrets import token_hex
from typing import Any, cast

import anyio
import msgspec

from chat_server.authentication import Identity
from chat_server.events import ServerEvent
from chat_server.forwarded import carry_out, rearrange
from chat_server.heir import Heir
from chat_server.neighbourhood import Neighbourhood
from chat_server.protocol import Send
from chat_server.state import State
from chat_server.switchboard import Switchboard
from memory.in_process_long_term import InProcessLongTermMemory
from memory.live.broker import NodeId
from memory.live.in_process_broker import Hub, InProcessBroker
from tests.chat_server.twin_world import Frame, TwinWorld, twin_world


class NotDraining:
    """Connections, as far as a forwarded command asks for them."""

    draining = False


class Process:
    """One of them; ``world`` is its inside, with one connected tab."""

    def __init__(self, world: TwinWorld, hub: Hub, name: str, tasks: anyio.abc.TaskGroup) -> None:
        self.world = world
        desk = world.desk
        self.neighbourhood = Neighbourhood(
            InProcessBroker(hub, NodeId(name)), desk.fanout, desk.runs, tasks, model="scripted"
        )
        self.switchboard = Switchboard(
            world.turns,
            desk.runs,
            desk.memory,
            self.neighbourhood.neighbours,
            is_busy=desk.late.waits_in,
        )
        self.state = cast(
            "State",
            {
                "runs": desk.runs,
                "late": desk.late,
                "memory": desk.memory,
                "switchboard": self.switchboard,
                "connections": NotDraining(),
            },
        )
        self.heir = Heir(desk, self.neighbourhood.broker, self.neighbourhood.node)

    async def send(self, text: str, **more: Any) -> Frame:
        """Send to this process; the ``accepted`` event, or the error that is raised."""
        answers: list[ServerEvent] = []
        frame = Send(id=more.pop("id", None) or token_hex(8), text=text, **more)
        await self.switchboard.take(frame, self.identity, answers.append)
        (answer,) = answers
        accepted: Frame = msgspec.to_builtins(answer)
        return accepted

    @property
    def identity(self) -> Identity:
        return self.world.identity


@asynccontextmanager
async def two_worlds() -> AsyncIterator[tuple[Hub, Process, Process]]:
    """Both, beating and listening."""
    hub, store = Hub(), InProcessLongTermMemory()
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(twin_world(long_term=store)) for _ in range(2)]
        tasks = await stack.enter_async_context(anyio.create_task_group())
        processes = [Process(world, hub, str(number), tasks) for number, world in enumerate(worlds)]
        for process in processes:
            here = process.neighbourhood
            here.courier.on_asked = lambda asked, reply, state=process.state: carry_out(
                state, asked, reply
            )
            here.courier.on_rearranged = partial(rearrange, process.state)
            for task in (
                here.courier.run_sender,
                here.courier.run_receiver,
                here.relay.run_publisher,
                here.relay.upkeep.run,
                process.heir.run,
            ):
                tasks.start_soon(task)
            await here.relay.enter(
                process.world.user, process.world.desk.fanout.streams[process.world.user]
            )
        for process in (*processes, *processes):
            await process.neighbourhood.node._beat()
        yield hub, processes[0], processes[1]
        tasks.cancel_scope.cancel()
