"""The supervisor of several workers: it has the socket, the children and the files, and no users.

It opens what there is once for all of them, in the order of need: the private Chroma with its
keeper, the private Redis, the workers, and what carries out erasures. At its end the workers drain
first.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import structlog

from chat_server.children import open_keeper, surroundings_of
from chat_server.crew import Crew, Member
from chat_server.crew_erasure import CrewKeepsake
from chat_server.crew_gate import CrewGate
from chat_server.embedders import LateEmbedder
from chat_server.figures import SUPERVISOR, Figures
from chat_server.listener import address_of, ready_block
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from chat_server.model_server import model_name
from chat_server.settings import ConfigError, Settings
from chat_server.settings_file import load_settings, variable
from chat_server.stores import (
    make_memory,
    open_chroma,
    open_ledger,
    open_short_term,
    scrubber_of,
)
from chat_server.supervision import cancelled_at_end, supervise
from chat_server.worker_child import WorkerChild, worker_times
from chat_server.worker_messages import (
    Asked,
    Done,
    Entered,
    Gather,
    Gathered,
    Healed,
    LookAtLedger,
    Message,
    StoreState,
    Suspected,
)
from memory.errors import LineBroken
from memory.hidden_users import GuardedLongTermMemory
from memory.surroundings import Surroundings
from memory.upkeep.erasure import Erasures
from memory.upkeep.keeper import ChromaKeeper

log = structlog.get_logger(__name__)

READY_WITHIN_S: Final = 120.0
LOOKED_S: Final = 1.0
"""What the other workers may take to hide what one of them entered."""
STATE_EVERY_S: Final = 0.5
"""How often workers are told how far healing is; all else they are told at once."""


class Supervisor:
    """Runs ``server.workers`` processes on the socket *listener*.

    *config* is read again by each worker that is started: what all must agree on stays as it was
    when this began.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        pseudonyms: Pseudonyms,
        config: Path | None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._config = config
        self._metrics = Metrics(pseudonyms)
        self._gate = CrewGate()
        self._keeper: ChromaKeeper | None = None
        self._told = StoreState()
        self._erasures: Erasures | None = None
        self._crew = Crew(
            settings.server.workers,
            self,
            worker_times(settings.server.drain_s),
            salt=pseudonyms.salt.hex(),
        )

    def run(self) -> None:
        """Serve until a signal: SIGTERM and SIGINT end all in order, a second one ends the
        waiting, SIGHUP starts the workers anew, one after the other.
        """
        anyio.run(self._run)

    async def _run(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with AsyncExitStack() as stack:
                await self._open_stores(stack)
                hurrying = await stack.enter_async_context(cancelled_at_end())
                await stack.enter_async_context(self._crew.working())
                log.info("server.listening", address=address_of(self._listener))
                async with cancelled_at_end() as tasks:
                    tasks.start_soon(self._say_when_ready)
                    async for number in signals:
                        if number != signal.SIGHUP:
                            break
                        tasks.start_soon(self._roll)
                self._listener.close()
                log.info("server.stopping", hint="a second signal stops the waiting")
                hurrying.start_soon(self._hurry, signals)

    async def _open_stores(self, stack: AsyncExitStack) -> None:
        """The children, and who carries out erasures; they are closed in reverse."""
        settings, metrics = self._settings, self._metrics
        embedder = LateEmbedder(settings)
        stack.push_async_callback(embedder.aclose)
        around, address = Surroundings(shared=True), settings.chroma.url
        if not address:
            keeper = self._keeper = await open_keeper(
                settings, embedder, metrics, stack, self._gate
            )
            around = surroundings_of(keeper, metrics, shared=True)
            keeper.on_healed(lambda collection: self._crew.tell_all(Healed(collection)))
            self._gate.open_to(self._crew)
        long_term = await open_chroma(
            settings, embedder, self._keeper.address if self._keeper else address, around, stack
        )
        short_term, _ = await open_short_term(settings, metrics, stack)
        background = await stack.enter_async_context(cancelled_at_end())
        if self._keeper is not None:
            background.start_soon(supervise, "state of chroma", partial(self._tell, self._keeper))
        guard = GuardedLongTermMemory(long_term)
        memory = await make_memory(settings, guard, short_term, embedder, stack)
        self._erasures = Erasures(
            await open_ledger(settings, stack),
            memory,
            guard,
            scrubber_of(self._keeper),
            keepsakes=[CrewKeepsake(self._crew, settings.data_dir), *memory.hot.keepsakes],
        )
        self._erasures.serves = False
        self._erasures.tell_others = self._tell_of_ledger
        await self._erasures.resume()
        background.start_soon(supervise, "erasures", self._erasures.run)
        background.start_soon(supervise, "ledger", self._erasures.watch)

    def make_child(self, slot: int, on_start: Callable[[socket.socket], None]) -> WorkerChild:
        return WorkerChild(
            slot,
            self._listener,
            settings=shared_settings(self._settings),
            config=self._config,
            on_start=on_start,
        )

    def greeting(self) -> Sequence[Message]:
        if self._keeper is None:
            return ()
        self._told = state_of(self._keeper)
        return (self._told,)

    def restarted(self, child: str) -> None:
        self._metrics.child_restarted(child)

    async def said(self, member: Member, message: Message) -> Message | None:
        match message:
            case Suspected(collection, damage):
                if self._keeper is not None:
                    self._keeper.suspect(collection, damage)
            case Asked(collections):
                self._gate.asked(collections)
            case Entered():
                await self._look(member)
            case Gather():
                others = await self._crew.figures(but=member.slot)
                return Gathered((*others, self._own()))
            case _:
                raise LineBroken(f"not for a supervisor: {type(message).__name__}")
        return Done()

    async def _look(self, member: Member) -> None:
        """Have all but *member* look at the ledger.

        Raises:
            LineBroken: one of them has not answered.
        """
        if self._erasures is not None:
            await self._erasures.refresh()
        for answer in (await self._crew.ask_all(LookAtLedger(), LOOKED_S, but=member)).values():
            if isinstance(answer, LineBroken):
                raise answer

    async def _tell_of_ledger(self) -> None:
        self._crew.tell_all(LookAtLedger())

    def _own(self) -> Figures:
        return Figures(
            slot=SUPERVISOR,
            pid=os.getpid(),
            since=0.0,
            families=self._metrics.families(),
            lately=self._metrics.lately(),
        )

    async def _tell(self, keeper: ChromaKeeper) -> None:
        """Tell the workers of Chroma whenever something is different, until cancelled."""
        while True:
            if state_of(keeper) != self._told:
                for message in self.greeting():
                    self._crew.tell_all(message)
            with anyio.move_on_after(STATE_EVERY_S):
                await keeper.child.changed()

    async def _say_when_ready(self) -> None:
        try:
            await self._crew.wait_ready(READY_WITHIN_S)
        except LineBroken as fault:
            log.warning("server.not_ready", reason=str(fault))
            await self._crew.wait_ready(math.inf)
        address = address_of(self._listener)
        log.info("server.ready", address=address, workers=self._settings.server.workers)
        if sys.stderr.isatty():
            name = model_name(self._settings)
            sys.stderr.write(ready_block(address, self._settings.data_dir, name))
            sys.stderr.flush()

    async def _roll(self) -> None:
        try:
            load_settings(self._config)
        except ConfigError as reason:
            log.warning("workers.not_rolled", reason=str(reason))
            return
        await self._crew.roll()

    async def _hurry(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            if number != signal.SIGHUP:
                self._crew.hurry()


def shared_settings(settings: Settings) -> dict[str, str]:
    """What all processes must agree on, as the environment has it: it outweighs the file."""
    return {
        variable(("data_dir",)): str(settings.data_dir),
        variable(("server", "workers")): str(settings.server.workers),
        variable(("server", "drain_s")): str(settings.server.drain_s),
        **{
            variable((section, key)): str(value)
            for section in ("redis", "chroma", "embedding")
            for key, value in getattr(settings, section).model_dump().items()
        },
    }


def state_of(keeper: ChromaKeeper) -> StoreState:
    """What clients of *keeper*'s Chroma must know."""
    return StoreState(
        address=keeper.address(),
        state=keeper.child.state,
        reason=keeper.child.reason,
        healing=tuple(keeper.incomplete()),
        progress=keeper.progress(),
    )
