"""Where erasures are asked for: entered in the ledger, and hidden, in every process that serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

import anyio
import anyio.to_thread
import structlog

from memory.dual_memory import DualMemory
from memory.errors import (
    LineBroken,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    UpkeepRefused,
)
from memory.hidden_users import GuardedLongTermMemory
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.records import conversation_record_id, is_conversation_record_id
from memory.upkeep.ledger import Erasure, Ledger

log = structlog.get_logger(__name__)

MOST_UNFINISHED: Final = 1_000
LOOK_EVERY_S: Final = 0.5
"""So soon a process hides what another one entered, if nobody tells it sooner."""


class Keepsake(Protocol):
    """One more place that keeps words, as :class:`memory.journal.Journal` does. Both methods leave
    no byte, and may be called again; they raise a ``MemoryFault`` if they fail.
    """

    async def forget_user(self, user: UserId) -> None: ...

    async def forget_messages(self, ids: Collection[MessageId]) -> None: ...


async def nobody_else() -> None:
    """What is told others where there are none."""


class ErasureDoor:
    """Takes erasures, and hides what is being erased, also what another process has entered.

    *guard* is the long-term memory of *memory*. *keepsakes* are other places that keep words on
    disk, or have yet to write them. ``tell_others`` returns when every other process has looked at
    the ledger; those it does not reach look by themselves. What is carried out is for
    :class:`memory.upkeep.erasure.Erasures`, in this process or in another. ``serves``: whether
    this process serves users; what another one knows of their conversations may be old.
    """

    def __init__(
        self,
        ledger: Ledger,
        memory: DualMemory,
        guard: GuardedLongTermMemory,
        *,
        keepsakes: Sequence[Keepsake] = (),
        scrubs: bool,
    ) -> None:
        self._ledger = ledger
        self._memory = memory
        self._guard = guard
        self._keepsakes = tuple(keepsakes)
        self.scrubs = scrubs
        """Whether the bytes are erased as well, and not the records only."""
        self.serves = True
        self.tell_others: Callable[[], Awaitable[None]] = nobody_else
        self._on_begin: list[Callable[[UserId], None]] = []
        self._on_messages: list[Callable[[UserId], None]] = []
        self._unfinished: dict[str, Erasure] = {}
        self._entering = anyio.Lock()

    def on_begin(self, call: Callable[[UserId], None]) -> None:
        """*call* with each user who is to be erased, as soon as that is hidden."""
        self._on_begin.append(call)

    def on_messages(self, call: Callable[[UserId], None]) -> None:
        """*call* with each user of whom messages are to be deleted, as soon as they are hidden, and
        once more when they are gone.
        """
        self._on_messages.append(call)

    async def resume(self) -> int:
        """Hide again what the last process did not finish; before anything is served. How many."""
        await self._look()
        return len(self._unfinished)

    async def refresh(self) -> None:
        """Hide what the ledger has by now, and show again what is finished; no title of this
        process's is made of hidden words then, if the store can be read.
        """
        new = await self._look()
        for erasure in new if self.serves else ():
            try:
                stored = await self._guard.unhidden.by_ids(named(erasure), erasure.messages)
                await self._untitle([it for it in stored if it.status != "deleted"])
            except StoreError as fault:
                log.info("erasure.title_later", reason=str(fault))

    async def _look(self) -> list[Erasure]:
        """Look at the ledger; the erasures of messages that are new here."""
        async with self._entering:
            entered = {it.id: it for it in await anyio.to_thread.run_sync(self._ledger.unfinished)}
            new = [it for it in entered.values() if it.id not in self._unfinished]
            for erasure in new:
                self._take_up(erasure)
            for erasure in [it for it in self._unfinished.values() if it.id not in entered]:
                self._end(erasure)
        return [erasure for erasure in new if erasure.messages]

    async def watch(self) -> None:
        """Look at the ledger whenever another process entered something, until cancelled."""
        seen = -1
        while True:
            changes = await anyio.to_thread.run_sync(self._ledger.changes)
            if changes != seen:
                await self.refresh()
            seen = changes
            await anyio.sleep(LOOK_EVERY_S)

    async def forget_user(self, user: UserId) -> Erasure:
        """Erase all of *user*: durable and hidden when it returns, finished some seconds later.

        Until then nothing of the user is found, and every write raises ``UserBeingErased``.
        Asking again meanwhile returns the same erasure.

        Raises:
            StoreBusy: too many erasures are not finished; nothing was begun.
            StoreUnavailable: the ledger does not take it, likewise.
        """
        return await self._begin(user, ())

    async def delete_messages(self, user: UserId, ids: Sequence[MessageId]) -> Erasure | None:
        """Erase *user*'s messages among *ids*, likewise; ``None`` where there are none.

        Each is shown as its tombstone from then on.

        Raises:
            StoreBusy: as above.
            StoreUnavailable: likewise, or the messages could not be looked up.
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

    async def delete_conversation(
        self, user: UserId, conversation: ConversationId, ids: Collection[MessageId]
    ) -> Erasure:
        """Erase *user*'s *conversation* with the messages *ids*, which may not be stored yet.

        It is in no list from then on, nothing more is stored in it, and its messages are shown as
        their tombstones.

        Raises:
            StoreBusy, StoreUnavailable: as above.
        """
        record = conversation_record_id(user, conversation)
        return await self._begin(user, [MessageId(record), *ids])

    async def find(self, erasure: str) -> Erasure | None:
        """The erasure of that id."""
        return await anyio.to_thread.run_sync(self._ledger.find, erasure)

    async def latest(self, limit: int) -> list[Erasure]:
        """The last erasures, newest first."""
        return await anyio.to_thread.run_sync(self._ledger.latest, limit)

    async def forget_user_here(self, user: UserId) -> None:
        """Keep nothing of *user*, who is being erased, in this process beside the store, and let
        nothing of it that waits be written after this returns.

        Raises:
            MemoryFault: something may be kept; again is safe.
        """
        await self.refresh()
        async with self._memory.backfill.held(user):
            await self._forget_beside(user)

    async def forget_messages_here(self, ids: Collection[MessageId]) -> None:
        """As :meth:`forget_user_here`, for messages that are being deleted."""
        await self.refresh()
        wanted = set(ids)
        for erasure in list(self._unfinished.values()):
            if wanted.intersection(erasure.messages):
                await self._forget_messages_here(named(erasure), erasure.messages)
                self._memory.hot.forget(named(erasure))

    async def _begin(self, user: UserId, messages: Sequence[MessageId]) -> Erasure:
        if len(self._unfinished) >= MOST_UNFINISHED:
            raise StoreBusy(f"{len(self._unfinished)} erasures are not finished")
        with anyio.CancelScope(shield=True):  # what stands in the ledger is carried out
            async with self._entering:
                try:
                    erasure = await anyio.to_thread.run_sync(self._ledger.begin, user, messages)
                except UpkeepRefused as fault:  # the disk is full, say
                    log.warning("erasure.not_entered", reason=str(fault))
                    raise StoreUnavailable("the erasure cannot be entered") from fault
                self._take_up(erasure)
            try:
                await self.tell_others()
            except LineBroken as fault:
                log.info("erasure.others_look_themselves", reason=str(fault))
        return erasure

    def _take_up(self, erasure: Erasure) -> None:
        if erasure.id in self._unfinished or erasure.user is None:
            return
        self._unfinished[erasure.id] = erasure
        if erasure.messages:
            self._guard.hide_messages(erasure.messages)
            self._memory.conversations.forget_records(erasure.user, conversations_in(erasure))
            for call in self._on_messages:
                call(erasure.user)
        else:
            self._guard.hide_user(erasure.user)
            for call in self._on_begin:
                call(erasure.user)
        self._memory.hot.forget(erasure.user)
        log.info("erasure.begun", erasure=erasure.id, messages=len(erasure.messages) or "all")

    def _end(self, erasure: Erasure) -> None:
        """Show again what came after *erasure*."""
        del self._unfinished[erasure.id]
        if erasure.messages:
            self._guard.show_messages(erasure.messages)
            for call in self._on_messages:
                call(named(erasure))
        else:
            self._guard.show_user(named(erasure))

    async def _forget_beside(self, user: UserId) -> None:
        await self._memory.forget_around(user)
        for keepsake in self._keepsakes:
            await keepsake.forget_user(user)

    async def _forget_messages_here(self, user: UserId, ids: Sequence[MessageId]) -> list[Message]:
        """What is stored under *ids*, as it is."""
        stored = await self._guard.unhidden.by_ids(user, ids)
        if not self.serves:
            self._memory.conversations.forget(user)
        if not self._guard.is_hidden(user):
            await self._untitle([message for message in stored if message.status != "deleted"])
        for keepsake in self._keepsakes:
            await keepsake.forget_messages(ids)
        async with self._memory.backfill.held(user):
            pass  # nothing is being filled in, and nothing waits
        return stored

    async def _untitle(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self._memory.conversations.untitle(message)


def conversations_in(erasure: Erasure) -> list[str]:
    """The ids of the conversations' records that are to be deleted with *erasure*."""
    return [record for record in erasure.messages if is_conversation_record_id(record)]


def named(erasure: Erasure) -> UserId:
    """Whose *erasure* is, which is not finished."""
    if erasure.user is None:
        raise AssertionError(f"erasure {erasure.id} is finished")
    return erasure.user
