"""Late interaction: each piece of a question meets the best fitting piece of each message.

Khattab and Zaharia, ColBERT, 2020, over the signs of the token vectors only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory.lexical_views import Links, Slots
from memory.token_marks import PieceBits, PieceIds, TokenMarks

Floats = npt.NDArray[np.float32]

CANDIDATES: Final = 100
"""So many of the best, and their neighbours, are looked at piece by piece."""
CHUNKS_A_PLACE: Final = 4
WORDS_A_BYTE: Final = 3
"""So many words of 64 bits that all differ are counted in a byte."""


class SlotMarks(NamedTuple):
    """The marks of all messages of one user, flat.

    Slot *s* has the pieces ``starts[s] : starts[s] + counts[s]`` of ``ids``, uint16, (pieces,), and
    ``bits``, uint64, (pieces, words). ``starts``, ``counts``: int32, (slots,). What no slot names
    (left over until the arrays are made compact) does no harm.
    """

    ids: PieceIds
    bits: PieceBits
    starts: Slots
    counts: Slots


def late_interaction(
    asked: TokenMarks,
    marks: SlotMarks,
    links: Links,
    total: Floats,
    apart: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Late interaction of the best by *total*, alone and with those around them, as shares of
    the best one above the median; 0 for all others.
    """
    alone, together = np.zeros_like(total), np.zeros_like(total)
    if not len(total):
        return alone, together
    found = min(CANDIDATES, len(total))
    least = nth_largest(total, found)
    better, equal = np.flatnonzero(total > least), np.flatnonzero(total == least)
    candidates = np.concatenate((better, equal))[:found]
    before, after = links.previous[candidates], links.following[candidates]
    views = (candidates, before, after, links.previous[before], links.following[after])
    slots = np.unique(np.concatenate(views)).astype(np.int32)
    slots = slots[slots < len(total)]
    weights = piece_weights(asked, marks)
    matches = best_matches(asked, marks, slots)
    # One row more: of a neighbour that is not there.
    matches = np.vstack((matches, np.full((1, matches.shape[1]), -1, np.float32)))
    places = np.full(len(total) + 1, len(slots), np.int32)
    places[slots] = np.arange(len(slots), dtype=np.int32)
    around = matches[places[candidates]]
    own = np.einsum("ij,j->i", around, weights)
    for view in views[1:]:
        np.maximum(around, matches[places[view]], out=around)
    counted = apart[candidates]
    alone[candidates] = _above_median(own, counted)
    together[candidates] = _above_median(np.einsum("ij,j->i", around, weights), counted)
    return alone, together


def nth_largest(values: Floats, place: int) -> float:
    """The *place*-th largest of at least so many *values*."""
    chunk = len(values) // (CHUNKS_A_PLACE * place)
    if chunk > 1:
        # At least *place* values reach what as many chunks have as their largest, and few more.
        whole = values[: len(values) // chunk * chunk].reshape(-1, chunk)
        reached = np.partition(whole.max(axis=1), -place)[-place]
        values = values[values >= reached]
    return float(np.partition(values, -place)[-place])


def piece_weights(question: TokenMarks, marks: SlotMarks) -> Floats:
    """The inverse document frequency of each of the question's pieces, adding up to 1.

    A piece stands once in a message, so that counting ids counts messages.
    """
    messages = np.float32(np.count_nonzero(marks.counts))
    same = np.empty(len(marks.ids), np.bool_)
    counts = [np.count_nonzero(np.equal(marks.ids, each, out=same)) for each in question.ids]
    with_piece = np.minimum(np.array(counts, np.float32), messages)
    weights = np.log1p((messages - with_piece + 0.5) / (with_piece + 0.5))
    total = weights.sum()
    return (weights / total).astype(np.float32) if total > 0 else weights


def best_matches(question: TokenMarks, marks: SlotMarks, slots: Slots) -> Floats:
    """float32, (len(slots), pieces of the question): how well the best piece of each of *slots*
    fits, -1 to 1; 0 for a slot without marks.
    """
    counts = marks.counts[slots]
    matches = np.zeros((len(slots), len(question.ids)), np.float32)
    marked = np.flatnonzero(counts)
    if not len(marked) or not len(question.ids):
        return matches
    counts = counts[marked]
    ends = np.cumsum(counts)
    offsets = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    bits = marks.bits[np.repeat(marks.starts[slots[marked]], counts) + offsets]
    # One word of all pieces after the other: sums over the few words of a piece are slow.
    words = np.ascontiguousarray(bits.T)
    differing = np.zeros((len(question.ids), len(bits)), np.uint16)
    apart, bytes_ = np.empty_like(words), np.empty(words.shape, np.uint8)
    for row, piece in zip(differing, question.bits, strict=True):
        np.bitwise_count(np.bitwise_xor(words, piece[:, np.newaxis], out=apart), out=bytes_)
        for start in range(0, len(bytes_), WORDS_A_BYTE):
            sums = bytes_[start]
            for word in bytes_[start + 1 : start + WORDS_A_BYTE]:
                np.add(sums, word, out=sums)
            np.add(row, sums, out=row)
    least = np.minimum.reduceat(differing, ends - counts, axis=1)
    matches[marked] = _cosines(bits.shape[1])[least].T
    return matches


def _cosines(words: int) -> Floats:
    """The cosine that each number of differing bits stands for."""
    width = 64 * words
    return np.sin(np.pi / 2 * (1 - 2 * np.arange(width + 1) / width)).astype(np.float32)


def _above_median(values: Floats, counted: npt.NDArray[np.bool_]) -> Floats:
    """0 for the median of those *counted* and what is below, 1 for the best of them."""
    among = values[counted] if counted.any() else values
    middle = _median(among)
    shares: Floats = np.maximum(values - middle, 0) / (float(among.max()) - middle + 1e-3)
    return shares


def _median(values: Floats) -> float:
    """As NumPy's, which takes several times as long for so few."""
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    low, high = np.partition(values, (half - 1, half))[half - 1 : half + 1]
    return float((low + high) / np.float32(2))
