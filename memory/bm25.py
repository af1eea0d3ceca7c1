"""BM25: how well texts answer a question, by the words that both have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
"""One number for each slot: float32, (capacity,)."""

K1 = 1.2
B = 0.75
"""BM25's saturation and length normalisation, at their usual values (Robertson and Zaragoza,
The Probabilistic Relevance Framework, 2009)."""


class LexicalScores(NamedTuple):
    """BM25 of a query in four views: each message by itself (``turn``), with the message before
    it in its conversation (``pair``), with two before and two after (``window``), and its whole
    ``conversation``. ``weight`` is the sum of the query's term weights: a document of average
    length that has each term once scores about that much.
    """

    turn: Scores
    pair: Scores
    window: Scores
    conversation: Scores
    weight: float

    def first(self, slots: int) -> LexicalScores:
        """The scores of the first *slots* slots."""
        return LexicalScores(
            turn=self.turn[:slots],
            pair=self.pair[:slots],
            window=self.window[:slots],
            conversation=self.conversation[:slots],
            weight=self.weight,
        )


def saturation(lengths: Scores, used: npt.NDArray[np.bool_]) -> Scores:
    """How often a term must be in each document for half of what it can bring; longer ones need
    more. *used* are the documents that are there; without any, nothing is enough.
    """
    documents = int(np.count_nonzero(used))
    if not documents:
        return np.full(len(lengths), np.inf, np.float32)
    average = float((lengths * used).sum()) / documents
    enough = (K1 * B / average) * lengths
    enough += K1 * (1 - B)
    return enough.astype(np.float32, copy=False)


def bm25(counts: Scores, enough: Scores, weights: Scores) -> Scores:
    """BM25 of documents of which *counts*, (terms, documents), says how often they have a term,
    and *enough* their :func:`saturation`.
    """
    if not len(counts):
        return np.zeros(counts.shape[1], np.float32)
    parts = counts + enough
    np.divide(counts, parts, out=parts)
    # Not `@`, which wakes OpenBLAS's threads (decision 0004).
    scores: Scores = np.einsum("i,ij->j", weights * np.float32(K1 + 1), parts)
    return scores
