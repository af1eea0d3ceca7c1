"""Long-term memory in RAM: the twin of :mod:`memory.chroma` for tests; gone with the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import anyio
import anyio.lowlevel
import msgspec
import numpy as np

from memory.conversation_tree import Node, branches_on, leaves_below, way_up
from memory.errors import (
    IdConflict,
    StoreError,
    StoreUnavailable,
    StoreUnknown,
    UserBeingErased,
)
from memory.long_term import ConversationPage, Line, StoredPage, TreePage, check_bulk
from memory.messages import (
    Appended,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    UserId,
    Vector,
    Vectors,
    tombstone,
)
from memory.paging import conversation_page, month_cursor, parse_month_cursor
from memory.records import LAST_MONTH, conversation_record_id, month_of, settled

TREE_DEPTHS = 16


class InProcessLongTermMemory:
    """The contract :class:`memory.long_term.LongTermMemory`, without a store behind it.

    Fails when it is told to: ``gate`` holds appends up until it is set, ``away`` makes every
    call fail, :meth:`fail_next_append` one append.
    """

    def __init__(self, *, dimension: int = 384) -> None:
        self._dimension = dimension
        self._messages: dict[MessageId, Message] = {}
        self._vectors: dict[MessageId, Vector] = {}
        self._conversations: dict[tuple[UserId, ConversationId], Conversation] = {}
        self._eras: dict[UserId, int] = {}
        self._failures: list[StoreError] = []
        self._healthy = True
        self._note: Callable[[Message], None] = lambda _message: None
        self.gate: anyio.Event | None = None
        """Appends wait for it before they store anything."""
        self.away = False
        """Whether every call raises ``StoreUnavailable``."""

    @property
    def healthy(self) -> bool:
        return self._healthy

    def fail_next_append(self, error: StoreError) -> None:
        """Let the next append raise *error*; after a ``StoreUnknown`` it is stored nevertheless."""
        self._failures.append(error)

    def lose(self) -> None:
        """Forget everything, as a store does whose folder is gone."""
        self._messages.clear()
        self._vectors.clear()
        self._conversations.clear()

    async def append(self, message: Message, vector: Vector) -> Appended:
        if vector.shape != (self._dimension,):
            raise ValueError(f"a vector of shape {vector.shape}: not of this store's embedder")
        return await self._append(message, vector, self._era(message.user))

    async def _append(self, message: Message, vector: Vector, era: int) -> Appended:
        if self.gate is not None:
            await self.gate.wait()
        self._healthy = False
        await self._answer()
        if era != self._era(message.user):
            raise UserBeingErased
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None and not isinstance(failure, StoreUnknown):
            raise failure
        outcome = self._store(message, vector)
        if failure is not None:
            raise failure
        self._healthy = True
        if isinstance(outcome, IdConflict):
            raise outcome
        return outcome

    async def append_many(
        self, messages: Sequence[Message], vectors: Vectors
    ) -> list[Appended | StoreError]:
        check_bulk(messages, vectors)
        if len(vectors) and vectors.shape[1] != self._dimension:
            raise ValueError(f"vectors of shape {vectors.shape}: not of this store's embedder")
        era = self._era(messages[0].user) if messages else 0
        outcomes: list[Appended | StoreError] = []
        for message, vector in zip(messages, vectors, strict=True):
            try:
                outcomes.append(await self._append(message, vector, era))
            except StoreError as error:
                outcomes.append(error)
        return outcomes

    def _era(self, user: UserId) -> int:
        """How often *user* was forgotten."""
        return self._eras.get(user, 0)

    def _store(self, message: Message, vector: Vector) -> Appended | IdConflict:
        stored = self._messages.get(message.id)
        if stored is not None:
            return settled(message, stored)
        self._messages[message.id] = message
        self._vectors[message.id] = vector
        if not vector.any():
            self._note(message)
        return Appended(message, duplicate=False)

    async def by_ids(self, user: UserId, ids: Sequence[MessageId]) -> list[Message]:
        await self._answer()
        found = [self._messages.get(message_id) for message_id in dict.fromkeys(ids)]
        return [message for message in found if message is not None and message.user == user]

    async def latest(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
    ) -> list[Message]:
        return list((await self.line(user, conversation, limit=limit, before=before)).messages)

    async def line(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        head: MessageId | None = None,
    ) -> Line:
        await self._answer()
        messages = {
            message.id: message
            for message in self._messages.values()
            if message.user == user and message.conversation == conversation
        }
        if before is not None:
            leaf = messages[before].parent if before in messages else None
        elif head is not None:
            leaf = self._leaf(messages, head) if head in messages else None
        else:
            known = self._conversations.get((user, conversation))
            leaf = self._leaf(messages, known.head if known is not None else None)
        way = way_up(messages, leaf, limit)[::-1] if leaf is not None else []
        return Line(tuple(way), branches_on(way, messages.values()))

    @staticmethod
    def _leaf(messages: dict[MessageId, Message], head: MessageId | None) -> MessageId | None:
        if not messages:
            return None
        if head in messages:
            nodes = [Node(it.id, it.parent, it.depth) for it in messages.values()]
            return leaves_below(nodes, head)[-1]
        return max(reversed(messages.values()), key=lambda message: message.depth).id

    async def tree(self, user: UserId, conversation: ConversationId, *, depth: int = 0) -> TreePage:
        await self._answer()
        own = [
            message
            for message in self._messages.values()
            if message.user == user and message.conversation == conversation
        ]
        last = depth + TREE_DEPTHS
        part = [message for message in own if depth <= message.depth < last]
        more = any(message.depth >= last for message in own)
        part.sort(key=lambda message: message.depth)
        return TreePage(tuple(part), last if more else None)

    async def newest(self, user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        await self._answer()
        start, left = parse_month_cursor(before) if before else (LAST_MONTH, None)
        months: dict[int, list[Message]] = {}
        for message in self._messages.values():
            if message.user == user:
                months.setdefault(month_of(message.timestamp), []).append(message)
        found: list[Message] = []
        for month in sorted((month for month in months if month <= start), reverse=True):
            stored = months[month][: left if month == start else None]
            taken = stored[::-1][: limit - len(found)]
            found += taken
            if len(found) == limit:
                return self._page(found, month_cursor(month, len(stored) - len(taken)))
        return self._page(found, None)

    def _page(self, messages: list[Message], before: str | None) -> StoredPage:
        vectors = [self._vectors[message.id] for message in messages]
        for message in messages:
            if self._is_unembedded(message):
                self._note(message)
        return StoredPage(
            tuple(messages),
            np.array(vectors, dtype=np.float32).reshape(len(vectors), self._dimension),
            before,
        )

    async def conversations(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> ConversationPage:
        await self._answer()
        own = [it for it in self._conversations.values() if it.user == user]
        return conversation_page(own, limit=limit, before=before)

    async def conversation(self, user: UserId, conversation: ConversationId) -> Conversation | None:
        await self._answer()
        return self._conversations.get((user, conversation))

    async def save_conversation(self, conversation: Conversation) -> None:
        await self._answer()
        self._conversations[conversation.user, conversation.id] = conversation

    async def unlist(self, user: UserId, records: Sequence[str]) -> None:
        await self._answer()
        for key in [key for key in self._conversations if key[0] == user]:
            if conversation_record_id(*key) in records:
                del self._conversations[key]

    async def delete(self, user: UserId, ids: Sequence[MessageId]) -> None:
        for message in await self.by_ids(user, ids):
            self._messages[message.id] = tombstone(message)
            self._vectors[message.id] = np.zeros(self._dimension, dtype=np.float32)

    async def mark_forgotten(
        self, user: UserId, message: MessageId, *, forgotten: bool
    ) -> Message | None:
        for found in await self.by_ids(user, [message]):
            if found.status != "deleted":
                marked = msgspec.structs.replace(found, forgotten=forgotten)
                self._messages[message] = marked
                return marked
        return None

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        await self._answer()
        own = (it for it in self._messages.values() if it.user == user)
        return frozenset(it.id for it in own if it.forgotten)

    async def forget_user(self, user: UserId) -> None:
        await self._answer()
        self._eras[user] = self._era(user) + 1
        own = [message.id for message in self._messages.values() if message.user == user]
        for message_id in own:
            del self._messages[message_id], self._vectors[message_id]
        for key in [key for key in self._conversations if key[0] == user]:
            del self._conversations[key]

    async def unembedded(
        self, *, limit: int, without: Set[MessageId] = frozenset()
    ) -> list[Message]:
        await self._answer()
        found = [message for message in self._messages.values() if self._is_unembedded(message)]
        return [message for message in found if message.id not in without][:limit]

    async def fill(self, messages: Sequence[Message], vectors: Vectors) -> list[MessageId]:
        await self._answer()
        filled: list[MessageId] = []
        for message, vector in zip(messages, vectors, strict=True):
            stored = self._messages.get(message.id)
            if stored is not None and (stored.user, stored.text) == (message.user, message.text):
                filled.append(message.id)
                if self._is_unembedded(stored):
                    self._vectors[message.id] = vector
        return filled

    def watch_unembedded(self, note: Callable[[Message], None]) -> None:
        self._note = note

    def _is_unembedded(self, message: Message) -> bool:
        return not self._vectors[message.id].any() and message.status != "deleted"

    async def ping(self) -> None:
        await self._answer()

    async def usage(self) -> dict[str, int]:
        await self._answer()
        return {"collections": 1, "records": len(self._messages)}

    async def _answer(self) -> None:
        """Yield to other tasks, as a store does that is asked over a socket."""
        await anyio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("long-term memory was told to be away")
