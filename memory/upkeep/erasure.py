"""Erasing: a user with all that was ever said, or single messages, down to the bytes.

An erasure is entered in the ledger first and takes effect at once: what is to be erased is hidden
from then on. The rest follows in the background and is resumed after a restart: what is kept
beside the store is forgotten, the records are deleted, the files are scrubbed, the ledger is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import anyio
import anyio.to_thread
import msgspec
import structlog

from memory.dual_memory import DualMemory
from memory.errors import MemoryFault, StoreUnavailable
from memory.hidden_users import GuardedLongTermMemory
from memory.messages import MessageId, UserId, tombstone
from memory.upkeep.erasure_door import ErasureDoor, Keepsake, conversations_in, named
from memory.upkeep.ledger import Erasure, Ledger
from memory.upkeep.scrubbing import Scrubbed

log = structlog.get_logger(__name__)

GATHER_S: Final = 2.0
"""Erasures that are asked for within this time of each other share a scrub."""
GATHER_AT_MOST_S: Final = 20.0
REST_FACTOR: Final = 20.0
MOST_REST_S: Final = 30.0
"""After a scrub, as many times as long as Chroma was not there, and at most this, none follows:
nobody can keep it from serving by erasing."""
RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 15.0


class Scrubs(Protocol):
    """What is needed of :class:`memory.upkeep.scrubbing.Scrubber`."""

    async def holds_user(self, user: UserId) -> bool: ...

    async def scrub(self) -> Scrubbed: ...


class ErasureTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long erasures gather before a scrub, and how long one that failed rests."""

    gather_s: float = GATHER_S
    gather_at_most_s: float = GATHER_AT_MOST_S
    retry_s: float = RETRY_S


class Erasures(ErasureDoor):
    """Takes erasures and carries them out; needs :meth:`run`, in one process of a server.

    *scrubber* is ``None`` where the files are not at hand: records are deleted, and the bytes are
    the matter of whoever runs that store. Where other processes serve, one of the *keepsakes* is
    they: what they keep is forgotten before the records are deleted, and once more after that.
    """

    def __init__(
        self,
        ledger: Ledger,
        memory: DualMemory,
        guard: GuardedLongTermMemory,
        scrubber: Scrubs | None,
        *,
        keepsakes: Sequence[Keepsake] = (),
        times: ErasureTimes | None = None,
    ) -> None:
        super().__init__(ledger, memory, guard, keepsakes=keepsakes, scrubs=scrubber is not None)
        self._scrubber = scrubber
        self._times = times or ErasureTimes()
        self._asked = anyio.Event()
        self._asked_at = 0.0

    async def run(self) -> None:
        """Carry out what is asked for, until cancelled; what is not finished is resumed."""
        retry_s = self._times.retry_s
        if self._unfinished:
            self._asked.set()  # also after a fault of ours ended this once
        while True:
            await self._gathered()
            begun = list(self._unfinished.values())
            rest_s = 0.0
            try:
                rest_s = await self._carry_out(begun)
            except MemoryFault as fault:
                log.warning("erasure.delayed", unfinished=len(begun), reason=str(fault))
                self._asked.set()
                await anyio.sleep(retry_s)
                retry_s = min(2 * retry_s, MOST_RETRY_S)
            else:
                retry_s = self._times.retry_s
            await anyio.sleep(rest_s)

    def _take_up(self, erasure: Erasure) -> None:
        if erasure.id not in self._unfinished:
            super()._take_up(erasure)
            self._asked_at = anyio.current_time()
            self._asked.set()

    async def _gathered(self) -> None:
        """Wait until something was asked for, and for what is asked for shortly after."""
        await self._asked.wait()
        self._asked = anyio.Event()
        latest = anyio.current_time() + self._times.gather_at_most_s
        while (until := self._asked_at + self._times.gather_s) > anyio.current_time():
            if until > latest:
                await anyio.sleep_until(latest)
                return
            await anyio.sleep_until(until)

    async def _carry_out(self, erasures: Sequence[Erasure]) -> float:
        """Erase, scrub, and enter the end of *erasures*; for how long no scrub should follow.

        Raises:
            MemoryFault: something was in the way of one of them, or of all; again is safe.
        """
        faults: list[MemoryFault] = []
        ready: list[Erasure] = []
        for erasure in erasures:
            try:
                await self._take_out(erasure)
            except MemoryFault as fault:
                faults.append(fault)
            else:
                ready.append(erasure)
        rest_s = 0.0
        if self._scrubber is not None and ready:
            scrubbed = await self._scrubber.scrub()
            rest_s = min(MOST_REST_S, REST_FACTOR * scrubbed.held_s)
        for erasure in ready:
            await self._finish(erasure)
        if faults:
            raise faults[0]
        return rest_s

    async def _take_out(self, erasure: Erasure) -> None:
        user = named(erasure)
        if erasure.messages:
            await self._take_out_messages(user, erasure.messages)
            await self._guard.unlist(user, conversations_in(erasure))
            return
        await self._forget_beside(user)
        async with self._memory.backfill.held(user):
            await self._guard.forget_user(user)

    async def _take_out_messages(self, user: UserId, ids: Sequence[MessageId]) -> None:
        stored = await self._forget_messages_here(user, ids)
        async with self._memory.backfill.held(user):
            await self._guard.delete(user, ids)
        await self._memory.drop_windows(user, {message.conversation for message in stored})
        if stored:
            await self._memory.read_again(tombstone(stored[0]))

    async def _finish(self, erasure: Erasure) -> None:
        user = named(erasure)
        if not erasure.messages:
            # What was under way when it began may have been kept beside the store since.
            await self._forget_beside(user)
            await self._check_gone(user)
        elif records := conversations_in(erasure):
            await self._guard.unlist(user, records)  # a write of it may have come afterwards
        await anyio.to_thread.run_sync(self._ledger.finish, erasure)
        if erasure.id in self._unfinished:  # another look at the ledger may have been faster
            self._end(erasure)
        log.info("erasure.finished", erasure=erasure.id)
        await self.tell_others()

    async def _check_gone(self, user: UserId) -> None:
        """A write that was sent and not answered may have come after the deletion.

        Raises:
            StoreUnavailable: one has; its bytes are in the files again.
        """
        if self._scrubber is None:
            await self._guard.forget_user(user)
        elif await self._scrubber.holds_user(user):
            raise StoreUnavailable("something was stored meanwhile")
