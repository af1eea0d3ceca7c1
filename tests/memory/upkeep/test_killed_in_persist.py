from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from memory.errors import StoreError
from memory.messages import Message
from tests.contracts.long_term_world import said
from tests.memory.upkeep.keeper_world import (
    ANN,
    PATIENCE_S,
    SYNC_THRESHOLD,
    Kept,
    check_whole,
    fill,
    healed,
    index_of,
    kept,
    vector,
)

pytestmark = [
    pytest.mark.chroma,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


@asynccontextmanager
async def killed_at_write(pid: int, file: Path, when: int) -> AsyncIterator[None]:
    """Within the block the process is killed in its *when*-th write to *file*."""
    strace = subprocess.Popen(  # noqa: ASYNC220  # only its lines are waited for, in a thread
        [
            *("strace", "-f", "-p", str(pid), "-P", str(file), "-e", "trace=write"),
            *("-e", f"inject=write:signal=KILL:when={when}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    try:
        with anyio.fail_after(PATIENCE_S):
            while "attached" not in await anyio.to_thread.run_sync(strace.stderr.readline):
                assert strace.poll() is None
        yield
    finally:
        strace.terminate()
        strace.communicate()


async def accepted(store: Kept, message: Message) -> None:
    """Send *message* until it is accepted, as a client does."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                await store.memory.append(message, await vector(message))
            except StoreError:
                await anyio.sleep(0.02)
            else:
                return


@pytest.mark.parametrize(
    ("file", "when"),
    [
        ("header.bin", 1),
        ("data_level0.bin", 1),
        ("data_level0.bin", 20),
        ("length.bin", 5),
        ("link_lists.bin", 1),
        ("index_metadata.pickle", 1),
    ],
)
async def test_a_kill_while_an_index_is_written_loses_nothing(
    tmp_path: Path, file: str, when: int
) -> None:
    async with kept(tmp_path) as store:
        messages = await fill(store.keeper)
        pid = store.keeper.child.pid
        assert pid is not None
        async with killed_at_write(pid, index_of(tmp_path) / file, when):
            for _ in range(SYNC_THRESHOLD + 1):
                messages.append(after := said(ANN, "said meanwhile", after=messages[-1]))
                await accepted(store, after)
        assert store.keeper.child.restarts == 1
        await healed(store.keeper)
        await check_whole(store.keeper, messages)
