"""Vectors for what cannot wait: an embedder that fails or hangs costs them, not the message."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import numpy as np
import structlog

from memory.embedding import Embedder
from memory.errors import EmbeddingFailed
from memory.messages import Vector, Vectors

log = structlog.get_logger(__name__)

LIMIT_S: Final = 2.0
"""A hundred times what a message takes."""
LIMIT_PER_TEXT_S: Final = 0.5
"""What each further text of a call adds."""
RETRY_S: Final = 5.0
"""After an embedder hung it is left alone for so long: messages do not wait for it one by one."""


class EmbeddingFallback:
    """Asks *embedder*; what it fails at, or does not do in time, gets a vector of zeros.

    Zeros mean "no vector": such a message is stored, found by its words, and embedded later.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        limit_s: float = LIMIT_S,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedder = embedder
        self._limit_s = limit_s
        self._retry_s = retry_s
        self._clock = clock
        self._hung_until = 0.0
        self.on_failure: Callable[[int], None] = lambda _texts: None
        """Is told of how many texts at a time there is no vector."""

    async def vector(self, text: str) -> Vector:
        """The unit vector of *text*, or zeros."""
        vector: Vector = (await self.vectors([text]))[0]
        return vector

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """float32, (len(texts), dimension): of each text its unit vector, or zeros."""
        found = np.zeros((len(texts), self._embedder.dimension), dtype=np.float32)
        try:
            found[:] = await self._ask(texts)
        except EmbeddingFailed:
            if len(texts) > 1:  # one text may be at fault for all
                for row, text in enumerate(texts):
                    found[row] = await self.vector(text)
            else:
                self.on_failure(1)
        except TimeoutError:
            self.on_failure(len(texts))
        return found

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        """Raises ``TimeoutError``, also without asking, while the embedder hangs."""
        if self._clock() < self._hung_until:
            raise TimeoutError
        try:
            with anyio.fail_after(self._limit_s + LIMIT_PER_TEXT_S * (len(texts) - 1)):
                return await self._embedder.embed(texts)
        except TimeoutError:
            self._hung_until = self._clock() + self._retry_s
            log.warning("embedding.hung", texts=len(texts), retried_after_s=self._retry_s)
            raise
        except EmbeddingFailed as fault:
            log.warning("embedding.failed", texts=len(texts), reason=str(fault))
            raise
