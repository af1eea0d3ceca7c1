"""The embedder's twin for tests: no model, the same vectors on every machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import anyio
import numpy as np

from memory.embedding import Embedded
from memory.messages import Vector, Vectors
from memory.token_marks import TokenMarks, marks_of

_WORD = re.compile(r"\w+")
_FEATURES_PER_WORD = 4


class InProcessEmbedder:
    """An :class:`~memory.embedding.Embedder` that hashes words into a vector.

    Texts with the same words (whatever their order and case) have the same vector; the more
    words two texts share, the nearer they are; without common words they are about at right
    angles. It knows no meaning. Never fails.
    """

    def __init__(self, dimension: int = 384) -> None:
        self._dimension = dimension

    @property
    def name(self) -> str:
        return "hashed-words"

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        return f"hashed-words:1:{self._dimension}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        await anyio.lowlevel.checkpoint()
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
        return vectors

    async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
        await anyio.lowlevel.checkpoint()
        return [Embedded(self._vector(text), self._marks(text)) for text in texts]

    async def aclose(self) -> None:
        """Nothing is held."""

    def _marks(self, text: str) -> TokenMarks:
        """Each word is a piece, with the same bits wherever it stands."""
        words = _words(text)
        vectors = np.array([self._vector(word) for word in words], dtype=np.float32)
        return marks_of(words, [_number(word) for word in words], vectors)

    def _vector(self, text: str) -> Vector:
        vector = np.zeros(self._dimension, dtype=np.float32)
        for word in _words(text):
            digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=16).digest()
            for feature in range(_FEATURES_PER_WORD):
                drawn = int.from_bytes(digest[4 * feature : 4 * feature + 4], "big")
                vector[(drawn >> 1) % self._dimension] += 1.0 if drawn & 1 else -1.0
        length = float(np.linalg.norm(vector))
        if length == 0:  # features of opposite sign fell on the same places
            vector[0] = length = 1.0
        return vector / np.float32(length)


def _words(text: str) -> list[str]:
    # What is not a word counts as one: no text is without direction.
    return _WORD.findall(text.casefold()) or [text]


def _number(word: str) -> int:
    digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=2).digest()
    return int.from_bytes(digest, "big")
