"""Erasing: a user with all that was ever said, or single messages, down to the bytes.

An erasure is entered in the ledger first and takes effect at once: what is to be erased is hidden
from then on. The rest follows in the background and is resumed after a restart: what is kept
beside the store is forgotten, the records are deleted, the files are scrubbed, the ledger is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import anyio
import anyio.to_thread
import msgspec
import structlog

from memory.dual_memory import DualMemory
from memory.errors import MemoryFault, StoreBusy, StoreError, StoreUnavailable
from memory.hidden_users import GuardedLongTermMemory
from memory.messages import Message, MessageId, UserId, tombstone
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
MOST_UNFINISHED: Final = 1_000


class Keepsake(Protocol):
    """One more place that keeps words, as :class:`memory.journal.Journal` does. Both methods leave
    no byte, and may be called again; they raise a ``MemoryFault`` if they fail.
    """

    async def forget_user(self, user: UserId) -> None: ...

    async def forget_messages(self, ids: Collection[MessageId]) -> None: ...


class Scrubs(Protocol):
    """What is needed of :class:`memory.upkeep.scrubbing.Scrubber`."""

    async def holds_user(self, user: UserId) -> bool: ...

    async def scrub(self) -> Scrubbed: ...


class ErasureTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long erasures gather before a scrub, and how long one that failed rests."""

    gather_s: float = GATHER_S
    gather_at_most_s: float = GATHER_AT_MOST_S
    retry_s: float = RETRY_S


class Erasures:
    """Takes erasures and carries them out; needs :meth:`run`.

    *guard* is the long-term memory of *memory*. *scrubber* is ``None`` where the files are not at
    hand: records are deleted, and the bytes are the matter of whoever runs that store.
    *keepsakes* are other places that keep words on disk.
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
        self._ledger = ledger
        self._memory = memory
        self._guard = guard
        self._scrubber = scrubber
        self._keepsakes = tuple(keepsakes)
        self._on_begin: list[Callable[[UserId], None]] = []
        self._times = times or ErasureTimes()
        self._unfinished: dict[str, Erasure] = {}
        self._asked = anyio.Event()
        self._asked_at = 0.0
        self._entering = anyio.Lock()

    @property
    def scrubs(self) -> bool:
        """Whether the bytes are erased as well, and not the records only."""
        return self._scrubber is not None

    def on_begin(self, call: Callable[[UserId], None]) -> None:
        """*call* with each user who is to be erased, as soon as that is hidden."""
        self._on_begin.append(call)

    async def resume(self) -> int:
        """Hide again what the last process did not finish; before anything is served. How many."""
        for erasure in await anyio.to_thread.run_sync(self._ledger.unfinished):
            self._take_up(erasure)
        return len(self._unfinished)

    async def forget_user(self, user: UserId) -> Erasure:
        """Erase all of *user*: durable and hidden when it returns, finished some seconds later.

        Until then nothing of the user is found, and every write raises ``UserBeingErased``.
        Asking again meanwhile returns the same erasure.

        Raises:
            StoreBusy: too many erasures are not finished; nothing was begun.
        """
        return await self._begin(user, ())

    async def delete_messages(self, user: UserId, ids: Sequence[MessageId]) -> Erasure | None:
        """Erase *user*'s messages among *ids*, likewise; ``None`` where there are none.

        Each is shown as its tombstone from then on.

        Raises:
            StoreBusy: as above.
            StoreUnavailable: the messages could not be looked up.
        """
        found = await self._guard.by_ids(user, ids)
        there = [message for message in found if message.status != "deleted"]
        if not there:
            return None
        erasure = await self._begin(user, [message.id for message in there])
        try:
            await self._untitle(there)
        except StoreError as fault:
            log.info("erasure.title_later", reason=str(fault))
        return erasure

    async def find(self, erasure: str) -> Erasure | None:
        """The erasure of that id."""
        return await anyio.to_thread.run_sync(self._ledger.find, erasure)

    async def latest(self, limit: int) -> list[Erasure]:
        """The last erasures, newest first."""
        return await anyio.to_thread.run_sync(self._ledger.latest, limit)

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

    async def _begin(self, user: UserId, messages: Sequence[MessageId]) -> Erasure:
        if len(self._unfinished) >= MOST_UNFINISHED:
            raise StoreBusy(f"{len(self._unfinished)} erasures are not finished")
        async with self._entering:
            with anyio.CancelScope(shield=True):  # what stands in the ledger is carried out
                erasure = await anyio.to_thread.run_sync(self._ledger.begin, user, messages)
                self._take_up(erasure)
        return erasure

    def _take_up(self, erasure: Erasure) -> None:
        if erasure.id in self._unfinished or erasure.user is None:
            return
        self._unfinished[erasure.id] = erasure
        if erasure.messages:
            self._guard.hide_messages(erasure.messages)
        else:
            self._guard.hide_user(erasure.user)
            for call in self._on_begin:
                call(erasure.user)
        self._memory.hot.forget(erasure.user)
        self._asked_at = anyio.current_time()
        self._asked.set()
        log.info("erasure.begun", erasure=erasure.id, messages=len(erasure.messages) or "all")

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
        user = _named(erasure)
        if erasure.messages:
            await self._take_out_messages(user, erasure.messages)
            return
        await self._forget_beside(user)
        async with self._memory.backfill.held(user):
            await self._guard.forget_user(user)

    async def _forget_beside(self, user: UserId) -> None:
        await self._memory.forget_around(user)
        for keepsake in self._keepsakes:
            await keepsake.forget_user(user)

    async def _take_out_messages(self, user: UserId, ids: Sequence[MessageId]) -> None:
        stored = await self._guard.unhidden.by_ids(user, ids)
        if not self._guard.is_hidden(user):
            await self._untitle([message for message in stored if message.status != "deleted"])
        for keepsake in self._keepsakes:
            await keepsake.forget_messages(ids)
        async with self._memory.backfill.held(user):
            await self._guard.delete(user, ids)
        await self._memory.drop_windows(user, {message.conversation for message in stored})
        if stored:
            await self._memory.read_again(tombstone(stored[0]))

    async def _untitle(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self._memory.conversations.untitle(message)

    async def _finish(self, erasure: Erasure) -> None:
        user = _named(erasure)
        if not erasure.messages:
            # What was under way when it began may have been kept beside the store since.
            await self._forget_beside(user)
            await self._check_gone(user)
        await anyio.to_thread.run_sync(self._ledger.finish, erasure)
        del self._unfinished[erasure.id]
        if erasure.messages:
            self._guard.show_messages(erasure.messages)
        else:
            self._guard.show_user(user)
        log.info("erasure.finished", erasure=erasure.id)

    async def _check_gone(self, user: UserId) -> None:
        """A write that was sent and not answered may have come after the deletion.

        Raises:
            StoreUnavailable: one has; its bytes are in the files again.
        """
        if self._scrubber is None:
            await self._guard.forget_user(user)
        elif await self._scrubber.holds_user(user):
            raise StoreUnavailable("something was stored meanwhile")


def _named(erasure: Erasure) -> UserId:
    if erasure.user is None:
        raise AssertionError(f"erasure {erasure.id} is finished")
    return erasure.user
