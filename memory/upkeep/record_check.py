"""Whether every record of a store is one that this program writes, in its place."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from memory.errors import CorruptRecord
from memory.messages import Message, UserId, user_key
from memory.placement import Placement
from memory.records import (
    Record,
    conversation_record_id,
    message_record,
    stored_conversation,
    stored_message,
)
from memory.upkeep.layouts import placement_of, prefix_of
from memory.upkeep.store_file import StoredCollection

EXAMPLES: Final = 3

_Place = tuple[bytes, int]
"""Which conversation of which user, as a digest, and how deep in it."""


class RecordCheck:
    """Takes all records, in any order, then tells what is wrong; keeps about 200 bytes for each.

    Records of collections that are not ours are left alone.
    """

    def __init__(self, collections: list[StoredCollection]) -> None:
        self._collections = {it.segment: it for it in collections if it.kind}
        self._placements = _placements(collections)
        self._places: dict[str, _Place] = {}
        self._children: list[tuple[str, str, _Place]] = []
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[str]] = defaultdict(list)
        self.records = 0

    def take(self, segment: str, record: Record) -> None:
        """Look at a record."""
        collection = self._collections.get(segment)
        if collection is None:
            return
        self.records += 1
        user = UserId(str(record.metadata.get("user_id", "")))
        try:
            if collection.kind == "messages":
                self._take_message(collection, user, record)
            else:
                self._take_conversation(user, record)
        except CorruptRecord as fault:
            self._note(f"{fault.field} is missing or wrong", record.id)

    def faults(self) -> Iterator[str]:
        """What is wrong, a line for each kind, with a few ids; to be called once, at the end."""
        for child, parent, (conversation, depth) in self._children:
            place = self._places.get(parent)
            if place is None:
                self._note("the parent is not stored", child)
            elif place != (conversation, depth - 1):
                self._note("the parent is of another conversation or depth", child)
        for fault, count in sorted(self._counts.items()):
            yield f"{count} records: {fault} (such as {', '.join(self._examples[fault])})"

    def _take_message(self, collection: StoredCollection, user: UserId, record: Record) -> None:
        message = stored_message(user, record.id, record.document, record.metadata)
        if record.id in self._places:
            self._note("the id stands in two collections", record.id)
        place = (_digest(message), message.depth)
        self._places[record.id] = place
        if message.parent is not None:
            self._children.append((record.id, message.parent, place))
        elif message.depth != 0:
            self._note("it has no parent and is not the first", record.id)
        if not message.text and message.status != "deleted":
            self._note("the words are missing", record.id)
        written = message_record(message).metadata
        if any(record.metadata.get(key) != written[key] for key in ("page", "month")):
            self._note("it cannot be found where it belongs (page, month)", record.id)
        placement = self._placements.get(collection.layout)
        if placement is not None and placement.shelf(user).name != collection.name:
            self._note("it is in a collection that is not its user's", record.id)

    def _take_conversation(self, user: UserId, record: Record) -> None:
        conversation = stored_conversation(user, record.id, record.metadata)
        if record.id != conversation_record_id(user, conversation.id):
            self._note("a conversation has another's id", record.id)

    def _note(self, fault: str, record: str) -> None:
        self._counts[fault] += 1
        if len(self._examples[fault]) < EXAMPLES:
            self._examples[fault].append(record)


def _placements(collections: list[StoredCollection]) -> Mapping[str, Placement]:
    """The placement of each layout in the store; while it is being migrated there are two.

    Raises:
        UpkeepRefused: a layout is none that this version knows.
    """
    return {
        it.layout: placement_of(it.layout, prefix_of(it.name))
        for it in collections
        if it.kind == "conversations"
    }


def _digest(message: Message) -> bytes:
    key = f"{user_key(message.user)}/{message.conversation}"
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
