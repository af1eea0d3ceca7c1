"""BM25 over one user's messages, alone and together with what was said around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memory.bm25 import LexicalScores, Scores, bm25, saturation
from memory.lexical_views import Links, Slots, near_of, view_counts
from memory.messages import ConversationId
from memory.postings import ClosedPostings, Postings
from memory.tokens import FUNCTION_WORDS

FUNCTION_WORD_WEIGHT = 0.25
_NONE = -1
"""No neighbour. As an index it means the last column, which is kept empty for that."""
_SLOT_BYTES = 16


class LexicalState(NamedTuple):
    """All of an index whose slots are 0 to n - 1, for keeping it elsewhere.

    ``chains``: of each conversation its number, oldest and newest slot, int32, (n, 3).
    """

    postings: ClosedPostings
    conversations: list[ConversationId]
    chains: Slots
    lengths: Scores
    previous: Slots
    following: Slots
    numbers: Slots


class _Chain(NamedTuple):
    """A conversation's number, and the slots of its oldest and newest message."""

    number: int
    oldest: int
    newest: int


class LexicalIndex:
    """An exact inverted index over numbered slots, which the caller hands out and reuses.

    Adding and removing take time in proportion to the words. Not for use from several threads.
    """

    def __init__(self) -> None:
        self._postings = Postings()
        self._chains: dict[ConversationId, _Chain] = {}
        self._free_numbers: list[int] = []
        self._count = 0
        self._lengths: Scores = np.zeros(1, np.float32)
        self._previous: Slots = np.full(1, _NONE, np.int32)
        self._following: Slots = np.full(1, _NONE, np.int32)
        self._numbers: Slots = np.zeros(1, np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def capacity(self) -> int:
        """Length of the arrays in ``LexicalScores``; grows with the highest slot."""
        return len(self._lengths) - 1

    @property
    def size_bytes(self) -> int:
        """RAM in use, estimated."""
        return self._postings.size_bytes + len(self._lengths) * _SLOT_BYTES

    def add(
        self,
        slot: int,
        words: Sequence[str],
        conversation: ConversationId,
        *,
        concepts: Sequence[str] = (),
        older: bool = False,
    ) -> None:
        """Put a message into the free *slot*: the newest of its conversation, or the oldest.

        Terms of *concepts* stand in the index as well and do not make it longer. After many that
        were *older*, call :meth:`settle`.
        """
        if slot >= self.capacity:
            self._grow(slot + 1)
        self._postings.add(words, slot)
        self._postings.add(concepts, slot)
        self._postings.tidy(hurried=older)
        self._lengths[slot] = len(words)
        self._count += 1
        self._link(slot, conversation, older=older)

    def settle(self) -> None:
        """Give back the room that adding in a hurry took."""
        self._postings.tidy()

    def remove(self, slot: int, words: Sequence[str], conversation: ConversationId) -> None:
        """Take out what ``add`` put in: *words* are those with the concepts' terms, and
        *conversation* is the same.
        """
        for word in words:
            self._postings.remove(word, slot)
        self._lengths[slot] = 0
        self._count -= 1
        self._unlink(slot, conversation)

    @property
    def links(self) -> Links:
        """What was said before and after each message, and in which conversation."""
        return Links(self._previous, self._following, self._numbers)

    def having(self, term: str) -> npt.NDArray[np.bool_]:
        """bool, (capacity,): the slots that have *term*."""
        found = np.zeros(self.capacity, np.bool_)
        found[self._postings.get(term)] = True
        return found

    def scores(self, words: Sequence[str]) -> LexicalScores:
        """BM25 of the query *words* for every slot, in all views; 0 for a free slot."""
        return self.all_scores([words])[0]

    def all_scores(self, queries: Sequence[Sequence[str]]) -> list[LexicalScores]:
        """The scores of several queries, which takes less time than one after the other."""
        lengths, numbers = self._lengths, self._numbers
        near = near_of(self.links)
        pair = lengths + lengths.take(near.previous)
        window = pair.copy()
        for each in (near.before, near.following, near.after):
            window += lengths.take(each)
        talks = np.bincount(numbers, lengths).astype(np.float32)
        used = lengths > 0
        enough = [saturation(each, used) for each in (lengths, pair, window)]
        enough.append(saturation(talks, talks > 0))
        found: list[LexicalScores] = []
        for words in queries:
            postings, shares, unknown = self._query(words)
            counts = view_counts(postings, near, len(talks))
            known = [
                share * self._rarity(int(np.count_nonzero(row > 0)))
                for share, row in zip(shares, counts[0], strict=True)
            ]
            weights = np.array(known, np.float32)
            views = [bm25(*each, weights) for each in zip(counts, enough, strict=True)]
            turn, paired, around = (view[:-1] for view in views[:3])
            talk = views[3].take(numbers[:-1])
            found.append(LexicalScores(turn, paired, around, talk, unknown + sum(known)))
        return found

    def dump(self, slots: Slots) -> LexicalState:
        """A copy of everything; *slots* are all in use, in the order in which they are to be."""
        places = np.full(len(self._lengths), _NONE, np.int32)
        places[slots] = np.arange(len(slots), dtype=np.int32)
        chains = [(it.number, places[it.oldest], places[it.newest]) for it in self._chains.values()]
        return LexicalState(
            postings=self._postings.dump(places),
            conversations=list(self._chains),
            chains=np.array(chains, np.int32).reshape(-1, 3),
            lengths=self._lengths[slots],
            previous=places[self._previous[slots]],
            following=places[self._following[slots]],
            numbers=self._numbers[slots],
        )

    @classmethod
    def restore(cls, state: LexicalState) -> LexicalIndex:
        """The index that :meth:`dump` gave the *state* of."""
        index = cls()
        index._take(state)
        return index

    def _query(self, words: Sequence[str]) -> tuple[list[Slots], list[float], float]:
        """The postings of each known term, the terms' shares, and the weight of all others."""
        postings: list[Slots] = []
        shares: list[float] = []
        unknown = 0.0
        distinct = list(dict.fromkeys(words))
        for word, posting in zip(distinct, self._postings.all(distinct), strict=True):
            share = FUNCTION_WORD_WEIGHT if word in FUNCTION_WORDS else 1.0
            if len(posting):
                postings.append(posting)
                shares.append(share)
            else:
                unknown += share * self._rarity(0)
        return postings, shares, unknown

    def _rarity(self, documents: int) -> float:
        """Inverse document frequency, never negative."""
        return float(np.log1p((self._count - documents + 0.5) / (documents + 0.5)))

    def _link(self, slot: int, conversation: ConversationId, *, older: bool) -> None:
        chain = self._chains.get(conversation)
        if chain is None:
            number = self._free_numbers.pop() if self._free_numbers else len(self._chains) + 1
            chain = _Chain(number, slot, slot)
        elif older:
            self._previous[chain.oldest], self._following[slot] = slot, chain.oldest
            chain = chain._replace(oldest=slot)
        else:
            self._following[chain.newest], self._previous[slot] = slot, chain.newest
            chain = chain._replace(newest=slot)
        self._chains[conversation] = chain
        self._numbers[slot] = chain.number

    def _unlink(self, slot: int, conversation: ConversationId) -> None:
        chain = self._chains[conversation]
        previous, following = int(self._previous[slot]), int(self._following[slot])
        if previous != _NONE:
            self._following[previous] = following
        if following != _NONE:
            self._previous[following] = previous
        if previous == following == _NONE:
            del self._chains[conversation]
            self._free_numbers.append(chain.number)
        elif previous == _NONE:
            self._chains[conversation] = chain._replace(oldest=following)
        elif following == _NONE:
            self._chains[conversation] = chain._replace(newest=previous)
        self._previous[slot] = self._following[slot] = _NONE
        self._numbers[slot] = 0

    def _take(self, state: LexicalState) -> None:
        count = len(state.lengths)
        self._grow(count)
        self._postings.restore(state.postings)
        chains = zip(state.conversations, state.chains.tolist(), strict=True)
        self._chains = {conversation: _Chain(*chain) for conversation, chain in chains}
        taken = {chain.number for chain in self._chains.values()}
        self._free_numbers = [n for n in range(1, max(taken, default=0)) if n not in taken]
        self._count = count
        for mine, theirs in (
            (self._lengths, state.lengths),
            (self._previous, state.previous),
            (self._following, state.following),
            (self._numbers, state.numbers),
        ):
            mine[:count] = theirs

    def _grow(self, least: int) -> None:
        added = max(least, 2 * self.capacity) - self.capacity
        nowhere = np.full(added, _NONE, np.int32)
        self._lengths = np.concatenate((self._lengths, np.zeros(added, np.float32)))
        self._numbers = np.concatenate((self._numbers, np.zeros(added, np.int32)))
        self._previous = np.concatenate((self._previous, nowhere))
        self._following = np.concatenate((self._following, nowhere))
