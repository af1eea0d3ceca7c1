from __future__ import annotations

import gc

import anyio
import pytest

from bench.memory_load import (
    Cold,
    Latency,
    Ram,
    Report,
    Standstill,
    Talker,
    measure_ram,
    text,
)
from memory.messages import UserId


def test_messages_are_made_the_same_way_each_time() -> None:
    first, again = (Talker(1).message(UserId("ann"), 3) for _ in range(2))
    assert first[0] == again[0]
    assert (first[1].vector == again[1].vector).all()


def test_ram_is_counted_beside_the_text() -> None:
    ram = Ram(users=2, messages=5, rss_bytes=2_000, text_bytes=1_000, counted_bytes=0)
    assert ram.beside_text_bytes == 100
    assert measure_ram(2, 20).text_bytes > 0


async def test_a_loop_that_stands_is_noticed() -> None:
    standstill = Standstill()
    async with standstill.watched():
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anyio.sleep(1)
        deadline = anyio.current_time() + 0.05
        while anyio.current_time() < deadline:
            pass
        await anyio.sleep(0.01)
    assert standstill.longest_ms > 20


def test_the_report_names_all_figures() -> None:
    latency = Latency(
        messages=1_000,
        p50_ms=1.5,
        p99_ms=2.5,
        search_p50_ms=0.5,
        loop_stood_ms=3.5,
        cpu_p50_ms=1.4,
        embedding_p50_ms=1.0,
        plain_embedding_p50_ms=0.7,
    )
    ram = Ram(users=1, messages=1, rss_bytes=1_000, text_bytes=0, counted_bytes=0)
    cold = Cold(
        warm_copy=True,
        took_ms=[1.0, 2.0, 9.0],
        cpu_ms=[1.0, 3.0, 4.0],
        loop_stood_ms=4.5,
        collector_ms=2.5,
    )
    told = text(Report(latencies=[latency], ram=ram, cold=[cold]))
    assert "| 1000 | 1.5 | 2.5 | 1.4 | 0.5 | 1.0 | 0.7 | 3.5 |" in told
    assert "1000 bytes a message" in told
    assert "with a warm copy: 2 ms, at most 9 ms, 3 ms of CPU" in told
    assert "stood 4.5 ms at most (for collecting garbage 2.5)" in told


async def test_a_collection_of_garbage_is_noticed() -> None:
    standstill = Standstill()
    async with standstill.watched():
        assert standstill.collector_ms >= 0
        gc.collect()
    assert standstill.collector_ms > 0
