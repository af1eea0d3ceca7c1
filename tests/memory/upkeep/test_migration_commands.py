from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from memory.data_folder import hold
from memory.messages import Message, UserId
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.rebuilds import Rebuild, Rebuilds
from memory.upkeep.store_file import StoreFile
from memory.upkeep.vector_segments import DATABASE
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.store_world import everything, fill, filled
from tests.memory.upkeep.test_backup_commands import run

pytestmark = pytest.mark.chroma

Stored = dict[UserId, list[Message]]


def read(data_dir: Path, placement: Placement) -> Stored:
    async def found() -> Stored:
        async with (
            serving(data_dir) as (process, _),
            opened(lambda: process.url, placement) as memory,
        ):
            return await everything(memory)

    return anyio.run(found)


def test_a_store_is_migrated_and_it_is_told_what_to_configure(tmp_path: Path) -> None:
    stored = anyio.run(filled, tmp_path / "data")
    done = run(tmp_path, "migrate", "--to", "per_user")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        '15 messages in 3 collections; now set in config.toml, [chroma]: placement = "per_user"\n'
    )
    assert "copying" in done.stderr
    assert read(tmp_path / "data", PerUser()) == stored
    again = run(tmp_path, "migrate", "--to", "per_user")
    assert "is laid out so already" in again.stdout
    back = run(tmp_path, "migrate", "--to", "sharded", "--shards", "2")
    assert 'placement = "sharded" and shards = 2' in back.stdout
    assert read(tmp_path / "data", Sharded(shards=2)) == stored


def is_under_way(database: Path) -> bool:
    with StoreFile.opened(database, still=False) as store:
        return any("migrating_to" in it.facts for it in store.collections())


def test_a_killed_migration_is_run_again(tmp_path: Path) -> None:
    stored = anyio.run(lambda: filled(tmp_path / "data", each=150))
    database = tmp_path / "data" / "chroma" / DATABASE
    running = subprocess.Popen(
        [sys.executable, "-m", "memory", "migrate", "--to", "sharded", "--shards", "3",
         "--data-dir", str(tmp_path / "data")],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not is_under_way(database) and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert (tmp_path / "data" / "chroma-in-use").exists()
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = run(tmp_path, "migrate", "--to", "sharded", "--shards", "3")
    assert done.returncode == 0, done.stderr
    assert not is_under_way(database)
    assert not (tmp_path / "data" / "chroma-in-use").exists()
    assert read(tmp_path / "data", Sharded(shards=3)) == stored
    with StoreFile.opened(database, still=False) as store:
        assert {it.layout for it in store.collections()} == {"sharded/3"}


async def test_a_server_s_store_is_copied_while_it_is_used_and_changed_over_on_demand(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "elsewhere") as (process, _):
        async with opened(process.url) as memory:
            stored = await fill(memory)
            arguments = ("migrate", "--to", "per_user", "--url", process.url)
            copied = await anyio.to_thread.run_sync(run, tmp_path, *arguments)
            assert "15 messages in 3 collections were copied" in copied.stdout, copied.stderr
            assert "with --switch" in copied.stdout
            assert await everything(memory) == stored
        done = await anyio.to_thread.run_sync(run, tmp_path, *arguments, "--switch")
        assert 'placement = "per_user"' in done.stdout, done.stderr
        async with opened(process.url, PerUser()) as memory:
            assert await everything(memory) == stored


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "per_user"), "data holds no store"),
        (("--to", "per_user", "--data-dir", "x", "--url", "http://there"), "not both"),
        (("--to", "per_user", "--url", "http://127.0.0.1:9"), "Chroma cannot be reached"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    found = run(tmp_path, "migrate", *arguments)
    assert found.returncode == 1
    assert told in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_served_folder_is_not_migrated(tmp_path: Path) -> None:
    with hold(tmp_path / "data"):
        found = run(tmp_path, "migrate", "--to", "per_user")
    assert found.returncode == 1
    assert "is in use by another server" in found.stderr


def test_a_store_that_is_being_healed_is_healed_first(tmp_path: Path) -> None:
    anyio.run(filled, tmp_path / "data")
    database = tmp_path / "data" / "chroma" / DATABASE
    with StoreFile.opened(database, still=False) as store:
        shelf = next(it for it in store.collections() if it.kind == "messages")
    Rebuilds(tmp_path / "data").begin([Rebuild(collection=shelf.id, reason="damaged", total=15)])
    found = run(tmp_path, "migrate", "--to", "per_user")
    assert found.returncode == 1
    assert "run `python -m memory heal`" in found.stderr
