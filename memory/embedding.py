"""The contract of the embedder: text in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from memory.messages import Vector, Vectors
from memory.token_marks import TokenMarks, no_marks

HUNG_S: Final = 2.0
"""A text that finds no thread free after so long, behind others that nobody waits for any more,
fails: they hang."""


class Embedded(NamedTuple):
    """What the model says of one text: its unit ``vector``, and the ``marks`` of all its pieces.

    A vector of zeros and no marks stand for a text that could not be embedded.
    """

    vector: Vector
    marks: TokenMarks


def not_embedded(dimension: int) -> Embedded:
    """Of a text that has no vector."""
    return Embedded(np.zeros(dimension, np.float32), no_marks(dimension))


class Embedder(Protocol):
    """Turns texts into unit vectors, off the event loop.

    ``fingerprint`` names the model and its weights: vectors of different fingerprints must
    never be compared, nor stand in one collection.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """float32, (len(texts), dimension), each row of unit length, in the order of *texts*.

        Text beyond the model's length is not seen. Cancelling returns at once and drops the
        result; what is being computed keeps its thread until it ends.

        Raises:
            EmbeddingFailed: no text of the call has a vector then.
        """
        ...

    async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
        """As :meth:`embed`, with each text's token marks, from the same run of the model."""
        ...

    async def aclose(self) -> None:
        """Give back threads and memory."""
        ...
