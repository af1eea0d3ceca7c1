from __future__ import annotations

from collections.abc import Sequence

import anyio
import numpy as np

from memory.embedding import Embedded
from memory.embedding_fallback import EmbeddingFallback
from memory.errors import EmbeddingFailed
from memory.in_process_embedder import InProcessEmbedder
from tests.memory.hot_world import Clock


class Moody(InProcessEmbedder):
    """Fails at texts with a word, or hangs, as long as it is told to."""

    def __init__(self, dimension: int = 8) -> None:
        super().__init__(dimension=dimension)
        self.hates: str | None = None
        self.hangs = False
        self.asked = 0

    async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
        self.asked += 1
        if self.hangs:
            await anyio.sleep_forever()
        if self.hates is not None and any(self.hates in text for text in texts):
            raise EmbeddingFailed("not that")
        return await super().embed_marked(texts)


async def test_vectors_are_the_embedders() -> None:
    embedder, texts = Moody(), ["tea", "jazz"]
    fallback = EmbeddingFallback(embedder)
    np.testing.assert_array_equal(await fallback.vectors(texts), await embedder.embed(texts))
    assert np.isclose(np.linalg.norm(await fallback.vector("tea")), 1)
    assert (await fallback.vectors([])).shape == (0, 8)


async def test_a_text_that_cannot_be_embedded_costs_no_other_its_vector() -> None:
    embedder, failures = Moody(), list[int]()
    embedder.hates = "jazz"
    fallback = EmbeddingFallback(embedder)
    fallback.on_failure = failures.append
    vectors = await fallback.vectors(["tea", "jazz", "rain"])
    assert vectors.any(axis=1).tolist() == [True, False, True]
    assert failures == [1]


async def test_an_embedder_that_hangs_is_left_alone_for_a_while() -> None:
    embedder, clock, failures = Moody(), Clock(), list[int]()
    fallback = EmbeddingFallback(embedder, limit_s=0.01, retry_s=5, clock=clock)
    fallback.on_failure = failures.append
    embedder.hangs = True
    assert not (await fallback.vector("tea")).any()
    embedder.hangs = False
    assert not (await fallback.vectors(["tea", "jazz"])).any()
    assert (embedder.asked, failures) == (1, [1, 2])
    clock.now += 5
    assert (await fallback.vectors(["tea", "jazz"])).any(axis=1).all()


async def test_what_has_no_vector_has_no_marks_and_the_others_have_theirs() -> None:
    embedder = Moody()
    embedder.hates = "jazz"
    tea, jazz = await EmbeddingFallback(embedder).embedded_many(["tea", "jazz"])
    assert len(tea.marks.ids) == 1
    assert (len(jazz.marks.ids), bool(jazz.vector.any())) == (0, False)
    assert tea.marks.bits.shape[1:] == jazz.marks.bits.shape[1:]
