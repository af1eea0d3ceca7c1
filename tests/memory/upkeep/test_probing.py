from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from memory.chroma_client import ChromaClient, Damage
from memory.upkeep.probing import Probe
from tests.memory.chroma_world import serving
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import DAMAGES, SHARD, index_of, segments, sql

pytestmark = pytest.mark.chroma

Reports = list[tuple[str, Damage]]


@asynccontextmanager
async def probing(data_dir: Path, *, healing: bool = False) -> AsyncIterator[tuple[Probe, Reports]]:
    """A probe of the Chroma on *data_dir*, and what its client reports."""
    reports: Reports = []
    async with serving(data_dir) as (process, _child):
        client = ChromaClient(
            lambda: process.url, timeout_s=20, on_damage=lambda *report: reports.append(report)
        )
        database = data_dir / "chroma" / "chroma.sqlite3"
        yield Probe(database, client, healing=lambda _name: healing), reports
        await client.aclose()


async def test_of_a_sound_store_nothing_is_reported(stopped: Stopped) -> None:
    async with probing(stopped[0]) as (probe, reports):
        await probe.ask(segments(stopped[0]).values())
    assert reports == []


async def test_damage_is_reported_as_certain(stopped: Stopped) -> None:
    DAMAGES["header.bin zeroed"](index_of(stopped[0]))
    shard = segments(stopped[0])[SHARD]
    async with probing(stopped[0]) as (probe, reports):
        await probe.ask([shard])
    assert (shard.collection, "certain") in reports


async def test_a_vector_that_is_missing_is_looked_for_twice(stopped: Stopped) -> None:
    sql(stopped[0], "DELETE FROM embeddings_queue")
    DAMAGES["all removed"](index_of(stopped[0]))
    shard = segments(stopped[0])[SHARD]
    async with probing(stopped[0]) as (probe, reports):
        await probe.ask([shard])
    assert reports == [(shard.collection, "possible")] * 2


async def test_while_vectors_are_made_anew_they_are_not_asked_for(stopped: Stopped) -> None:
    sql(stopped[0], "DELETE FROM embeddings_queue")
    DAMAGES["all removed"](index_of(stopped[0]))
    async with probing(stopped[0], healing=True) as (probe, reports):
        await probe.ask(segments(stopped[0]).values())
    assert reports == []


async def test_a_chroma_that_is_away_is_nothing_to_report(stopped: Stopped) -> None:
    reports: Reports = []
    client = ChromaClient(
        "http://127.0.0.1:9", timeout_s=1, on_damage=lambda *report: reports.append(report)
    )
    probe = Probe(stopped[0] / "none", client, healing=lambda _name: False)
    await probe.ask(segments(stopped[0]).values())
    await client.aclose()
    assert reports == []
