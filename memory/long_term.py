"""The contract of long-term memory: the truth, for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

import msgspec

from memory.errors import StoreError
from memory.messages import (
    Appended,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    UserId,
    Vector,
    Vectors,
)


class StoredPage(msgspec.Struct, frozen=True):
    """Some of a user's messages with their vectors, newest first.

    ``vectors`` is float32, (len(messages), dim), with zeros where there is none, or none that can
    be read at the moment. ``before`` continues the walk with the next
    older ones; ``None`` means that there are none.
    """

    messages: tuple[Message, ...]
    vectors: Vectors
    before: str | None


class ConversationPage(msgspec.Struct, frozen=True):
    """A user's conversations, last updated first; ``before`` continues, ``None`` ends."""

    conversations: tuple[Conversation, ...]
    before: str | None


class TreePage(msgspec.Struct, frozen=True):
    """Some of a conversation's messages, on all of its branches, each after its parent.

    ``depth`` is where the walk goes on; ``None`` means that there are none below.
    """

    messages: tuple[Message, ...]
    depth: int | None


class Line(msgspec.Struct, frozen=True):
    """A stretch of one way through a conversation, oldest first.

    ``branches`` says of each of its messages that does not stand alone which ones stand in its
    place, itself included, in the order in which they were stored.
    """

    messages: tuple[Message, ...] = ()
    branches: Mapping[MessageId, tuple[MessageId, ...]] = {}


def check_bulk(messages: Sequence[Message], vectors: Vectors) -> None:
    """What every ``append_many`` asks of its arguments.

    Raises:
        ValueError: the messages are not one user's, or not as many as the vectors.
    """
    if len(messages) != len(vectors):
        raise ValueError(f"{len(messages)} messages with {len(vectors)} vectors")
    if len({message.user for message in messages}) > 1:
        raise ValueError("messages of several users")


class LongTermMemory(Protocol):
    """Messages and conversations, kept for good, each under its user.

    Every method reads and writes the named user's records only. Whatever has returned from a
    write is found by each later read (of any process). Every method may raise
    ``StoreUnavailable``; reads raise ``CorruptRecord`` for records that are not ours.
    Cancelling a read has no effect; cancelling a write leaves open whether it happened, and
    never harms another caller's.
    """

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded; ``True`` before the first."""
        ...

    async def append(self, message: Message, vector: Vector) -> Appended:
        """Store *message*, once: an id that stands already is left as it is.

        A *vector* of zeros means that there is none yet: see :meth:`fill`. Messages appended one
        after the other are found in that order.

        Raises:
            IdConflict: the id stands with another text, role or conversation.
            StoreBusy: too many appends are waiting; nothing was written.
            StoreUnavailable: certainly nothing was written.
            StoreUnknown: it may have been written; appending it again is safe.
        """
        ...

    async def append_many(
        self, messages: Sequence[Message], vectors: Vectors
    ) -> list[Appended | StoreError]:
        """Store *messages* of one user in order, each as :meth:`append`; the outcome of each.

        For what nobody waits for: appends go first, and wait for a small part of these at most.
        *vectors*: float32, (len(messages), dim).

        Raises:
            StoreBusy: too many of such are waiting; nothing was written.
            ValueError: they are not one user's, or not as many as *vectors*.
        """
        ...

    async def by_ids(self, user: UserId, ids: Sequence[MessageId]) -> list[Message]:
        """*user*'s messages among *ids*, in that order; unknown and foreign ids are left out."""
        ...

    async def latest(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
    ) -> list[Message]:
        """The last *limit* messages on the way to the conversation's head, oldest first.

        With *before*, the *limit* ones that lead to that message, without it (none if it is
        not in the conversation). Empty for a conversation that does not exist.
        """
        ...

    async def line(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        head: MessageId | None = None,
    ) -> Line:
        """As :meth:`latest`, with the branches; with *head*, on the way to the newest leaf below
        that message instead (nothing if it is not in the conversation).
        """
        ...

    async def tree(self, user: UserId, conversation: ConversationId, *, depth: int = 0) -> TreePage:
        """The next few hundred depths of a conversation, from *depth* on, all branches."""
        ...

    async def newest(self, user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        """At most *limit* of *user*'s messages over all conversations, newest first."""
        ...

    async def conversations(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> ConversationPage:
        """At most *limit* of *user*'s conversations, last updated first."""
        ...

    async def conversation(self, user: UserId, conversation: ConversationId) -> Conversation | None:
        """*user*'s conversation with that id."""
        ...

    async def save_conversation(self, conversation: Conversation) -> None:
        """Store *conversation*'s title, times and head, replacing what stood there."""
        ...

    async def unlist(self, user: UserId, records: Sequence[str]) -> None:
        """Delete the titles, times and heads of *user*'s conversations whose ids, as
        :func:`memory.records.conversation_record_id` makes them, are among *records*; their
        messages stay. Again is safe.

        Raises:
            StoreUnavailable, StoreUnknown: as of a write.
        """
        ...

    async def delete(self, user: UserId, ids: Sequence[MessageId]) -> None:
        """Take the words of *user*'s messages among *ids* out of the store.

        Each stays in its place as :func:`memory.messages.tombstone` has it, so that what follows
        it can be reached; appending it again is an ``IdConflict``. Unknown and foreign ids, and
        what is deleted already, are left alone. After a failure some may be deleted; again is
        safe.

        Raises:
            StoreUnavailable, StoreUnknown: as of a write.
        """
        ...

    async def mark_forgotten(
        self, user: UserId, message: MessageId, *, forgotten: bool
    ) -> Message | None:
        """Mark *user*'s *message* as forgotten, or as not forgotten any more; as it is then.

        Nothing else of it changes, and it may be done again. ``None``: there is no such message of
        the user's, or it is deleted; nothing was done.

        Raises:
            StoreUnavailable, StoreUnknown: as of a write.
        """
        ...

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        """Which of *user*'s messages are forgotten, from a look-up that costs as much as they are
        many.
        """
        ...

    async def forget_user(self, user: UserId) -> None:
        """Delete all of *user*'s messages and conversations, also what waits to be written.

        Writes that were asked for before raise ``UserBeingErased``; later ones begin anew. After
        a failure some may be deleted; again is safe.

        Raises:
            StoreUnavailable, StoreUnknown: as of a write.
        """
        ...

    async def unembedded(
        self, *, limit: int, without: Set[MessageId] = frozenset()
    ) -> list[Message]:
        """At most *limit* messages, of whichever users, that have no vector; none of *without*.

        For upkeep: nobody is shown what it returns. Where each user has a collection, those are
        not searched: their messages are noticed when they are read.
        """
        ...

    async def fill(self, messages: Sequence[Message], vectors: Vectors) -> list[MessageId]:
        """Store *vectors*, (len(messages), dim), for messages that had none.

        Returns the ids of those that have one now; what is gone, or has other words, stays as it
        is. After a failure some may be filled; again is safe.

        Raises:
            StoreUnavailable, StoreUnknown: as of a write.
        """
        ...

    def watch_unembedded(self, note: Callable[[Message], None]) -> None:
        """Let *note* be called with each message that is stored without a vector from now on, or
        is met by :meth:`newest`; once or more often.
        """
        ...

    async def ping(self) -> None:
        """Return once the store answers.

        Raises:
            StoreUnavailable: with what to do about it.
        """
        ...

    async def usage(self) -> dict[str, int]:
        """Figures for operators: ``collections``, ``records``."""
        ...
