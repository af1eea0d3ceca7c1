"""The list of a user's conversations: titles and times, kept cheap to update."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

import anyio
import msgspec
import structlog

from memory.errors import StoreError, UserBeingErased
from memory.long_term import ConversationPage, LongTermMemory
from memory.messages import Conversation, ConversationId, Message, MessageId, UserId
from memory.records import conversation_record_id

log = structlog.get_logger(__name__)

FLUSH_EVERY_S: Final = 5.0
"""Times are written behind: one write for all turns of a conversation in this time. What a
crash loses is the order of a list for the conversations of the last seconds, nothing said."""

MAX_CACHED: Final = 10_000
SAVED_AT_ONCE: Final = 100
"""As many as one write of Chroma holds; singly, each would cost as much as all of them."""
TITLE_CHARS: Final = 60
UNTITLED: Final = "Untitled"
"""What a conversation is called once the message is deleted that gave it its title."""

Key = tuple[UserId, ConversationId]


def title_of(text: str) -> str:
    """A title from a conversation's first message: its first words, on one line."""
    line = " ".join(text.split())
    if len(line) <= TITLE_CHARS:
        return line
    cut = line[:TITLE_CHARS].rsplit(" ", 1)[0] if " " in line[:TITLE_CHARS] else line[:TITLE_CHARS]
    return cut.rstrip(" ,;:.-") + "…"


class ConversationDirectory:
    """Reads and writes conversations; their times are written behind."""

    def __init__(self, long_term: LongTermMemory) -> None:
        self._long_term = long_term
        self._known: OrderedDict[Key, Conversation] = OrderedDict()
        self._unsaved: dict[Key, Conversation] = {}
        self.shared = False
        """Other processes write to the list as well: title and head are read each time, and of
        what is written behind only the time counts.
        """

    async def begin(self, first: Message) -> Conversation:
        """Make sure that the conversation that *first* opens stands in the list.

        Raises:
            StoreError: it could not be stored.
        """
        known = await self.find(first.user, first.conversation)
        if known is not None:
            return known
        conversation = Conversation(
            id=first.conversation,
            user=first.user,
            title=title_of(first.text),
            created_at=first.timestamp,
            updated_at=first.timestamp,
        )
        await self._long_term.save_conversation(conversation)
        self._remember(conversation)
        return conversation

    async def branch(self, message: Message) -> Conversation | None:
        """Make the newest leaf below *message* the head of its conversation, which is returned;
        ``None`` where that is not listed.

        Raises:
            StoreError: it could not be stored.
        """
        return await self._change(
            message.user,
            message.conversation,
            lambda known: _said(known, message, head=message.id),
        )

    async def rename(
        self, user: UserId, conversation: ConversationId, title: str
    ) -> Conversation | None:
        """Call *user*'s *conversation* *title*; as :meth:`branch`."""
        return await self._change(
            user, conversation, lambda known: msgspec.structs.replace(known, title=title)
        )

    async def _change(
        self,
        user: UserId,
        conversation: ConversationId,
        change: Callable[[Conversation], Conversation],
    ) -> Conversation | None:
        known = await self.find(user, conversation)
        if known is None:
            return None
        changed = change(known)
        await self._long_term.save_conversation(changed)
        key = (user, conversation)
        # Something may have been said meanwhile: its time must not be lost, nor this change.
        merged = change(self._at_hand(key) or changed)
        self._remember(merged)
        if key in self._unsaved:
            self._unsaved[key] = merged
        return merged

    async def take_in(self, imported: Conversation) -> None:
        """Make sure that a conversation stands in the list whose messages were stored elsewhere.

        One that is listed keeps its title and head, and its times span both.

        Raises:
            StoreError: it could not be stored.
        """
        known = await self.find(imported.user, imported.id)
        merged = imported
        if known is not None:
            merged = msgspec.structs.replace(
                known,
                created_at=min(known.created_at, imported.created_at),
                updated_at=max(known.updated_at, imported.updated_at),
                head=known.head or imported.head,
            )
        if merged != known:
            self._remember(merged)
            self._unsaved.pop((merged.user, merged.id), None)  # what waited is part of it
            await self._long_term.save_conversation(merged)

    async def touch(self, message: Message) -> Conversation | None:
        """Note that *message* was said; written to the store within ``FLUSH_EVERY_S``.

        Raises:
            StoreError: the conversation could not be read.
        """
        known = await self.find(message.user, message.conversation)
        if known is None:
            return None
        changed = _said(known, message, head=known.head)
        self._remember(changed)
        self._unsaved[changed.user, changed.id] = changed
        return changed

    async def untitle(self, message: Message) -> None:
        """Take *message*'s words out of its conversation's title, if that was made of them.

        Raises:
            StoreError: it could not be read or stored; again is safe.
        """
        known = await self.find(message.user, message.conversation)
        if known is not None and known.title == title_of(message.text):
            changed = msgspec.structs.replace(known, title=UNTITLED)
            self._unsaved.pop((known.user, known.id), None)
            self._remember(changed)
            await self._long_term.save_conversation(changed)

    def forget(self, user: UserId) -> None:
        """Drop all of *user* that is at hand or waits to be written."""
        for kept in (self._known, self._unsaved):
            for key in [key for key in kept if key[0] == user]:
                del kept[key]

    def forget_records(self, user: UserId, records: Collection[str]) -> None:
        """Drop what is at hand of *user*'s conversations, or waits to be written, whose records'
        ids are among *records*.
        """
        for kept in (self._known, self._unsaved):
            own = [key for key in kept if key[0] == user]
            for key in [key for key in own if conversation_record_id(*key) in records]:
                del kept[key]

    async def find(self, user: UserId, conversation: ConversationId) -> Conversation | None:
        """*user*'s conversation with that id, as it is now.

        Raises:
            StoreError: it could not be read.
        """
        key = (user, conversation)
        known = self._at_hand(key)
        if known is None or self.shared:
            stored = await self._long_term.conversation(user, conversation)
            # What came to hand meanwhile is newer, unless others write as well.
            known = self._current(key, stored) if self.shared else self._at_hand(key) or stored
            if known is not None:
                self._remember(known)
        return known

    async def page(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> ConversationPage:
        """A page of *user*'s conversations, last updated first.

        Raises:
            StoreError: they could not be read.
        """
        await self._save([key for key in self._unsaved if key[0] == user])
        return await self._long_term.conversations(user, limit=limit, before=before)

    async def run(self) -> None:
        """Write what was touched every ``FLUSH_EVERY_S``, and once more when cancelled."""
        try:
            while True:
                await anyio.sleep(FLUSH_EVERY_S)
                await self._flush()
        finally:
            with anyio.move_on_after(FLUSH_EVERY_S, shield=True):
                await self._flush()

    async def _flush(self) -> None:
        try:
            await self._save(list(self._unsaved))
        except StoreError as fault:
            log.warning("conversations.not_saved", waiting=len(self._unsaved), reason=str(fault))

    async def _save(self, keys: list[Key]) -> None:
        """Write those of *keys* that wait, so many at a time that they share writes of the store.

        Raises:
            StoreError: the first fault; what was not written waits on, and hinders no other.
        """
        failures: list[StoreError] = []

        async def save(key: Key) -> None:
            try:
                await self._save_one(key)
            except StoreError as fault:
                failures.append(fault)

        for start in range(0, len(keys), SAVED_AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for key in keys[start : start + SAVED_AT_ONCE]:
                    tasks.start_soon(save, key)
        if failures:
            raise failures[0]

    async def _save_one(self, key: Key) -> None:
        conversation = self._unsaved.pop(key, None)
        if conversation is None:
            return
        try:
            if self.shared:
                stored = await self._long_term.conversation(*key)
                if stored is None:
                    return  # deleted elsewhere
                conversation = _at_least(stored, conversation.updated_at)
            await self._long_term.save_conversation(conversation)
        except UserBeingErased:
            self.forget(conversation.user)
        except BaseException:
            self._unsaved.setdefault(key, self._known.get(key, conversation))
            raise

    def _current(self, key: Key, stored: Conversation | None) -> Conversation | None:
        """As another process may have left it, with the time that waits to be written."""
        if stored is None:
            self._known.pop(key, None)
            return None
        waiting = self._unsaved.get(key)
        return stored if waiting is None else _at_least(stored, waiting.updated_at)

    def _at_hand(self, key: Key) -> Conversation | None:
        return self._known.get(key) or self._unsaved.get(key)

    def _remember(self, conversation: Conversation) -> None:
        key = (conversation.user, conversation.id)
        self._known[key] = conversation
        self._known.move_to_end(key)
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)


def _at_least(known: Conversation, updated_at: float) -> Conversation:
    return msgspec.structs.replace(known, updated_at=max(known.updated_at, updated_at))


def _said(known: Conversation, message: Message, *, head: MessageId | None) -> Conversation:
    """*known* after *message* was said in it; times only grow."""
    updated_at = max(known.updated_at, message.timestamp)
    return msgspec.structs.replace(known, head=head, updated_at=updated_at)
