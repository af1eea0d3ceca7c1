"""Replies that have ended and are not stored yet: each is stored once, in its place, however late.

The lane's lock is held while one is stored, and nothing new is said in a conversation before its
late replies are stored: so each follows what it would have followed, and a question that comes
when the store is back finds it there (decision 0006).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

import anyio
import structlog
from anyio import CancelScope
from msgspec.structs import replace

from chat_server.events import ConversationUpdated, MessageCreated, wire_conversation, wire_message
from chat_server.fanout import Fanout
from chat_server.metrics import Metrics
from chat_server.patience import passing
from chat_server.reply_places import ReplyPlaces
from chat_server.runs import Lane, Run, Runs
from memory.dual_memory import DualMemory
from memory.errors import (
    ConversationDeleted,
    IdConflict,
    JournalFailed,
    StoreError,
    StoreUnavailable,
    UserBeingErased,
)
from memory.journal import Journal
from memory.messages import ConversationId, Message, MessageId, UserId, Vector

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 2_000
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 3.0
REFUSED_PAUSE_S: Final = 60.0
"""Between tries when all that waits was refused as it is."""

Key = tuple[UserId, ConversationId]


class Late:
    """A reply that has ended. Its ``message`` has no place in its conversation yet."""

    def __init__(
        self,
        message: Message,
        *,
        run: Run | None = None,
        vector: Vector | None = None,
        active: bool = False,
    ) -> None:
        self.message = message
        self.run = run
        """Knows the place, as long as it is in its lane."""
        self.vector = vector
        self.active = active
        self.settled = anyio.Event()
        self.stored: Message | None = None
        """Once it is settled: as it stands in the store; ``None``: it never will."""
        self.told_unstored = False
        """The user's clients were told that it is not stored, and are owed a word when it is."""
        self.since_s = time.monotonic()


class LateReplies:
    """Stores replies, at once or as soon as the store takes them."""

    def __init__(
        self,
        memory: DualMemory,
        runs: Runs,
        fanout: Fanout,
        journal: Journal,
        metrics: Metrics,
    ) -> None:
        self._memory = memory
        self._places = ReplyPlaces(memory)
        self._runs = runs
        self._fanout = fanout
        self._journal = journal
        self._metrics = metrics
        self._waiting: dict[Key, deque[Late]] = {}
        self._count = 0
        self._arrived = anyio.Event()

    def take_over(self, left: Iterable[Message]) -> None:
        """Have stored what the last process left in the journal; before messages are taken."""
        for message in left:
            late = Late(message)
            late.told_unstored = True
            if self._wait(late):
                log.info("reply.recovered", run=message.id, status=message.status)

    async def store(self, late: Late) -> None:
        """Store *late* at the end of its branch, once; it is settled then.

        If the store does not take it now, it waits for :meth:`run`. If too many wait already, it
        is settled without having been stored.
        """
        key = (late.message.user, late.message.conversation)
        async with self._runs.lane(*key) as lane:
            try:
                await self.store_waiting(lane, *key)
                await self._store(late, lane)
            except StoreError as fault:
                log.warning("reply.not_stored_yet", run=late.message.id, reason=str(fault))
                if not self._wait(late):
                    log.warning("reply.too_many_late", run=late.message.id, waiting=self._count)
                    self._settle(late, None)

    async def store_waiting(self, lane: Lane, user: UserId, conversation: ConversationId) -> None:
        """Store what waits in a conversation whose *lane* is held, before more is said in it.

        What the store refuses as it is waits on, and hinders nobody.

        Raises:
            StoreUnavailable: the store is away still; nothing can be placed here.
        """
        key = (user, conversation)
        for late in list(self._waiting.get(key, ())):
            try:
                await self._store(late, lane)
            except StoreError as fault:
                if passing(fault):
                    raise StoreUnavailable("a reply before it waits to be stored") from fault
                log.warning("reply.refused", run=late.message.id, reason=str(fault))
            else:
                self._leave(key, late)

    def of_conversation(self, user: UserId, conversation: ConversationId) -> list[Message]:
        """The replies of a conversation that wait, in order."""
        return [late.message for late in self._waiting.get((user, conversation), ())]

    def waits_in(self, user: UserId, conversation: ConversationId) -> bool:
        """Whether a reply waits in that conversation."""
        return (user, conversation) in self._waiting

    def waiting(self, user: UserId, reply: MessageId) -> Message | None:
        """*reply* of *user*, if it waits, in whichever conversation."""
        own = (queue for key, queue in self._waiting.items() if key[0] == user)
        waiting = (late.message for queue in own for late in queue)
        return next((message for message in waiting if message.id == reply), None)

    def is_waiting(self, user: UserId, reply: MessageId) -> bool:
        """Whether *reply* of *user* waits, in whichever conversation."""
        return self.waiting(user, reply) is not None

    def forget_user(self, user: UserId) -> None:
        """Drop what waits of *user*; the journal is told by whoever erases."""
        for key in [key for key in self._waiting if key[0] == user]:
            self.forget_conversation(*key)

    def forget_conversation(self, user: UserId, conversation: ConversationId) -> list[MessageId]:
        """Drop what waits in one conversation, likewise; its ids."""
        dropped = list(self._waiting.get((user, conversation), ()))
        for late in dropped:
            self._leave((user, conversation), late)
            self._settle(late, None)
        return [late.message.id for late in dropped]

    def __len__(self) -> int:
        return self._count

    async def run(self) -> None:
        """Store what waits, patiently, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            with anyio.move_on_after(pause_s if self._count else math.inf) as rest:
                await self._arrived.wait()
            self._arrived = anyio.Event()
            if not rest.cancelled_caught:
                pause_s = FIRST_PAUSE_S
                await anyio.sleep(pause_s)
            pause_s = await self._round(pause_s)

    async def _round(self, pause_s: float) -> float:
        """Try all that waits once; how long to rest before the next time."""
        is_away = False
        for key in list(self._waiting):
            try:
                async with self._runs.lane(*key) as lane:
                    await self.store_waiting(lane, *key)
            except StoreUnavailable as fault:
                log.info("reply.waits", waiting=self._count, reason=str(fault.__cause__))
                is_away = True
        if is_away:
            return min(2 * pause_s, LONGEST_PAUSE_S)
        return REFUSED_PAUSE_S if self._count else FIRST_PAUSE_S

    async def _store(self, late: Late, lane: Lane) -> None:
        """Store *late* behind the end of its branch, and tell who is owed a word.

        Raises:
            StoreError: it is not stored, or not known to be.
        """
        if late.settled.is_set():
            return  # the user was forgotten meanwhile
        message, vector = late.message, late.vector
        if vector is None:
            vector = late.vector = await self._memory.embed(message.text)
        parent = await self._places.parent(message, late.run, lane)
        if parent is None:
            log.error("reply.question_gone", run=message.id)
            self._settle(late, None)
            await self._forget(message)
            return
        placed = replace(message, parent=parent.id, depth=parent.depth + 1)
        shown = await self._places.will_be_shown(placed, late.run)
        try:
            appended = await self._memory.record(placed, vector)
        except IdConflict:
            self._settle(late, await self._stored_elsewhere(message))
            return
        except (UserBeingErased, ConversationDeleted):
            self._settle(late, None)
            await self._forget(message)
            return
        stored = appended.message
        await self._places.take(stored, lane, shown=shown)
        with CancelScope(shield=True):  # stored is stored, however late
            await self._memory.append_window(stored, vector, active=late.active)
            if appended.duplicate:  # more may have been said behind it since
                lane.doubt()
                self._memory.doubt_window(stored.user, stored.conversation)
            self._settle(late, stored)
            if late.told_unstored:
                await self._tell(late, stored)

    async def _forget(self, message: Message) -> None:
        """No byte of it may stay in the journal: it may have come there after its user's went."""
        try:
            await self._journal.forget_messages([message.id])
        except JournalFailed as fault:
            log.warning("journal.not_forgotten", reason=str(fault))

    async def _stored_elsewhere(self, message: Message) -> Message | None:
        """The reply that stands under the same id: the one that holds, for others have read it."""
        log.info("reply.made_twice", run=message.id)
        found = await self._memory.long_term.by_ids(message.user, [message.id])
        return found[0] if found else None

    async def _tell(self, late: Late, stored: Message) -> None:
        waited_s = round(time.monotonic() - late.since_s, 3)
        log.info("reply.stored_late", run=stored.id, waited_s=waited_s, chars=len(stored.text))
        self._fanout.publish(
            stored.user,
            MessageCreated(conversation=stored.conversation, message=wire_message(stored)),
        )
        await tell_of_conversation(self._memory, self._fanout, stored)

    def _wait(self, late: Late) -> bool:
        """Take *late* in; ``False``: too many wait."""
        if self._count >= MAX_WAITING:
            return False
        key = (late.message.user, late.message.conversation)
        self._waiting.setdefault(key, deque()).append(late)
        self._count += 1
        self._metrics.replies_waiting(self._count)
        self._arrived.set()
        return True

    def _leave(self, key: Key, late: Late) -> None:
        """Take *late* out, once."""
        queue = self._waiting.get(key)
        if queue is None or late not in queue:
            return
        queue.remove(late)
        if not queue:
            del self._waiting[key]
        self._count -= 1
        self._metrics.replies_waiting(self._count)

    def _settle(self, late: Late, stored: Message | None) -> None:
        """Nothing more is to be done: the journal may forget it."""
        late.stored = stored
        late.settled.set()
        self._journal.settle(late.message.id)


async def tell_of_conversation(memory: DualMemory, fanout: Fanout, said: Message) -> None:
    """Note that *said* was said last, and tell the user's clients."""
    try:
        conversation = await memory.conversations.touch(said)
    except StoreError as fault:
        log.warning("conversations.not_read", reason=str(fault))
        return
    if conversation is not None:
        fanout.publish(
            said.user,
            ConversationUpdated(conversation=wire_conversation(conversation)),
        )
