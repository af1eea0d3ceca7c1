"""One user's newest messages in RAM, searched exactly."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Set

import numpy as np

from memory.lexical import LexicalIndex, Scores
from memory.messages import Message, MessageId, Vector, Vectors
from memory.ranking import Ranking, Traits, rank
from memory.recalled import Recall, Recalled
from memory.tokens import tokens

_MESSAGE_BYTES = 1_100
"""A message with its ids and its places in the containers here, without its text and vector."""
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u037e")


class HotMemory:
    """At most *max_messages* and about *max_bytes* of one user's newest messages.

    What does not fit makes the oldest leave. Messages live in numbered slots, so that nothing
    moves when one goes. One whose vector is zeros has none yet: it is found by its words. Not for
    use from several threads.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._slots: dict[MessageId, int] = {}
        self._order: deque[int] = deque()
        self._free: list[int] = []
        self._messages: list[Message | None] = []
        self._lexical = LexicalIndex()
        self._vectors: Vectors = np.zeros((0, 0), np.float32)
        self._words = np.zeros(0, np.float32)
        self._asks = np.zeros(0, np.bool_)
        self._speaker = np.zeros(0, np.int32)
        self._times = np.zeros(0, np.float64)
        self._speakers: dict[str, int] = {}
        self._names: list[frozenset[str]] = []
        self._text_bytes = 0
        self._unembedded: set[MessageId] = set()
        self._left_out = False
        self.read_to_end = False
        """Whether nothing else was there to add; whoever fills it says so."""

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, message_id: MessageId) -> bool:
        return message_id in self._slots

    @property
    def complete(self) -> bool:
        """Whether all of the user's messages are here that may be recalled."""
        return self.read_to_end and not self._left_out

    @property
    def unembedded(self) -> int:
        """How many of the messages here have no vector."""
        return len(self._unembedded)

    @property
    def full(self) -> bool:
        """Whether an older message would not be taken any more."""
        if self._left_out or len(self) >= self._max_messages or self.size_bytes >= self._max_bytes:
            return True
        return self._must_grow and self.size_bytes + self._growth_bytes > self._max_bytes

    @property
    def size_bytes(self) -> int:
        """RAM in use, estimated: vectors, texts, postings, containers."""
        held = len(self) * _MESSAGE_BYTES + self._text_bytes
        return held + self._vectors.nbytes + self._lexical.size_bytes

    def add(self, message: Message, vector: Vector, *, older: bool = False) -> None:
        """Take in *message*: the newest of all, or *older* than all that are here.

        One that is here already, that must not be recalled, or is older than there is room for
        changes nothing.
        """
        if message.id in self._slots or not message.recallable:
            return
        if older and self.full:
            self._left_out = True
            return
        slot = self._take_slot(len(vector))
        words = tokens(_spoken(message))
        self._lexical.add(slot, words, message.conversation, older=older)
        self._messages[slot] = message
        self._slots[message.id] = slot
        self._text_bytes += len(message.text.encode())
        self._vectors[slot] = vector
        if not vector.any():
            self._unembedded.add(message.id)
        self._words[slot] = len(words)
        self._asks[slot] = message.text.rstrip().endswith(_QUESTION_MARKS)
        self._speaker[slot] = self._number(message.author or message.role)
        self._times[slot] = message.timestamp
        if older:
            self._order.appendleft(slot)
        else:
            self._order.append(slot)
        while len(self) > 1 and self.size_bytes > self._max_bytes:
            self._drop_oldest()

    def fill(self, message_id: MessageId, vector: Vector) -> None:
        """Give a message its *vector*, if it is here and has none."""
        if message_id in self._unembedded:
            self._vectors[self._slots[message_id]] = vector
            self._unembedded.discard(message_id)

    def search(
        self,
        query_text: str,
        query_vector: Vector | None,
        *,
        limit: int,
        exclude: Set[MessageId] = frozenset(),
    ) -> Recall:
        """The *limit* best messages for a question, without those in *exclude*.

        Without a vector, words alone decide, and with one of zeros, which a question has that
        could not be embedded. ``partial`` then, when not all of the user's messages are here, and
        while one of them has no vector.
        """
        started = time.perf_counter()
        best: list[Recalled] = []
        if limit > 0 and self._slots:
            ranking = self._rank(query_text, query_vector)
            for slot in self._best(ranking.total, limit, exclude):
                message = self._messages[slot]
                if message is not None:
                    best.append(_recalled(message, ranking, slot))
        took_ms = (time.perf_counter() - started) * 1000
        unembedded = self._unembedded or (query_vector is not None and not query_vector.any())
        partial = bool(unembedded) or not self.complete
        return Recall(items=tuple(best), took_ms=took_ms, partial=partial)

    def _rank(self, query_text: str, query_vector: Vector | None) -> Ranking:
        words = tokens(query_text)
        asked = set(words)
        named = [n for n, name in enumerate(self._names) if not asked.isdisjoint(name)]
        slots = len(self._messages)
        lexical = self._lexical.scores(words)
        # Row by row: the product with the whole matrix wakes OpenBLAS's threads, which wait for
        # each other; on busy processors that takes ten times as long (decision 0004).
        cosine = None
        if query_vector is not None and query_vector.any():
            cosine = np.vecdot(self._vectors[:slots], query_vector)
        traits = Traits(self._words[:slots], self._asks[:slots], self._speaker[:slots])
        return rank(lexical.first(slots), cosine, traits, named=named)

    def _best(self, total: Scores, limit: int, exclude: Set[MessageId]) -> list[int]:
        """Slots in use, best first; the newer one where two are equal."""
        hidden = [slot for each in exclude if (slot := self._slots.get(each)) is not None]
        total[self._free + hidden] = -np.inf
        order = np.lexsort((-self._times[: len(total)], -total))
        best = order[: min(limit, len(total) - len(self._free) - len(hidden))]
        return [int(slot) for slot in best]

    def _number(self, speaker: str) -> int:
        number = self._speakers.setdefault(speaker, len(self._names))
        if number == len(self._names):
            self._names.append(frozenset(tokens(speaker)))
        return number

    @property
    def _must_grow(self) -> bool:
        return not self._free and len(self._messages) == len(self._vectors)

    @property
    def _growth_bytes(self) -> int:
        return self._vectors.nbytes // 2

    def _take_slot(self, dimension: int) -> int:
        """A free slot: there is one, or there is room for more, or the oldest message gives way."""
        crowded = self._must_grow and self.size_bytes + self._growth_bytes > self._max_bytes
        if len(self) >= self._max_messages or (crowded and len(self)):
            self._drop_oldest()
        if self._free:
            return self._free.pop()
        if self._must_grow:
            self._grow(dimension)
        self._messages.append(None)
        return len(self._messages) - 1

    def _grow(self, dimension: int) -> None:
        """Half as much room again; the vectors are most of the memory."""
        had = len(self._vectors)
        room = min(max(16, had * 3 // 2), self._max_messages)
        vectors = np.zeros((room, dimension), np.float32)
        if had:
            vectors[:had] = self._vectors
        self._vectors = vectors
        self._words = np.pad(self._words, (0, room - had))
        self._asks = np.pad(self._asks, (0, room - had))
        self._speaker = np.pad(self._speaker, (0, room - had))
        self._times = np.pad(self._times, (0, room - had))

    def _drop_oldest(self) -> None:
        slot = self._order.popleft()
        message = self._messages[slot]
        if message is None:
            raise AssertionError(f"slot {slot} is in the order and holds nothing")
        self._lexical.remove(slot, tokens(_spoken(message)), message.conversation)
        self._messages[slot] = None
        del self._slots[message.id]
        self._unembedded.discard(message.id)
        self._text_bytes -= len(message.text.encode())
        self._free.append(slot)
        self._left_out = True


def _spoken(message: Message) -> str:
    """What is searched for words: the author's name counts, a mere role does not."""
    return f"{message.author}: {message.text}" if message.author else message.text


def _recalled(message: Message, ranking: Ranking, slot: int) -> Recalled:
    return Recalled(
        id=message.id,
        text=message.text,
        score=ranking.score(slot),
        timestamp=message.timestamp,
        conversation=message.conversation,
        role=message.role,
        why=ranking.why(slot),
        author=message.author,
        client_id=message.client_id,
    )
