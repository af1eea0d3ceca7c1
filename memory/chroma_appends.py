"""Writing a batch of messages into Chroma, each once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import anyio
import structlog

from memory.chroma_collections import ChromaCollections, CollectionSpec, Row, Select
from memory.errors import CorruptRecord, IdConflict, StoreError, StoreUnavailable, StoreUnknown
from memory.messages import Appended, Message, Vector
from memory.placement import Shelf
from memory.records import message_record, settled, stored_message

log = structlog.get_logger(__name__)

VERIFY_SHARE: Final = 0.25
"""The part of a write's time that is kept for asking whether it happened."""


class Append(NamedTuple):
    """A message to be stored, and its vector."""

    message: Message
    vector: Vector


class _Attempt:
    """How far a batch has come; outlives the time limit that may cut it short.

    ``lost``: why it is not known whether the new messages were written, ``None`` once it is;
    ``verified``: those of them that were found when it was asked again.
    """

    def __init__(self, batch: Sequence[Append]) -> None:
        self._firsts: dict[str, Append] = {}
        for append in batch:
            self._firsts.setdefault(append.message.id, append)
        self.stored: dict[str, Row] | None = None
        self.lost: str | None = "Chroma did not answer in time"
        self.verified: dict[str, Row] = {}

    @property
    def ids(self) -> list[str]:
        return list(self._firsts)

    def new(self) -> list[Append]:
        """The first of each id that does not stand in the store."""
        stored = self.stored or {}
        return [append for key, append in self._firsts.items() if key not in stored]

    def outcome(self, append: Append) -> Appended | StoreError:
        message = append.message
        if self.stored and message.id in self.stored:
            return _settled(message, self.stored[message.id])
        if self.lost is not None and message.id not in self.verified:
            return StoreUnknown(self.lost)
        first = self._firsts[message.id]
        if append is not first:
            return settled(message, first.message)
        if self.lost is not None:
            # Another server may have written under this id since it was looked up.
            found = _settled(message, self.verified[message.id])
            return Appended(message, duplicate=False) if isinstance(found, Appended) else found
        return Appended(message, duplicate=False)


class ChromaAppends:
    """What :class:`memory.group_commit.GroupCommit` writes messages with.

    Chroma ignores an id that it has and fails a batch in which an id stands twice, so the ids
    are looked up first and each is sent once. A write without an answer is looked up again: an
    error does not mean that nothing was written.
    """

    def __init__(
        self,
        collections: ChromaCollections,
        spec: Callable[[Shelf], CollectionSpec],
        *,
        timeout_s: float,
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._timeout_s = timeout_s

    async def write(self, shelf: Shelf, batch: Sequence[Append]) -> list[Appended | StoreError]:
        """Store the messages of *batch* that do not stand already; an outcome for each.

        Raises:
            StoreRefused: Chroma will not have the batch as it is; nothing was written.
            StoreUnavailable: nothing was written.
        """
        spec = self._spec(shelf)
        attempt = _Attempt(batch)
        with anyio.move_on_after(self._timeout_s * (1 - VERIFY_SHARE)):
            attempt.stored = await self._stored(spec, attempt.ids)
            await self._add(spec, attempt)
        if attempt.stored is None:
            raise StoreUnavailable("Chroma did not answer in time")
        if attempt.lost is not None:
            await self._verify(spec, attempt)
        return [attempt.outcome(append) for append in batch]

    async def _add(self, spec: CollectionSpec, attempt: _Attempt) -> None:
        new = attempt.new()
        try:
            if new:
                await self._collections.add(
                    spec,
                    [message_record(append.message) for append in new],
                    [append.vector for append in new],
                )
        except StoreUnknown as error:
            attempt.lost = str(error)
        else:
            attempt.lost = None

    async def _verify(self, spec: CollectionSpec, attempt: _Attempt) -> None:
        new = [append.message.id for append in attempt.new()]
        with anyio.move_on_after(self._timeout_s * VERIFY_SHARE):
            try:
                attempt.verified = await self._stored(spec, new)
            except StoreUnavailable:
                attempt.verified = {}
        log.warning(
            "append.verified", reason=attempt.lost, records=len(new), found=len(attempt.verified)
        )

    async def _stored(self, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, Row]:
        rows = (await self._collections.read(spec, Select(ids=ids))).rows
        return {row.id: row for row in rows}


def _settled(message: Message, row: Row) -> Appended | StoreError:
    """What became of *message* where *row* stands under its id, whosever that is."""
    if (row.metadata or {}).get("user_id") != message.user:
        return IdConflict(message.id)
    try:
        stored = stored_message(message.user, row.id, row.document, row.metadata)
    except CorruptRecord as error:
        return error
    return settled(message, stored)
