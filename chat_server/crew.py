"""The workers, as the supervisor has them: kept running, asked, told, and started anew in turn."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from chat_server.figures import Figures, kept, together
from chat_server.supervision import cancelled_at_end, supervise
from chat_server.worker_child import START_S, WorkerChild
from chat_server.worker_line import Line
from chat_server.worker_messages import Beat, Gather, Gathered, Hold, LetGo, Message, Welcome
from memory.child_process import ChildProcess, ChildTimes
from memory.errors import ChildFailed, LineBroken
from memory.store_gate import DRAIN_S

log = structlog.get_logger(__name__)

SETTLED_S: Final = DRAIN_S + 2.0
"""What a worker may take until nothing of it is under way to Chroma."""
GATHERED_S: Final = 1.0


class Orders(Protocol):
    """What a crew needs of its supervisor."""

    def make_child(self, slot: int, on_start: Callable[[socket.socket], None]) -> WorkerChild:
        """How the worker of *slot* is started."""
        ...

    def greeting(self) -> Sequence[Message]:
        """What each worker is told first, after its slot, and when Chroma is let go."""
        ...

    async def said(self, member: Member, message: Message) -> Message | None:
        """What a worker says, but for its beats; as ``Handle`` of a line."""
        ...

    def restarted(self, child: str) -> None:
        """A worker has ended by itself, and is started again."""
        ...


class Member:
    """One slot, and the worker that is in it now."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.child: ChildProcess
        self.spec: WorkerChild
        self.line: Line | None = None
        self.ready = False
        self.changed = anyio.Event()
        self.figures: Figures | None = None
        self.counted: Figures | None = None
        """By those that were in this slot before."""

    @property
    def connected(self) -> Line | None:
        """The line, while there is somebody at its other end."""
        return self.line if self.line is not None and not self.line.broken.is_set() else None

    def note(self, beat: Beat) -> None:
        """It lives."""
        self.spec.heard()
        if beat.figures is not None:
            self.figures = beat.figures
        if beat.ready != self.ready:
            self.ready = beat.ready
            self.changed.set()
            self.changed = anyio.Event()

    def left(self) -> None:
        """Its process has ended: what it counted stays, and what it said last comes too late."""
        self.line = None
        self.note(Beat(ready=False))
        if self.figures is not None:
            ended = kept(self.figures)
            self.counted = together([self.counted, ended]) if self.counted else ended
            self.figures = None


class Crew:
    """Keeps a worker in each of so many slots, while it is :meth:`working`.

    *salt*: of the pseudonyms in their logs and figures, hexadecimal.
    """

    def __init__(self, workers: int, orders: Orders, times: ChildTimes, *, salt: str) -> None:
        self._orders = orders
        self._salt = salt
        self._held: Hold | None = None
        self._holds = 0
        self._lines: TaskGroup | None = None
        self._rolling = anyio.Lock()
        self.members = [Member(slot) for slot in range(workers)]
        for member in self.members:
            member.spec = orders.make_child(member.slot, partial(self._begin, member))
            member.child = ChildProcess(
                member.spec, times, on_restart=orders.restarted, on_exit=partial(_ended, member)
            )

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Within the block all workers are kept running; at its end they drain, and are gone when
        this returns. Not to be cancelled: that would leave them no line while they drain.
        """
        async with cancelled_at_end() as self._lines, cancelled_at_end() as children:
            for member in self.members:
                children.start_soon(supervise, member.spec.name, member.child.run)
            yield

    async def wait_ready(self, within_s: float) -> None:
        """Return once all workers take messages.

        Raises:
            LineBroken: one does not, in that time.
        """
        with anyio.move_on_after(within_s):
            for member in self.members:
                await _ready(member)
            return
        raise LineBroken(f"not all workers were ready within {within_s:g} s")

    def tell_all(self, message: Message) -> None:
        """Tell every worker that is there; returns at once."""
        for member in self.members:
            if member.connected is not None:
                member.connected.tell(message)

    async def ask_all(
        self, message: Message, within_s: float, *, but: Member | None = None
    ) -> dict[int, Message | LineBroken]:
        """What every worker that is there answers, by slots."""
        answers: dict[int, Message | LineBroken] = {}

        async def ask(member: Member, line: Line) -> None:
            try:
                answers[member.slot] = await line.ask(message, within_s)
            except LineBroken as fault:
                answers[member.slot] = fault

        async with anyio.create_task_group() as tasks:
            for member in self.members:
                if member is not but and member.connected is not None:
                    tasks.start_soon(ask, member, member.connected)
        return answers

    @asynccontextmanager
    async def held(self, *, batches_only: bool) -> AsyncIterator[None]:
        """Within the block no worker asks for Chroma, or begins to write; a worker that comes
        meanwhile waits as well. One that does not answer in time is left behind.
        """
        self._holds += 1
        hold = self._held = Hold(self._holds, batches_only)
        try:
            for slot, answer in (await self.ask_all(hold, SETTLED_S)).items():
                if isinstance(answer, LineBroken):
                    log.warning("worker.not_held", slot=slot, reason=str(answer))
            yield
        finally:
            self._held = None
            for message in (*self._orders.greeting(), LetGo(hold.number)):
                self.tell_all(message)

    async def figures(self, *, but: int | None = None) -> list[Figures]:
        """What all workers say of themselves now, and what those before them counted."""
        asked = next((it for it in self.members if it.slot == but), None)
        answers = await self.ask_all(Gather(), GATHERED_S, but=asked)
        found: list[Figures] = []
        for member in self.members:
            answer = answers.get(member.slot)
            if isinstance(answer, Gathered):
                (member.figures,) = answer.figures
            if member.figures is not None and member.slot != but:
                found.append(member.figures)
            if member.counted is not None:
                found.append(member.counted)
        return found

    async def roll(self) -> None:
        """Start one worker after the other anew; the next one only once the last is ready. The
        first that does not become ready ends it.
        """
        async with self._rolling:
            for member in self.members:
                log.info("worker.replaced", slot=member.slot)
                async with member.child.stopped():
                    pass
                try:
                    await member.child.wait_ready(START_S)
                    with anyio.fail_after(START_S):
                        await _ready(member)
                except (ChildFailed, TimeoutError) as fault:
                    log.warning("workers.not_rolled", slot=member.slot, reason=str(fault))
                    return
            log.info("workers.rolled", workers=len(self.members))

    def hurry(self) -> None:
        """Let no worker wait for its replies any more, when it is to end."""
        for member in self.members:
            if member.child.pid is not None:
                os.kill(member.child.pid, signal.SIGTERM)

    def _begin(self, member: Member, end: socket.socket) -> None:
        """A worker is about to be started in *member*'s slot."""

        async def said(message: Message) -> Message | None:
            if isinstance(message, Beat):
                if member.line is line:
                    member.note(message)
                return None
            return await self._orders.said(member, message)

        line = Line(end, said)
        line.tell(Welcome(member.slot, len(self.members), self._salt))
        for message in self._orders.greeting():
            line.tell(message)
        if self._held is not None:
            line.tell(self._held)
        member.line = line
        if self._lines is not None:
            self._lines.start_soon(line.run)


async def _ready(member: Member) -> None:
    while not member.ready:
        await member.changed.wait()


def _ended(member: Member, _status: int) -> None:
    member.left()
