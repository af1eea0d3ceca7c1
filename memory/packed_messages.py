"""What recall keeps of one user's messages, column by column, in little RAM."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from memory.messages import ConversationId, Message, MessageId, Role
from memory.packed_vectors import extended
from memory.recalled import Recalled
from memory.tokens import tokens

Numbers = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

SLOT_BYTES: Final = 300
"""A slot in all columns and containers, its id among them, without its text, vector and marks."""
_QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f", "\u037e")
_BODY = msgspec.msgpack.Decoder(tuple[str | None, str])


class Columns(NamedTuple):
    """Facts by slot. ``words``: how many it has. ``asks``: it is a
    question. ``speaker``, ``talk``: numbers of a name and of a conversation. ``authored``: the
    speaker is a person who is named, not a role. ``replied``: the assistant said it.
    ``recalled``: how often it was among the best. ``times``: seconds since the epoch.
    """

    words: npt.NDArray[np.float32]
    asks: Flags
    speaker: Numbers
    talk: Numbers
    authored: Flags
    replied: Flags
    recalled: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64]


COLUMN_TYPES: Final = ("f4", "?", "i4", "i4", "?", "?", "u1", "f8")


class PackedMessages:
    """Messages in numbered slots, which the caller hands out."""

    def __init__(self) -> None:
        self.columns = Columns(*(np.zeros(0, kind) for kind in COLUMN_TYPES))
        self.speakers: list[str] = []
        self.talks: list[ConversationId] = []
        self._speaker_numbers: dict[str, int] = {}
        self._talk_numbers: dict[str, int] = {}
        self._ids: list[MessageId | None] = []
        self._bodies: list[bytes] = []
        self._body_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size_bytes(self) -> int:
        """RAM in use, estimated."""
        return len(self._ids) * SLOT_BYTES + self._body_bytes

    def put(self, slot: int, message: Message, words: int) -> None:
        """Hold *message*, of so many *words*, in the free *slot*, at most the first behind all."""
        if slot == len(self._ids):
            self._ids.append(None)
            self._bodies.append(b"")
            if slot >= len(self.columns.words):
                room = max(slot + 1, slot * 9 // 8, 64)
                self.columns = _each(self.columns, lambda column: extended(column, room))
        columns = self.columns
        columns.words[slot] = words
        columns.asks[slot] = message.text.rstrip().endswith(_QUESTION_MARKS)
        columns.speaker[slot] = self._speaker(message.author or message.role)
        columns.talk[slot] = self._talk(message.conversation)
        columns.authored[slot] = bool(message.author)
        columns.replied[slot] = message.role == "assistant"
        columns.recalled[slot] = 0
        columns.times[slot] = message.timestamp
        body = msgspec.msgpack.encode((message.client_id, message.text))
        self._ids[slot], self._bodies[slot] = message.id, body
        self._body_bytes += len(body)

    def clear(self, slot: int) -> None:
        """Give back *slot*."""
        self._body_bytes -= len(self._bodies[slot])
        self._ids[slot], self._bodies[slot] = None, b""
        self.columns.words[slot] = 0
        self.columns.recalled[slot] = 0

    def id(self, slot: int) -> MessageId:
        """The id of what is in *slot*."""
        message = self._ids[slot]
        if message is None:
            raise AssertionError(f"slot {slot} holds nothing")
        return message

    def body(self, slot: int) -> tuple[str | None, str]:
        """The client's id and the text."""
        return _BODY.decode(self._bodies[slot])

    def told(self, slot: int, *, score: float, why: tuple[str, ...]) -> Recalled:
        """What is in *slot*, as recall returns it."""
        client_id, text = self.body(slot)
        return Recalled(
            id=self.id(slot),
            text=text,
            score=score,
            timestamp=float(self.columns.times[slot]),
            conversation=self.conversation(slot),
            role=self.role(slot),
            why=why,
            author=self.author(slot),
            client_id=client_id,
        )

    def role(self, slot: int) -> Role:
        return "assistant" if self.columns.replied[slot] else "user"

    def author(self, slot: int) -> str | None:
        columns = self.columns
        return self.speakers[int(columns.speaker[slot])] if columns.authored[slot] else None

    def conversation(self, slot: int) -> ConversationId:
        return self.talks[int(self.columns.talk[slot])]

    def note_recalled(self, slots: list[int]) -> None:
        """*slots* were among the best of a search."""
        recalled = self.columns.recalled
        recalled[slots] = np.minimum(recalled[slots], np.uint8(254)) + np.uint8(1)

    def named(self, words: Iterable[str]) -> Flags:
        """By slot, whether *words* name who said it."""
        asked = set(words)
        numbers = [n for n, name in enumerate(self.speakers) if not asked.isdisjoint(tokens(name))]
        speaker = self.columns.speaker[: len(self)]
        return self._used() & np.isin(speaker, numbers)

    def by_user(self) -> Flags:
        """By slot, whether the user said it."""
        columns, slots = self.columns, len(self)
        return self._used() & ~columns.replied[:slots] & ~columns.authored[:slots]

    def by_assistant(self) -> Flags:
        """By slot, whether the assistant said it."""
        return self._used() & self.columns.replied[: len(self)]

    def dump(self, slots: Numbers) -> tuple[Columns, list[MessageId], list[bytes]]:
        """Copies of the columns, the ids and the bodies of *slots*."""
        columns = _each(self.columns, lambda column: column[slots])
        order = slots.tolist()
        ids = [each for slot in order if (each := self._ids[slot]) is not None]
        return columns, ids, [self._bodies[slot] for slot in order]

    def restore(self, columns: Columns, ids: list[MessageId], bodies: list[bytes]) -> None:
        """Hold what :meth:`dump` gave, from slot 0 on; names are set by :meth:`restore_names`."""
        self.columns = _each(columns, np.copy)
        self._ids, self._bodies = list(ids), bodies
        self._body_bytes = sum(map(len, bodies))

    def restore_names(self, speakers: list[str], talks: list[ConversationId]) -> None:
        """The names that ``speaker`` and ``talk`` count."""
        self.speakers, self.talks = speakers, talks
        self._speaker_numbers = {name: number for number, name in enumerate(speakers)}
        self._talk_numbers = {name: number for number, name in enumerate(talks)}

    def _used(self) -> Flags:
        return self.columns.words[: len(self)] > 0

    def _speaker(self, name: str) -> int:
        number = self._speaker_numbers.setdefault(name, len(self.speakers))
        if number == len(self.speakers):
            self.speakers.append(name)
        return number

    def _talk(self, name: ConversationId) -> int:
        number = self._talk_numbers.setdefault(name, len(self.talks))
        if number == len(self.talks):
            self.talks.append(name)
        return number


def _each(columns: Columns, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Columns:
    """*columns* with *change* made to each."""
    return Columns(*(change(column) for column in columns))
