"""Long-term memory on Chroma."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Final

import anyio
import msgspec
import numpy as np
from anyio.abc import TaskStatus

from memory.chroma_appends import Append, ChromaAppends
from memory.chroma_by_id import ChromaById
from memory.chroma_client import Address, ChromaClient
from memory.chroma_collections import ChromaCollections, CollectionSpec, Select
from memory.chroma_conversation_list import ConversationList
from memory.chroma_conversations import ConversationWalk
from memory.chroma_erasure import ChromaErasure
from memory.chroma_lines import ConversationLines
from memory.chroma_months import MonthWalk
from memory.chroma_unembedded import ChromaUnembedded
from memory.eras import Eras, Stamped
from memory.errors import StoreError, StoreUnavailable, StoreUnknown
from memory.group_commit import GroupCommit
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
from memory.paging import parse_month_cursor
from memory.placement import Placement, Shelf
from memory.records import (
    conversation_record,
    conversation_record_id,
    month_of,
    stored_conversation,
)
from memory.store_gate import StoreGate
from memory.surroundings import ALONE, Surroundings

REPLY_PATIENCE_S: Final = 0.05
"""A reply was read already when it is stored: under load it waits for a question's write, which
costs the store the same for both."""

NO_VECTOR: Final = np.ones(1, dtype=np.float32)
"""Chroma wants a vector for everything; conversations are never searched by theirs."""


class ChromaLongTermMemory:
    """The contract :class:`memory.long_term.LongTermMemory` on a Chroma server.

    *address* is a URL, or tells it at each request. *fingerprint* and *dimension* are the
    embedder's; a store with vectors of another is refused. Writes are grouped and need
    :meth:`run`. A batch is written, and each request of a read answered, within *timeout_s*.
    """

    def __init__(
        self,
        address: Address,
        placement: Placement,
        *,
        fingerprint: str,
        dimension: int,
        timeout_s: float = 5.0,
        surroundings: Surroundings = ALONE,
    ) -> None:
        self._placement = placement
        self._directory = CollectionSpec(
            name=placement.conversations,
            kind="conversations",
            layout=placement.layout,
            fingerprint=fingerprint,
            dimension=dimension,
        )
        gate = surroundings.gate or StoreGate()
        self._client = ChromaClient(
            address, timeout_s=timeout_s, gate=gate, on_damage=surroundings.on_damage
        )
        self._before_write = surroundings.before_write
        self._collections = ChromaCollections(
            self._client, first=self._directory, incomplete=surroundings.incomplete
        )
        self._unembedded = ChromaUnembedded(
            self._collections, self._spec, placement, incomplete=surroundings.incomplete
        )
        appends = ChromaAppends(
            self._collections,
            self._spec,
            timeout_s=timeout_s,
            shared=surroundings.shared,
            on_unembedded=self._unembedded.found,
        )
        self._by_id = ChromaById(self._collections, self._spec, placement)
        self._erasure = ChromaErasure(self._client, dimension=dimension)
        self._eras = Eras()
        self._appends: GroupCommit[Shelf, Stamped[Append], Appended] = GroupCommit(
            self._eras.checked(appends.write),
            sender_of=_user_of,
            on_batch=surroundings.on_batch,
            gate=gate.batch,
        )
        self._saves: GroupCommit[str, Stamped[Conversation], None] = GroupCommit(
            self._eras.checked(self._save), sender_of=_user_of, gate=gate.batch
        )

    @property
    def healthy(self) -> bool:
        return self._appends.healthy

    async def run(
        self, *, drain_s: float = 10.0, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what is appended and saved, until cancelled; then what waits still, for at most
        *drain_s*.
        """
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(self._appends.run, drain_s=drain_s))
            await tasks.start(partial(self._saves.run, drain_s=drain_s))
            task_status.started()

    async def aclose(self) -> None:
        """Close the connections; to be called once :meth:`run` has ended."""
        await self._client.aclose()

    async def append(self, message: Message, vector: Vector) -> Appended:
        self._check(vector)
        self._before_write()
        shelf = self._placement.shelf(message.user)
        patience_s = REPLY_PATIENCE_S if message.role == "assistant" else 0.0
        append = self._eras.stamped(message.user, Append(message, vector))
        return await self._appends.submit(shelf, append, patience_s=patience_s)

    async def append_many(
        self, messages: Sequence[Message], vectors: Vectors
    ) -> list[Appended | StoreError]:
        check_bulk(messages, vectors)
        if not messages:
            return []
        self._check(vectors[0])
        self._before_write()
        shelf = self._placement.shelf(messages[0].user)
        appends = [Append(*pair) for pair in zip(messages, vectors, strict=True)]
        stamped = [self._eras.stamped(messages[0].user, append) for append in appends]
        return await self._appends.submit_many(shelf, stamped)

    async def by_ids(self, user: UserId, ids: Sequence[MessageId]) -> list[Message]:
        return await self._by_id.read(user, ids)

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
        walk = self._walk(user, conversation)
        lines = ConversationLines(self, walk, user, conversation)
        if limit < 1:
            return Line()
        if before is not None:
            way = await lines.before(before, limit)
        elif head is not None:
            way = await lines.through(head, limit)
        else:
            way = await lines.latest(limit)
        return Line(tuple(way), walk.branches_on(way))

    async def tree(self, user: UserId, conversation: ConversationId, *, depth: int = 0) -> TreePage:
        return await self._walk(user, conversation).below(depth)

    async def newest(self, user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        """As in the contract: by month, and within a month the last stored first, which differs
        from the order of times where old messages were imported.
        """
        # From the next month on: the clock that set a timestamp may have been ahead.
        month, left = parse_month_cursor(before) if before else (month_of(time.time()) + 1, None)
        spec = self._spec(self._placement.shelf(user))
        walk = MonthWalk(self._collections, spec, user, self._unembedded.found)
        return await walk.page(month, left, limit)

    async def conversations(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> ConversationPage:
        return await ConversationList(self._collections, self._directory, user).page(limit, before)

    async def conversation(self, user: UserId, conversation: ConversationId) -> Conversation | None:
        record_id = conversation_record_id(user, conversation)
        select = Select(ids=[record_id], include=("metadatas",))
        rows = (await self._collections.read(self._directory, select)).rows
        return stored_conversation(user, rows[0].id, rows[0].metadata) if rows else None

    async def save_conversation(self, conversation: Conversation) -> None:
        self._before_write()
        stamped = self._eras.stamped(conversation.user, conversation)
        await self._saves.submit(self._directory.name, stamped)

    async def unlist(self, user: UserId, records: Sequence[str]) -> None:
        await self._erasure.delete_records(self._directory.name, user, records)

    async def delete(self, user: UserId, ids: Sequence[MessageId]) -> None:
        found = [it for it in await self.by_ids(user, ids) if it.status != "deleted"]
        name = self._placement.shelf(user).name
        await self._erasure.redact(name, [tombstone(message) for message in found])

    async def mark_forgotten(
        self, user: UserId, message: MessageId, *, forgotten: bool
    ) -> Message | None:
        self._before_write()
        return await self._by_id.mark_forgotten(user, message, forgotten=forgotten)

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        return await self._by_id.forgotten(user)

    async def end_writes(self, user: UserId) -> None:
        """Let no write of *user* that was asked for so far be stored after this returns, from this
        process.
        """
        self._eras.end(user)
        await self._eras.settle()

    async def forget_user(self, user: UserId) -> None:
        await self.end_writes(user)
        shelf = self._placement.shelf(user)
        if shelf.owner is None:
            await self._erasure.delete_user(shelf.name, user)
        else:
            await self._erasure.drop(shelf.name, user)
        await self._erasure.delete_user(self._directory.name, user)

    async def unembedded(
        self, *, limit: int, without: Set[MessageId] = frozenset()
    ) -> list[Message]:
        return await self._unembedded.find(limit=limit, without=without)

    async def fill(self, messages: Sequence[Message], vectors: Vectors) -> list[MessageId]:
        return await self._unembedded.fill(messages, vectors)

    def watch_unembedded(self, note: Callable[[Message], None]) -> None:
        self._unembedded.note = note

    async def ping(self) -> None:
        try:
            await self._client.heartbeat()
        except (StoreUnavailable, StoreUnknown) as error:
            raise StoreUnavailable(
                f"{error}; check that Chroma runs, and chroma.url if it is set"
            ) from error
        await self._collections.read(self._directory, Select(ids=["ping"], include=()))

    async def usage(self) -> dict[str, int]:
        return await self._collections.usage(self._placement.prefix)

    def _check(self, vector: Vector) -> None:
        if vector.shape != (self._directory.dimension,):
            raise ValueError(f"a vector of shape {vector.shape}: not of this store's embedder")

    def _walk(self, user: UserId, conversation: ConversationId) -> ConversationWalk:
        spec = self._spec(self._placement.shelf(user))
        return ConversationWalk(self._collections, spec, user, conversation)

    async def _save(self, _name: str, batch: Sequence[Conversation]) -> list[None]:
        last = {(it.user, it.id): it for it in batch}
        records = [conversation_record(conversation) for conversation in last.values()]
        await self._collections.upsert(self._directory, records, [NO_VECTOR] * len(records))
        return [None] * len(batch)

    def _spec(self, shelf: Shelf) -> CollectionSpec:
        return msgspec.structs.replace(
            self._directory, name=shelf.name, kind="messages", owner=shelf.owner
        )


def _user_of(write: Stamped[Append] | Stamped[Conversation]) -> UserId:
    return write.user
