"""One user's messages in RAM, searched exactly."""

from __future__ import annotations

import time
from collections.abc import Set
from itertools import islice

import numpy as np

from memory.bm25 import Scores
from memory.concepts import CODE, NUMBER
from memory.hot_order import HotOrder
from memory.hot_state import HotState
from memory.late_interaction import nth_largest
from memory.lexical import LexicalIndex
from memory.message_terms import message_terms
from memory.messages import Message, MessageId, Vector
from memory.packed_marks import PackedMarks
from memory.packed_messages import PackedMessages
from memory.packed_vectors import PackedVectors
from memory.question import Question, read_question
from memory.ranking import Evidence, Ranking, Traits, rank
from memory.recalled import Recall, Recalled
from memory.token_marks import TokenMarks

NOTED_BEST = 5
"""So many of the best of a search are noted as recalled."""


class HotMemory:
    """At most *max_messages* and about *max_bytes* of one user's newest messages.

    What does not fit makes the oldest leave, unless it was recalled often: see ``HotOrder``.
    Messages live in numbered slots, so that nothing moves when one goes. One whose vector is zeros
    has none yet: it is found by its words. Not for use from several threads.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._slots: dict[MessageId, int] = {}
        self._order = HotOrder()
        self._free: list[int] = []
        self._messages = PackedMessages()
        self._vectors = PackedVectors()
        self._marks = PackedMarks()
        self._lexical = LexicalIndex()
        self._unembedded: set[MessageId] = set()
        self._unmarked: dict[MessageId, None] = {}
        self._left_out = False
        self.forgotten: set[MessageId] = set()
        """Which messages are not here because they are forgotten, as far as was seen."""
        self.changes = 0
        """Counts the changes of what is here, twice each: odd in the middle of one."""
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
        if self._left_out or len(self) >= self._max_messages:
            return True
        return self.size_bytes >= self._max_bytes

    @property
    def size_bytes(self) -> int:
        """RAM in use, estimated: vectors, marks, texts, postings, containers."""
        packed = self._messages.size_bytes + self._marks.size_bytes + self._lexical.size_bytes
        return packed + len(self._messages) * self._vectors.row_bytes

    def add(
        self,
        message: Message,
        vector: Vector,
        *,
        older: bool = False,
        marks: TokenMarks | None = None,
    ) -> None:
        """Take in *message*: the newest of all, or *older* than all that are here.

        One that is here already, that must not be recalled, was forgotten, or is older than there
        is room for changes nothing. Without *marks* they are missing: see :meth:`unmarked`.
        """
        if message.forgotten:
            self.forget(message.id)
        if message.id in self._slots or message.id in self.forgotten or not message.recallable:
            return
        if older and (self._left_out or len(self) >= self._max_messages):
            self._left_out = True
            return
        self.changes += 1
        if len(self) >= self._max_messages:
            self._drop_oldest()
        slot = self._free.pop() if self._free else len(self._messages)
        terms = message_terms(message.text, message.author)
        talk = message.conversation
        self._lexical.add(slot, terms.words, talk, concepts=terms.concepts, older=older)
        self._messages.put(slot, message, len(terms.words))
        self._vectors.put(slot, vector)
        self._slots[message.id] = slot
        if not vector.any():
            self._unembedded.add(message.id)
        self._unmarked[message.id] = None
        if marks is not None:
            self.mark(message.id, marks)
        self._order.add(slot, older=older)
        self._make_fit()
        self.changes += 1

    def forget(self, message_id: MessageId) -> None:
        """Take a message out, and never take it in; that does not make it missing."""
        if message_id in self.forgotten:
            return
        self.changes += 1
        self.forgotten.add(message_id)
        slot = self._slots.get(message_id)
        if slot is not None:
            self._order.remove(slot)
            self._take_out(slot)
        self.changes += 1

    def settle(self) -> None:
        """After many *older* ones were added: give back the room that this took."""
        self.changes += 1
        self._lexical.settle()
        self.changes += 1

    def fill(self, message_id: MessageId, vector: Vector) -> None:
        """Give a message its *vector*, if it is here and has none."""
        if message_id in self._unembedded:
            self.changes += 1
            self._vectors.put(self._slots[message_id], vector)
            self._unembedded.discard(message_id)
            self.changes += 1

    def mark(self, message_id: MessageId, marks: TokenMarks) -> None:
        """Give a message its *marks*, if it is here and has none; it may have none for good."""
        if message_id in self._unmarked:
            self.changes += 1
            del self._unmarked[message_id]
            self._marks.put(self._slots[message_id], marks)
            self.changes += 1

    def unmarked(self, limit: int) -> list[tuple[MessageId, str]]:
        """At most *limit* of the messages whose marks are missing, the last missed first, with
        their texts; those without a vector, which are embedded anyway, are not among them.
        """
        missing = (each for each in reversed(self._unmarked) if each not in self._unembedded)
        body = self._messages.body
        return [(each, body(self._slots[each])[1]) for each in islice(missing, limit)]

    def search(
        self,
        query_text: str,
        query_vector: Vector | None,
        *,
        limit: int,
        exclude: Set[MessageId] = frozenset(),
        marks: TokenMarks | None = None,
        asked_at: float | None = None,
    ) -> Recall:
        """The *limit* best messages for a question, without those in *exclude*.

        *marks* are the question's; *asked_at*, in seconds since the epoch, is now unless given.
        Without a vector, words alone decide, and with one of zeros, which a question has that
        could not be embedded. ``partial`` then, when not all of the user's messages are here, and
        while one of them has no vector.
        """
        started = time.perf_counter()
        best: list[Recalled] = []
        if limit > 0 and self._slots:
            asked_at = time.time() if asked_at is None else asked_at
            question = read_question(query_text, marks=marks, asked_at=asked_at)
            ranking = self._rank(question, query_vector)
            slots = self._best(ranking.total, limit, exclude)
            told = self._messages.told
            best = [told(each, score=ranking.score(each), why=ranking.why(each)) for each in slots]
            self._messages.note_recalled(slots[:NOTED_BEST])
        took_ms = (time.perf_counter() - started) * 1000
        blind = query_vector is not None and not query_vector.any()
        partial = blind or bool(self._unembedded) or not self.complete
        return Recall(items=tuple(best), took_ms=took_ms, partial=partial)

    def _rank(self, question: Question, vector: Vector | None) -> Ranking:
        lexical, messages, columns = self._lexical, self._messages, self._messages.columns
        slots, asked = len(messages), lexical.all_scores((question.words, question.concepts))
        return rank(
            question,
            Evidence(
                words=asked[0].first(slots),
                concepts=asked[1].first(slots),
                cosine=self._vectors.cosines(vector, slots)
                if vector is not None and vector.any()
                else None,
                marks=self._marks.flat(slots),
                links=lexical.links,
                traits=Traits(
                    words=columns.words[:slots],
                    asks=columns.asks[:slots],
                    named=messages.named(question.words),
                    by_user=messages.by_user(),
                    by_assistant=messages.by_assistant(),
                    figure=lexical.having(NUMBER)[:slots],
                    code=lexical.having(CODE)[:slots],
                    times=columns.times[:slots],
                ),
            ),
        )

    def _best(self, total: Scores, limit: int, exclude: Set[MessageId]) -> list[int]:
        """Slots in use, best first; the newer one where two are equal."""
        hidden = [slot for each in exclude if (slot := self._slots.get(each)) is not None]
        total[self._free + hidden] = -np.inf
        limit = min(limit, len(total) - len(self._free) - len(hidden))
        if limit <= 0:
            return []
        slots = np.flatnonzero(total >= nth_largest(total, limit))
        order = np.lexsort((-self._messages.columns.times[slots], -total[slots]))
        return [int(slot) for slot in slots[order][:limit]]

    def _make_fit(self) -> None:
        most = max(1, self._max_messages)
        while len(self) > most or (len(self) > 1 and self.size_bytes > self._max_bytes):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._left_out = True
        self._take_out(self._order.pop(self._messages.columns.recalled))

    def _take_out(self, slot: int) -> None:
        message_id = self._messages.id(slot)
        terms = message_terms(self._messages.body(slot)[1], self._messages.author(slot))
        self._lexical.remove(slot, terms.all, self._messages.conversation(slot))
        self._messages.clear(slot)
        self._marks.drop(slot)
        del self._slots[message_id]
        self._unembedded.discard(message_id)
        self._unmarked.pop(message_id, None)
        self._free.append(slot)

    def dump(self) -> HotState:
        """A copy of all that is here, its slots numbered anew, oldest message first."""
        slots = self._order.slots()
        columns, ids, bodies = self._messages.dump(slots)
        rows, scales = self._vectors.dump(slots)
        mark_ids, mark_bits, mark_counts = self._marks.dump(slots)
        return HotState(
            ids=ids,
            bodies=bodies,
            columns=columns,
            speakers=list(self._messages.speakers),
            talks=list(self._messages.talks),
            rows=rows,
            scales=scales,
            mark_ids=mark_ids,
            mark_bits=mark_bits,
            mark_counts=mark_counts,
            lexical=self._lexical.dump(slots),
            kept=self._order.kept,
            unembedded=sorted(self._unembedded),
            unmarked=list(self._unmarked),
            forgotten=sorted(self.forgotten),
            complete=self.complete,
        )

    def restore(self, state: HotState) -> None:
        """Hold what :meth:`dump` gave, in an empty memory; the oldest leave if there is less room.

        Takes some milliseconds for each thousand messages.
        """
        self._messages.restore(state.columns, state.ids, state.bodies)
        self._messages.restore_names(state.speakers, state.talks)
        self._vectors.restore(state.rows, state.scales)
        self._marks.restore(state.mark_ids, state.mark_bits, state.mark_counts)
        self._lexical = LexicalIndex.restore(state.lexical)
        self._slots = dict(zip(state.ids, range(len(state.ids)), strict=True))
        self._order.restore(state.kept, len(state.ids))
        self._unembedded.update(state.unembedded)
        self._unmarked.update(dict.fromkeys(state.unmarked))
        self.forgotten.update(state.forgotten)
        self.read_to_end = state.complete
        self._left_out = not state.complete
        self._make_fit()
