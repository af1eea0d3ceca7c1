"""Embedding what comes next while something else is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from memory.errors import EmbeddingFailed
from memory.messages import Vector


class EmbeddingAhead:
    """Embeds one batch while another is being written."""

    def __init__(self, embed: Callable[[Mapping[str, str]], Awaitable[dict[str, Vector]]]) -> None:
        self._embed = embed
        self._outcome: dict[str, Vector] | EmbeddingFailed = {}

    async def embed(self, texts: Mapping[str, str], batch: Sequence[str]) -> None:
        """Embed those of *batch* that have a text; never raises but for cancellation."""
        try:
            self._outcome = await self._embed(
                {record: texts[record] for record in batch if record in texts}
            )
        except EmbeddingFailed as fault:
            self._outcome = fault

    def vectors(self) -> dict[str, Vector]:
        """What the last :meth:`embed` made, by id; raises ``EmbeddingFailed`` as it did."""
        if isinstance(self._outcome, EmbeddingFailed):
            raise self._outcome
        return self._outcome
