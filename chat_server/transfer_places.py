"""Where the lines of an import go: which message each is, and after which it stands."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from msgspec import UNSET

from chat_server.patience import insist
from chat_server.transfer_lines import BadLine, Line, moment
from memory.long_term import LongTermMemory
from memory.messages import ConversationId, Message, MessageId, UserId, message_id

REMEMBERED: Final = 10_000
"""Lines and conversations whose place is known without asking the store."""
BETWEEN_S: Final = 0.001
"""The distance of messages that have no time of their own."""

_OWN_ID: Final = re.compile(r"[mr][a-z2-7]{26}")

Value = TypeVar("Value")


class Place(NamedTuple):
    """Where a message stands."""

    id: MessageId
    conversation: ConversationId
    depth: int


class Recent(Generic[Value]):
    """The values of the ``REMEMBERED`` keys that were set last."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, Value] = OrderedDict()

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def set(self, key: str, value: Value) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > REMEMBERED:
            self._values.popitem(last=False)

    def forget(self, key: str) -> None:
        self._values.pop(key, None)


class Places:
    """Finds the place of each line of one user's import.

    A message's id is made of its line's, as for sends, so that a file may be imported again. A
    line whose id is that of one of the user's stored messages is that message.
    """

    def __init__(self, long_term: LongTermMemory, user: UserId) -> None:
        self._long_term = long_term
        self._user = user
        self._places: Recent[Place] = Recent()
        self._ends: Recent[Place] = Recent()
        self._heads: Recent[str] = Recent()
        self._last_time = 0.0

    def remember(self, line: Line, message: Message) -> None:
        """*line* is *message*: lines that follow may name it, or just follow."""
        place = _place_of(message)
        self._places.set(line.id, place)
        self._ends.set(message.conversation, place)
        if line.head is not None:
            self._heads.set(message.conversation, line.head)

    def forget(self, line: Line) -> None:
        """*line* was not stored after all: nothing can follow it."""
        self._places.forget(line.id)
        self._ends.forget(line.conversation)

    def is_head(self, line: Line) -> bool:
        """Whether a line before said that the conversation is shown below *line*."""
        return self._heads.get(line.conversation) == line.id

    async def known(self, lines: Sequence[Line]) -> dict[MessageId, Message]:
        """The stored messages that the *lines* may be, or follow."""
        asked: dict[MessageId, None] = {}
        for line in lines:
            asked.update(dict.fromkeys(self._ids_of(line.id)))
            if isinstance(line.parent, str) and self._places.get(line.parent) is None:
                asked.update(dict.fromkeys(self._ids_of(line.parent)))
        found = await self._long_term.by_ids(self._user, list(asked))
        return {message.id: message for message in found}

    def _ids_of(self, given: str) -> list[MessageId]:
        """The ids of messages that a line may mean: the user's own first."""
        own = message_id(self._user, given)
        return [MessageId(given), own] if _OWN_ID.fullmatch(given) else [own]

    async def place(self, line: Line, known: Mapping[MessageId, Message]) -> Message:
        """The message that *line* is: one of *known*, or a new one.

        Raises:
            BadLine: ``id_conflict``, ``unknown_parent``, or a time that is none.
        """
        for meant in self._ids_of(line.id):
            stored = known.get(meant)
            if stored is not None:
                return _same(stored, line)
        parent = await self._parent(line, known)
        return Message(
            id=message_id(self._user, line.id),
            user=self._user,
            conversation=ConversationId(line.conversation),
            role=line.role,
            text=line.text,
            timestamp=self._now() if line.timestamp is None else moment(line.timestamp),
            parent=parent.id if parent else None,
            depth=parent.depth + 1 if parent else 0,
            client_id=line.id,
            author=line.author,
            status=line.status,
            model=line.model,
            forgotten=line.forgotten,
            reply_to=parent.id if parent and line.role == "assistant" else None,
        )

    async def _parent(self, line: Line, known: Mapping[MessageId, Message]) -> Place | None:
        if line.parent is UNSET:
            return self._ends.get(line.conversation) or await self._stored_end(line)
        if line.parent is None:
            return None
        place = self._places.get(line.parent)
        for meant in self._ids_of(line.parent):
            if place is None and meant in known:
                place = _place_of(known[meant])
        if place is None or place.conversation != line.conversation:
            raise BadLine(
                "unknown_parent",
                "no line before this one, and no stored message, of this conversation has that id",
                field="parent",
            )
        return place

    async def _stored_end(self, line: Line) -> Place | None:
        """The last message of a conversation that stands already, for its first line here."""
        conversation = ConversationId(line.conversation)
        latest = self._long_term.latest
        found = await insist(lambda: latest(self._user, conversation, limit=1))
        return _place_of(found[-1]) if found else None

    def _now(self) -> float:
        self._last_time = max(time.time(), self._last_time + BETWEEN_S)
        return self._last_time


def _place_of(message: Message) -> Place:
    return Place(message.id, message.conversation, message.depth)


def _same(stored: Message, line: Line) -> Message:
    """*stored*, if *line* says the same.

    Raises:
        BadLine: ``id_conflict``.
    """
    said = (line.text, line.role, line.conversation)
    if (stored.text, stored.role, stored.conversation) != said:
        raise BadLine("id_conflict", "this id is that of another stored message", field="id")
    return stored
