from __future__ import annotations

import os
import time

import anyio.lowlevel
import numpy as np

from bench.store import Plan, Report, StoreReport, text
from bench.store_levels import USERS, Size, Waits, fill, flat_out, probe, size, steady, warm
from bench.store_systems import Made
from memory.messages import Message, Vector


class Kept:
    """A store in RAM."""

    name = "kept"

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.messages: list[Message] = []

    async def append(self, message: Message, _vector: Vector) -> None:
        await anyio.lowlevel.checkpoint()
        self.messages.append(message)


def waits(p50_ms: float, rate: float = 300) -> Waits:
    return Waits(
        records=9, rate=rate, p50_ms=p50_ms, p95_ms=2 * p50_ms, p99_ms=0, max_ms=0, cpu_ms=1
    )


def store(p50_ms: float, growth: dict[int, Waits]) -> StoreReport:
    return StoreReport(
        steady=waits(p50_ms),
        flat_out=waits(p50_ms, rate=1_000),
        growth=growth,
        few=Size(users=10, rss_mb=50, files=30),
        many=Size(users=110, rss_mb=350, files=430),
    )


def test_what_was_not_measured_lies_on_the_line_through_what_was() -> None:
    found = store(1, {}).for_users(1_010)
    assert (found.rss_mb, found.files) == (3_050, 4_030)
    assert store(1, {}).for_users(110) is not None
    assert store(1, {}).for_users(110).rss_mb == 350


def test_a_run_is_told_with_ratios_and_with_what_was_not_reached() -> None:
    report = Report(
        made_at="",
        circumstances={},
        plan=Plan(users=110),
        stores={
            "tandem": store(10, {100: waits(5), 1_000: waits(6)}),
            "naive": store(50, {100: waits(7)}),
        },
    )
    lines = [line.split() for line in text(report).splitlines()]
    assert ["300", "records/s:", "p50", "ms", "10.0", "50.0", "5.0", "<=", "20"] in lines
    assert ["100", "5.0", "/", "10.0", "7.0", "/", "14.0"] in lines
    assert ["1,000", "6.0", "/", "12.0", "not", "reached"] in lines
    assert "p50 x 1.20" in text(report)


def test_no_two_messages_and_no_two_neighbouring_vectors_are_alike() -> None:
    made = Made()
    pairs = [made.next(3) for _ in range(1_200)]
    assert len({message.id for message, _ in pairs}) == 1_200
    vectors = np.stack([vector for _, vector in pairs])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(np.unique(vectors.round(4), axis=0)) == 1_200


async def test_each_level_stores_what_it_says() -> None:
    kept, made = Kept(), Made()
    await warm(kept, made)
    assert len(kept.messages) == USERS
    assert (await steady(kept, made, rate=2_000, seconds=0.05)).records == 100
    assert (await probe(kept, made)).records == len(kept.messages) - USERS - 100
    before = len(kept.messages)
    assert (await flat_out(kept, made, seconds=0.02)).records == len(kept.messages) - before


async def test_a_store_is_filled_as_far_as_time_allows() -> None:
    kept, made = Kept(), Made()
    assert await fill(kept, made, up_to=500, until_s=time.perf_counter() + 60)
    assert 500 <= len(kept.messages) < 500 + USERS
    assert not await fill(kept, made, up_to=5_000, until_s=time.perf_counter())
    opened = await size(kept, made, users=30, until_s=time.perf_counter() + 60)
    assert opened.users == 30
    assert opened.rss_mb > 0
