"""Vectors for what cannot wait: an embedder that fails or hangs costs them, not the message."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import numpy as np
import structlog

from memory.embedding import Embedded, Embedder, not_embedded
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
        return (await self.embedded(text)).vector

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """float32, (len(texts), dimension): of each text its unit vector, or zeros."""
        found = np.zeros((len(texts), self._embedder.dimension), dtype=np.float32)
        for row, embedded in enumerate(await self.embedded_many(texts)):
            found[row] = embedded.vector
        return found

    async def embedded(self, text: str) -> Embedded:
        """The unit vector and the marks of *text*, or zeros and none."""
        return (await self.embedded_many([text]))[0]

    async def embedded_many(self, texts: Sequence[str]) -> list[Embedded]:
        """The same of each of *texts*, in their order."""
        try:
            return await self._ask(texts)
        except EmbeddingFailed:
            if len(texts) > 1:  # one text may be at fault for all
                return [await self.embedded(text) for text in texts]
        except TimeoutError:
            pass
        self.on_failure(len(texts))
        return [not_embedded(self._embedder.dimension) for _ in texts]

    async def _ask(self, texts: Sequence[str]) -> list[Embedded]:
        """Raises ``TimeoutError``, also without asking, while the embedder hangs."""
        if self._clock() < self._hung_until:
            raise TimeoutError
        try:
            with anyio.fail_after(self._limit_s + LIMIT_PER_TEXT_S * (len(texts) - 1)):
                return await self._embedder.embed_marked(texts)
        except TimeoutError:
            self._hung_until = self._clock() + self._retry_s
            log.warning("embedding.hung", texts=len(texts), retried_after_s=self._retry_s)
            raise
        except EmbeddingFailed as fault:
            log.warning("embedding.failed", texts=len(texts), reason=str(fault))
            raise
