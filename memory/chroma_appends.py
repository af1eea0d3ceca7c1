"""Writing a batch of messages into Chroma, each once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import anyio
import structlog

from memory.chroma_collections import ChromaCollections, CollectionSpec, Row, Select
from memory.errors import CorruptRecord, IdConflict, StoreError, StoreUnavailable, StoreUnknown
from memory.messages import Appended, Message, Vector
from memory.placement import Shelf
from memory.records import (
    IS_UNEMBEDDED,
    UNEMBEDDED,
    Record,
    message_record,
    placeholder,
    settled,
    stored_message,
)

log = structlog.get_logger(__name__)

VERIFY_SHARE: Final = 0.25
"""The part of a write's time that is kept for asking whether it happened."""
WRITER: Final = "writer"
"""In records of a shared Chroma: which process wrote it."""
WRITER_BYTES: Final = 6
UNCOMPARED: Final = "Chroma took it, and what stands there could not be read"


class Append(NamedTuple):
    """A message to be stored, and its vector."""

    message: Message
    vector: Vector


class _Attempt:
    """How far a batch has come; outlives the time limit that may cut it short.

    ``lost``: why it is not known what became of the new messages, ``None`` once it is;
    ``verified``: those of them that were found when it was asked again. *writer* marks what this
    process writes where others write too.
    """

    def __init__(self, batch: Sequence[Append], writer: str | None) -> None:
        self._writer = writer
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
        first = self._firsts[message.id]
        found = self.verified.get(message.id)
        if found is None:
            if self.lost is not None:
                return StoreUnknown(self.lost)
            new = append is first
            return Appended(message, duplicate=False) if new else settled(message, first.message)
        # Another server may have written under this id since it was looked up.
        outcome = _settled(message, found)
        if append is first and isinstance(outcome, Appended) and self._wrote(found):
            return Appended(message, duplicate=False)
        return outcome

    def _wrote(self, found: Row) -> bool:
        return self._writer is None or (found.metadata or {}).get(WRITER) == self._writer

    def record(self, append: Append) -> Record:
        record = message_record(append.message)
        if not append.vector.any():
            record.metadata[UNEMBEDDED] = IS_UNEMBEDDED
        if self._writer is not None:
            record.metadata[WRITER] = self._writer
        return record


class ChromaAppends:
    """What :class:`memory.group_commit.GroupCommit` writes messages with.

    Chroma ignores an id that it has and fails a batch in which an id stands twice, so the ids
    are looked up first and each is sent once. A write without an answer is looked up again: an
    error does not mean that nothing was written.

    On a *shared* Chroma other servers may write under the same id between the look-up and the
    write, of which Chroma keeps the first in silence: there each write is read back. A message
    with a vector of zeros is stored with a placeholder and marked; *on_unembedded* is told.
    """

    def __init__(
        self,
        collections: ChromaCollections,
        spec: Callable[[Shelf], CollectionSpec],
        *,
        timeout_s: float,
        shared: bool = False,
        on_unembedded: Callable[[Message], None] = lambda _message: None,
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._timeout_s = timeout_s
        self._writer = secrets.token_hex(WRITER_BYTES) if shared else None
        self._on_unembedded = on_unembedded

    async def write(self, shelf: Shelf, batch: Sequence[Append]) -> list[Appended | StoreError]:
        """Store the messages of *batch* that do not stand already; an outcome for each.

        Raises:
            StoreRefused: Chroma will not have the batch as it is; nothing was written.
            StoreUnavailable: nothing was written.
        """
        spec = self._spec(shelf)
        attempt = _Attempt(batch, self._writer)
        with anyio.move_on_after(self._timeout_s * (1 - VERIFY_SHARE)):
            attempt.stored = await self._stored(spec, attempt.ids)
            await self._add(spec, attempt)
        if attempt.stored is None:
            raise StoreUnavailable("Chroma did not answer in time")
        if attempt.lost is not None:
            await self._verify(spec, attempt)
        outcomes = [attempt.outcome(append) for append in batch]
        for append, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Appended) and not append.vector.any():
                self._on_unembedded(outcome.message)
        return outcomes

    async def _add(self, spec: CollectionSpec, attempt: _Attempt) -> None:
        new = attempt.new()
        try:
            if new:
                await self._collections.add(
                    spec,
                    [attempt.record(append) for append in new],
                    [_stored_vector(append.vector) for append in new],
                )
        except StoreUnknown as error:
            attempt.lost = str(error)
        else:
            attempt.lost = UNCOMPARED if new and self._writer is not None else None

    async def _verify(self, spec: CollectionSpec, attempt: _Attempt) -> None:
        new = [append.message.id for append in attempt.new()]
        with anyio.move_on_after(self._timeout_s * VERIFY_SHARE):
            try:
                attempt.verified = await self._stored(spec, new)
            except StoreUnavailable:
                attempt.verified = {}
        if attempt.lost != UNCOMPARED:
            log.warning(
                "append.verified",
                reason=attempt.lost,
                records=len(new),
                found=len(attempt.verified),
            )

    async def _stored(self, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, Row]:
        rows = (await self._collections.read(spec, Select(ids=ids))).rows
        return {row.id: row for row in rows}


def _stored_vector(vector: Vector) -> Vector:
    return vector if vector.any() else placeholder(len(vector))


def _settled(message: Message, row: Row) -> Appended | StoreError:
    """What became of *message* where *row* stands under its id, whosever that is."""
    if (row.metadata or {}).get("user_id") != message.user:
        return IdConflict(message.id)
    try:
        stored = stored_message(message.user, row.id, row.document, row.metadata)
    except CorruptRecord as error:
        return error
    return settled(message, stored)
