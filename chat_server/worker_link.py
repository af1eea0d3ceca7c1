"""What a worker has of the supervisor: the private Chroma's state and gate, and the others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from chat_server.figures import Figures
from chat_server.readiness import Readiness
from chat_server.supervision import cancelled_at_end
from chat_server.worker_line import Line
from chat_server.worker_messages import (
    Asked,
    Beat,
    Done,
    Entered,
    Forget,
    Gather,
    Gathered,
    Healed,
    Hold,
    LetGo,
    LookAtLedger,
    Message,
    StoreState,
    Suspected,
    Welcome,
)
from chat_server.workforce import Workforce
from memory.chroma_client import Damage
from memory.errors import ChildFailed, LineBroken
from memory.store_gate import StoreGate
from memory.upkeep.erasure_door import ErasureDoor

log = structlog.get_logger(__name__)

BEAT_EVERY_S: Final = 0.5
FIGURES_EVERY_BEATS: Final = 4
SPREAD_S: Final = 1.5
"""What other workers may take to hide what is erased here, before that is answered."""
GATHERED_S: Final = 1.5


class WorkerLink:
    """This worker's end of its line; needs :meth:`run`, and answers once it may :meth:`serve`.

    As a client of the private Chroma sees its keeper: :meth:`address`, ``gate``, :meth:`suspect`
    and :meth:`incomplete` are what the supervisor says and is told.
    """

    def __init__(self, end: socket.socket, welcome: Welcome) -> None:
        self.slot = welcome.slot
        self.workers = welcome.workers
        self.gate = StoreGate()
        self.store = StoreState()
        self._workforce: Workforce | None = None
        self._erasures: ErasureDoor | None = None
        self._readiness: Readiness | None = None
        self._line = Line(end, self._handle)
        self._on_healed: list[Callable[[str], None]] = []
        self._holding: _Holding | None = None
        self._let_go = 0
        self._tasks: TaskGroup | None = None

    def serve(self, workforce: Workforce, erasures: ErasureDoor, readiness: Readiness) -> None:
        """Answer from now on for what this worker has."""
        workforce.slot = self.slot
        workforce.others = self.figures_of_others
        self._workforce, self._erasures, self._readiness = workforce, erasures, readiness

    async def run(self) -> None:
        """Serve the line until the supervisor is gone, or this is cancelled."""
        async with cancelled_at_end() as self._tasks:
            self._tasks.start_soon(self._beat)
            await self._line.run()

    async def wait_broken(self) -> None:
        """Return once the supervisor is gone."""
        await self._line.broken.wait()

    def address(self) -> str:
        """Where Chroma serves; empty while nobody knows."""
        return self.store.address

    def incomplete(self, name: str) -> bool:
        """Whether vectors of the collection *name* may be missing."""
        return name in self.store.healing

    def check_store(self) -> bool:
        """Whether Chroma may be asked now, and is not held for a moment.

        Raises:
            ChildFailed: it does not run.
        """
        if self.store.state == "held":
            return False
        if self.store.state != "ready":
            raise ChildFailed(f"the private chroma is {self.store.state}: {self.store.reason}")
        return True

    def progress(self) -> dict[str, int] | None:
        """How far healing is; ``None``: nothing is to be healed."""
        known = self.store.progress
        return None if known is None else msgspec.structs.asdict(known)

    def suspect(self, collection: str, damage: Damage) -> None:
        """Have the keeper look at *collection*; see there."""
        self._line.tell(Suspected(collection, damage))

    def on_healed(self, call: Callable[[str], None]) -> None:
        """*call* with the name of each collection that has all its vectors again."""
        self._on_healed.append(call)

    async def tell_erased(self) -> None:
        """Return when all other processes hide what was entered in the ledger.

        Raises:
            LineBroken: not all have answered; they look by themselves soon.
        """
        await self._line.ask(Entered(), SPREAD_S)

    async def figures_of_others(self) -> Sequence[Figures]:
        """The figures of all others, and of what the dead ones counted; nothing where the
        supervisor does not answer.
        """
        try:
            answer = await self._line.ask(Gather(), GATHERED_S)
        except LineBroken as fault:
            log.warning("figures.not_gathered", reason=str(fault))
            return ()
        return answer.figures if isinstance(answer, Gathered) else ()

    async def _beat(self) -> None:
        count = 0
        while True:
            figures = None
            if count % FIGURES_EVERY_BEATS == 0 and self._workforce is not None:
                figures = self._workforce.own()
            ready = self._readiness is not None and self._readiness.ready
            self._line.tell(Beat(ready, figures))
            asked = self.gate.asked_within(BEAT_EVERY_S)
            if asked:
                self._line.tell(Asked(tuple(asked)))
            count += 1
            await anyio.sleep(BEAT_EVERY_S)

    async def _handle(self, message: Message) -> Message | None:
        match message:
            case StoreState():
                self.store = message
            case Healed(collection):
                for call in self._on_healed:
                    call(collection)
            case Hold(number, batches_only):
                await self._hold(number, batches_only=batches_only)
            case LetGo(number):
                self._let_go = max(self._let_go, number)
                if self._holding is not None:
                    self._holding.over.set()
                    self._holding = None
            case _:
                return await self._answer(message)
        return Done()

    async def _answer(self, message: Message) -> Message:
        """What only one who serves can do; who begins reads the ledger then."""
        if self._erasures is None and isinstance(message, LookAtLedger):
            return Done()
        if self._erasures is None or self._workforce is None:
            raise LineBroken("the worker has only begun")
        match message:
            case LookAtLedger():
                await self._erasures.refresh()
            case Forget(user, ()):
                await self._erasures.forget_user_here(user)
            case Forget(_, messages):
                await self._erasures.forget_messages_here(messages)
            case Gather():
                return Gathered((self._workforce.own(),))
            case _:
                raise LineBroken(f"not for a worker: {type(message).__name__}")
        return Done()

    async def _hold(self, number: int, *, batches_only: bool) -> None:
        """Close the gate until it is let go; returns when nothing is under way any more."""
        if number <= self._let_go:
            return  # that was given up meanwhile
        gate = self.gate.closed_to_batches if batches_only else self.gate.closed
        self._holding = holding = _Holding(gate())
        if self._tasks is not None:
            self._tasks.start_soon(holding.run)
            await holding.settled.wait()


class _Holding:
    """The gate is closed for as long as this runs."""

    def __init__(self, closed: AbstractAsyncContextManager[None]) -> None:
        self._closed = closed
        self.settled = anyio.Event()
        self.over = anyio.Event()

    async def run(self) -> None:
        async with self._closed:
            self.settled.set()
            await self.over.wait()
