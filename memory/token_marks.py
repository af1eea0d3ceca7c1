"""Marks of a text's word pieces: what of the token vectors is kept for late interaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory.tokens import FUNCTION_WORDS, stem

STORED_PIECES: Final = 24
"""Of a message at most so many are kept, at 50 bytes each; a question uses all of its own."""
_WORD_BITS: Final = 64
_CONTINUES: Final = "##"
_BEGINS: Final = "\u2581"
"""How WordPiece and SentencePiece mark the place of a piece in its word."""

PieceIds = npt.NDArray[np.uint16]
PieceBits = npt.NDArray[np.uint64]


class TokenMarks(NamedTuple):
    """One text's distinct word pieces in the order of their first occurrence.

    ``ids``: uint16, (pieces,), their numbers in the model's vocabulary, folded where it is
    larger. ``bits``: uint64, (pieces, ceil(dimension / 64)), the signs of the token's last hidden
    state. By the signs alone the angle between two vectors is told from how many differ
    (Charikar, Similarity estimation techniques from rounding algorithms, 2002).
    """

    ids: PieceIds
    bits: PieceBits

    def rarest(self, limit: int = STORED_PIECES) -> TokenMarks:
        """At most *limit* pieces: those with the highest ids, which are the rarest ones in a
        vocabulary that is ordered by frequency. The order stays.
        """
        if len(self.ids) <= limit:
            return self
        kept = np.sort(np.argsort(self.ids, kind="stable")[-limit:])
        return TokenMarks(self.ids[kept], self.bits[kept])


def no_marks(dimension: int) -> TokenMarks:
    """The marks of a text without any content, or of one that was not embedded."""
    words = -(-dimension // _WORD_BITS)
    return TokenMarks(np.zeros(0, np.uint16), np.zeros((0, words), np.uint64))


def marks_of(
    pieces: Sequence[str], ids: Sequence[int], vectors: npt.NDArray[np.float32]
) -> TokenMarks:
    """The marks of a text of *pieces* with the vocabulary *ids* and token *vectors*,
    float32, (pieces, dimension). Special tokens, punctuation and function words have none.
    """
    places: dict[int, int] = {}
    for place, (piece, number) in enumerate(zip(pieces, ids, strict=True)):
        if number not in places and _has_content(piece):
            places[number] = place
    chosen = vectors[list(places.values())]
    return TokenMarks(
        np.array([_folded(number) for number in places], np.uint16), _sign_bits(chosen)
    )


@lru_cache(maxsize=65_536)
def _has_content(piece: str) -> bool:
    word = piece.removeprefix(_BEGINS)
    if not word or not word[-1].isalnum():
        return False
    return word.startswith(_CONTINUES) or stem(word.casefold()) not in FUNCTION_WORDS


def _folded(number: int) -> int:
    return number if number < 1 << 16 else (number * 40_503 ^ number >> 16) & 0xFFFF


def _sign_bits(vectors: npt.NDArray[np.float32]) -> PieceBits:
    count, dimension = vectors.shape
    padded = -dimension % _WORD_BITS
    signs = np.pad(vectors > 0, ((0, 0), (0, padded))) if padded else vectors > 0
    packed = np.packbits(signs, axis=1)
    return np.ascontiguousarray(packed).view(np.uint64).reshape(count, packed.shape[1] // 8)
