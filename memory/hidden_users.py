"""A guard around long-term memory: what is being erased is hidden before it is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

from memory.errors import ConversationDeleted, StoreError, UserBeingErased
from memory.long_term import ConversationPage, Line, LongTermMemory, StoredPage, TreePage
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
from memory.records import conversation_record_id


class GuardedLongTermMemory:
    """The long-term memory *inner*, without what is hidden.

    Of a hidden user nothing is found, and every write raises ``UserBeingErased``. A hidden message
    is shown as its tombstone; a hidden conversation is not in the list, and what would be said in
    it raises ``ConversationDeleted``. Hiding takes effect with the next ``await`` of anybody, and
    what is read at that moment is hidden as well.
    """

    def __init__(self, inner: LongTermMemory) -> None:
        self._inner = inner
        self._users: dict[UserId, int] = {}
        self._messages: set[str] = set()

    def hide_user(self, user: UserId) -> None:
        """Hide *user*, until :meth:`show_user` was called as often."""
        self._users[user] = self._users.get(user, 0) + 1

    def show_user(self, user: UserId) -> None:
        """Let *user* begin anew."""
        left = self._users.pop(user, 1) - 1
        if left:
            self._users[user] = left

    def is_hidden(self, user: UserId) -> bool:
        """Whether *user* is being erased."""
        return user in self._users

    def check_writable(self, user: UserId) -> None:
        """Refuse a write of a hidden user.

        Raises:
            UserBeingErased: *user* is hidden.
        """
        if user in self._users:
            raise UserBeingErased

    def hide_messages(self, ids: Iterable[MessageId]) -> None:
        """Show the messages *ids* as deleted from now on; the id of a conversation's record hides
        the conversation.
        """
        self._messages.update(ids)

    def show_messages(self, ids: Iterable[MessageId]) -> None:
        """Show the messages *ids* as they are stored."""
        self._messages.difference_update(ids)

    @property
    def unhidden(self) -> LongTermMemory:
        """The long-term memory without this guard, for who erases."""
        return self._inner

    @property
    def healthy(self) -> bool:
        return self._inner.healthy

    async def append(self, message: Message, vector: Vector) -> Appended:
        self.check_writable(message.user)
        if not self._is_listed(message.user, message.conversation):
            raise ConversationDeleted
        return await self._inner.append(message, vector)

    async def append_many(
        self, messages: Sequence[Message], vectors: Vectors
    ) -> list[Appended | StoreError]:
        if messages:
            self.check_writable(messages[0].user)
        return await self._inner.append_many(messages, vectors)

    async def by_ids(self, user: UserId, ids: Sequence[MessageId]) -> list[Message]:
        if user in self._users:
            return []
        return self._seen(user, await self._inner.by_ids(user, ids))

    async def latest(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
    ) -> list[Message]:
        if user in self._users:
            return []
        found = await self._inner.latest(user, conversation, limit=limit, before=before)
        return self._seen(user, found)

    async def line(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        head: MessageId | None = None,
    ) -> Line:
        if user in self._users:
            return Line()
        found = await self._inner.line(user, conversation, limit=limit, before=before, head=head)
        shown = self._seen(user, found.messages)
        return Line(tuple(shown), found.branches if shown else {})

    async def tree(self, user: UserId, conversation: ConversationId, *, depth: int = 0) -> TreePage:
        nothing = TreePage((), None)
        if user in self._users:
            return nothing
        page = await self._inner.tree(user, conversation, depth=depth)
        if user in self._users:
            return nothing
        return TreePage(tuple(self._seen(user, page.messages)), page.depth)

    async def newest(self, user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        page = await self._inner.newest(user, limit=limit, before=before)
        if user in self._users:
            return StoredPage((), page.vectors[:0], None)
        return StoredPage(tuple(self._seen(user, page.messages)), page.vectors, page.before)

    async def conversations(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> ConversationPage:
        page = await self._inner.conversations(user, limit=limit, before=before)
        if user in self._users:
            return ConversationPage((), None)
        listed = tuple(it for it in page.conversations if self._is_listed(user, it.id))
        return ConversationPage(listed, page.before)

    async def conversation(self, user: UserId, conversation: ConversationId) -> Conversation | None:
        found = await self._inner.conversation(user, conversation)
        if user in self._users or not self._is_listed(user, conversation):
            return None
        return found

    async def save_conversation(self, conversation: Conversation) -> None:
        self.check_writable(conversation.user)
        if self._is_listed(conversation.user, conversation.id):  # else it is gone: nothing is owed
            await self._inner.save_conversation(conversation)

    async def unlist(self, user: UserId, records: Sequence[str]) -> None:
        await self._inner.unlist(user, records)

    async def delete(self, user: UserId, ids: Sequence[MessageId]) -> None:
        await self._inner.delete(user, ids)

    async def mark_forgotten(
        self, user: UserId, message: MessageId, *, forgotten: bool
    ) -> Message | None:
        self.check_writable(user)
        if message in self._messages:
            return None
        return await self._inner.mark_forgotten(user, message, forgotten=forgotten)

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        found = await self._inner.forgotten(user)
        return frozenset() if user in self._users else found

    async def forget_user(self, user: UserId) -> None:
        await self._inner.forget_user(user)

    async def unembedded(
        self, *, limit: int, without: Set[MessageId] = frozenset()
    ) -> list[Message]:
        found = await self._inner.unembedded(limit=limit, without=without)
        return [message for message in found if self._is_shown(message)]

    async def fill(self, messages: Sequence[Message], vectors: Vectors) -> list[MessageId]:
        shown = [row for row, message in enumerate(messages) if self._is_shown(message)]
        return await self._inner.fill([messages[row] for row in shown], vectors[shown])

    def watch_unembedded(self, note: Callable[[Message], None]) -> None:
        self._inner.watch_unembedded(note)

    async def ping(self) -> None:
        await self._inner.ping()

    async def usage(self) -> dict[str, int]:
        return await self._inner.usage()

    def _is_listed(self, user: UserId, conversation: ConversationId) -> bool:
        if not self._messages:
            return True
        return conversation_record_id(user, conversation) not in self._messages

    def _is_shown(self, message: Message) -> bool:
        return message.user not in self._users and message.id not in self._messages

    def _seen(self, user: UserId, found: Sequence[Message]) -> list[Message]:
        if user in self._users:
            return []
        if not self._messages:
            return list(found)
        return [tombstone(it) if it.id in self._messages else it for it in found]
