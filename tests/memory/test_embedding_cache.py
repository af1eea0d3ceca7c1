"""Vectors that are kept, and shared while they are made."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import numpy as np

from memory.embedding import Embedded, not_embedded
from memory.embedding_cache import LIFE_S, EmbeddingCache
from memory.messages import UserId
from memory.token_marks import no_marks

ANN, BEN = UserId("ann"), UserId("ben")
DIMENSION = 64


class Model:
    """Embeds when the gate is open; what it was asked for stands in ``calls``."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.asked = anyio.Event()
        self.fails = False

    async def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.calls.append(list(texts))
        self.asked.set()
        await self.gate.wait()
        if self.fails:
            return [not_embedded(DIMENSION) for _ in texts]
        vector = np.full(DIMENSION, DIMENSION**-0.5, np.float32)
        return [Embedded(vector * len(text), no_marks(DIMENSION)) for text in texts]


async def test_a_text_is_embedded_once_and_in_one_call_with_others() -> None:
    model = Model()
    cache = EmbeddingCache(model.embed)
    await cache.get(ANN, ["one"])
    found = await cache.get(ANN, ["three", "one", "fifteen", "three"])
    assert model.calls == [["one"], ["three", "fifteen"]]
    lengths = [round(float(np.linalg.norm(each.vector))) for each in found]
    assert lengths == [5, 3, 7, 5]


async def test_equal_texts_in_flight_are_embedded_once() -> None:
    model = Model()
    model.gate = anyio.Event()
    cache, found = EmbeddingCache(model.embed), list[Embedded]()

    async def ask() -> None:
        found.extend(await cache.get(ANN, ["tea"]))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await model.asked.wait()
        await anyio.wait_all_tasks_blocked()
        model.gate.set()
    assert model.calls == [["tea"]]
    assert len(found) == 3


async def test_a_caller_that_is_cancelled_does_not_cancel_the_others() -> None:
    model = Model()
    model.gate = anyio.Event()
    cache, found = EmbeddingCache(model.embed), list[Embedded]()

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            found.extend(await cache.get(ANN, ["tea"]))

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for scope in scopes:
            tasks.start_soon(ask, scope)
        await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        model.gate.set()
    assert len(found) == 2
    assert model.calls == [["tea"], ["tea"]]


async def test_a_text_without_a_vector_is_tried_again() -> None:
    model = Model()
    model.fails = True
    cache = EmbeddingCache(model.embed)
    assert not (await cache.get(ANN, ["tea"]))[0].vector.any()
    model.fails = False
    assert (await cache.get(ANN, ["tea"]))[0].vector.any()
    assert cache.size_bytes > 0


async def test_vectors_are_kept_for_half_an_hour_and_in_a_bounded_number_of_bytes() -> None:
    now, model = [0.0], Model()
    cache = EmbeddingCache(model.embed, most_bytes=5_000, clock=lambda: now[0])
    for number in range(20):
        await cache.get(ANN, [f"text {number}"])
        assert cache.size_bytes <= 5_000
    await cache.get(ANN, ["text 19"])
    assert len(model.calls) == 20
    now[0] = LIFE_S
    await cache.get(ANN, ["text 19"])
    assert len(model.calls) == 21


async def test_a_user_who_is_forgotten_leaves_nothing_also_not_from_a_flight() -> None:
    model = Model()
    cache = EmbeddingCache(model.embed)
    await cache.get(ANN, ["tea"])
    await cache.get(BEN, ["tea"])
    kept_bytes = cache.size_bytes
    model.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get, ANN, ["milk"])
        await anyio.wait_all_tasks_blocked()
        cache.forget(ANN)
        model.gate.set()
    assert cache.size_bytes == kept_bytes // 2
    await cache.get(BEN, ["tea"])
    assert len(model.calls) == 3
