from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup
from structlog.testing import capture_logs

from memory import journal as journal_module
from memory.errors import JournalFailed
from memory.journal import Journal, forget_messages_offline, forget_offline
from memory.journal_files import JournalFiles
from memory.journal_records import ReplyEnded, frame
from memory.messages import MessageId, UserId
from tests.memory.test_journal_records import began, ended
from tests.memory.test_open_replies import Spoken

R1 = MessageId("r1")


@asynccontextmanager
async def running(journal: Journal) -> AsyncIterator[TaskGroup]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        await anyio.wait_all_tasks_blocked()
        yield tasks
        tasks.cancel_scope.cancel()


def left_in(folder: Path) -> dict[str, tuple[str, str]]:
    """What a process that starts now would find: text and status of each reply."""
    return {message.id: (message.text, message.status) for message in Journal.open(folder).kept}


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():
            await anyio.sleep(0.005)


def files_in(folder: Path) -> int:
    return len(list(folder.iterdir()))


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("*"))


async def test_what_a_running_reply_says_is_soon_on_disk(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        spoken = Spoken("Well")
        journal.follow(began(), spoken)
        await until(lambda: left_in(tmp_path) == {"r1": ("Well", "interrupted")})
        spoken.text = "Well, hello"
        await until(lambda: left_in(tmp_path) == {"r1": ("Well, hello", "interrupted")})
        assert files_in(tmp_path) == 1
        assert bytes_in(tmp_path).count(b"Well") == 1, "pieces, not the whole again"


async def test_nothing_is_written_while_nothing_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    async with running(journal := Journal.open(folder)):
        journal.follow(began(), Spoken("Short."))
        journal.settle(R1)
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(2 * journal_module.CHECKPOINT_EVERY_S)
        assert not folder.exists()


async def test_a_kept_reply_is_on_disk_when_it_is_said_to_be(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        assert await journal.keep(ended())
        assert left_in(tmp_path) == {"r1": ("All of it.", "completed")}
        assert await journal.keep(ended()), "twice is once"
        assert [message.id for message in journal.kept] == ["r1"]


async def test_many_replies_are_kept_with_few_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0
    sync = os.fsync

    def counted(file: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(file)

    monkeypatch.setattr(os, "fsync", counted)
    async with running(journal := Journal.open(tmp_path)), anyio.create_task_group() as tasks:
        for n in range(50):
            tasks.start_soon(journal.keep, ended(f"r{n}"))
    assert len(left_in(tmp_path)) == 50
    assert syncs < 12


async def test_what_is_settled_is_not_found_again(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        await journal.keep(ended("r1"))
        await journal.keep(ended("r2"))
        journal.settle(R1)
        await until(lambda: set(left_in(tmp_path)) == {"r2"})


async def test_an_orderly_end_leaves_what_is_not_stored_and_else_nothing(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        await journal.keep(ended("r1", "Waits"))
        await journal.keep(ended("r2", "Stored"))
        journal.settle(MessageId("r2"))
    assert left_in(tmp_path) == {"r1": ("Waits", "completed")}
    assert b"Stored" not in bytes_in(tmp_path)
    async with running(journal := Journal.open(tmp_path)):
        journal.settle(R1)
    assert files_in(tmp_path) == 0


async def test_what_is_left_is_found_at_every_start_until_it_is_settled(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        journal.follow(began(), Spoken("Half of"))
        await until(lambda: bool(left_in(tmp_path)))
        await journal.keep(ended("r2"))
        expected = left_in(tmp_path)
    for _ in range(3):
        async with running(journal := Journal.open(tmp_path)):
            assert {message.id for message in journal.kept} == {"r1", "r2"}
        assert left_in(tmp_path) == expected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_disk_that_fails_is_told_and_all_is_written_once_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.01)
    failures: list[int] = []

    def failing(_file: int) -> None:
        raise OSError(number, "planted")

    with capture_logs() as logs:
        journal = Journal.open(tmp_path, on_failure=lambda: failures.append(1))
        async with running(journal):
            spoken = Spoken("Before. ")
            journal.follow(began("r1"), spoken)
            await until(lambda: bool(left_in(tmp_path)))
            with monkeypatch.context() as disk:
                disk.setattr(os, "fsync", failing)
                assert not await journal.keep(ended("r2"))
                spoken.text += "Meanwhile."
                await until(lambda: len(failures) > 2)
                with pytest.raises(JournalFailed, match="planted"):
                    await journal.forget_user(UserId("nobody"))
            await until(lambda: "journal.recovered" in [entry["event"] for entry in logs])
            assert left_in(tmp_path) == {
                "r1": ("Before. Meanwhile.", "interrupted"),
                "r2": ("All of it.", "completed"),
            }
    assert "journal.failed" in [entry["event"] for entry in logs]
    assert "Meanwhile" not in str(logs)


async def test_a_disk_that_hangs_delays_whoever_keeps_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "KEEP_WITHIN_S", 0.05)
    released = anyio.Event()
    sync = os.fsync

    def hanging(file: int) -> None:
        anyio.from_thread.run(released.wait)
        sync(file)

    monkeypatch.setattr(os, "fsync", hanging)
    async with running(journal := Journal.open(tmp_path)):
        assert not await journal.keep(ended())
        released.set()
        await until(lambda: left_in(tmp_path) == {"r1": ("All of it.", "completed")})


async def test_forgetting_a_user_leaves_no_byte_of_theirs(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        spoken = Spoken("CANARY grows ")
        journal.follow(began("r1", "ana"), spoken)
        await journal.keep(ended("r2", "CANARY is kept", "ana"))
        await journal.keep(ended("r3", "CANARY was stored", "ana"))
        journal.settle(MessageId("r3"))
        await journal.keep(ended("r4", "Bo's", "bo"))
        assert bytes_in(tmp_path).count(b"CANARY") >= 2
        await journal.forget_user(UserId("ana"))
        spoken.text += "CANARY goes on"
        await journal.keep(ended("r5", "Bo's too", "bo"))
        found = bytes_in(tmp_path)
        assert b"CANARY" not in found
        assert b"ana" not in found
        assert set(left_in(tmp_path)) == {"r4", "r5"}
        await journal.forget_messages([MessageId("r4")])
        assert set(left_in(tmp_path)) == {"r5"}


async def test_forgetting_without_a_server_does_the_same(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        await journal.keep(ended("r1", "CANARY", "ana"))
        await journal.keep(ended("r2", "Bo's", "bo"))
    assert forget_offline(tmp_path, UserId("ana")) == 1
    assert b"CANARY" not in bytes_in(tmp_path)
    assert set(left_in(tmp_path)) == {"r2"}
    assert forget_offline(tmp_path, UserId("ana")) == 0
    assert forget_offline(tmp_path / "none", UserId("ana")) == 0


async def test_a_journal_that_is_not_run_promises_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    assert not await journal.keep(ended())
    with pytest.raises(JournalFailed, match="not open"):
        await journal.forget_user(UserId("ana"))


async def test_it_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "REWRITE_FROM_BYTES", 10_000)
    monkeypatch.setattr(journal_module, "EMPTY_FROM_BYTES", 5_000)
    async with running(journal := Journal.open(tmp_path)):
        journal.follow(began("stays"), Spoken("I stay."))
        for n in range(200):
            await journal.keep(ended(f"r{n}", "x" * 500))
            journal.settle(MessageId(f"r{n}"))
            assert len(bytes_in(tmp_path)) < 20_000
        assert left_in(tmp_path)["stays"] == ("I stay.", "interrupted")
        journal.settle(MessageId("stays"))
        await journal.keep(ended("last", "x" * 6_000))
        journal.settle(MessageId("last"))
        await until(lambda: files_in(tmp_path) == 0)


async def test_a_folder_that_cannot_be_read_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal-00000001.log").mkdir()
    failures: list[int] = []
    with capture_logs() as logs:
        journal = Journal.open(tmp_path, on_failure=lambda: failures.append(1))
    assert failures
    assert "journal.not_read" in [entry["event"] for entry in logs]
    assert journal.kept == ()


async def test_what_cannot_be_read_at_a_start_is_found_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("r1", "The first."), ("r2", "The second.")):
        JournalFiles(tmp_path).append(frame(ReplyEnded(ended(name, text))), sync=True)
    sick = tmp_path / "journal-00000001.log"
    read_bytes = Path.read_bytes

    def reading(path: Path) -> bytes:
        if path == sick:
            raise OSError(errno.EIO, "planted")
        return read_bytes(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", reading)
        journal = Journal.open(tmp_path)
        assert [message.id for message in journal.kept] == ["r2"], "one does not cost the others"
        async with running(journal):
            assert await journal.keep(ended("r3", "The third."))
            with pytest.raises(JournalFailed, match="could not be read"):
                await journal.forget_user(UserId("cy"))
        with pytest.raises(JournalFailed, match="could not be read"):
            forget_offline(tmp_path, UserId("cy"))
    assert set(left_in(tmp_path)) == {"r1", "r2", "r3"}
    async with running(journal := Journal.open(tmp_path)):
        await journal.forget_user(UserId("cy"))
    assert not sick.exists()
    assert set(left_in(tmp_path)) == {"r1", "r2", "r3"}


async def test_messages_are_forgotten_without_a_server_too(tmp_path: Path) -> None:
    async with running(journal := Journal.open(tmp_path)):
        await journal.keep(ended("r1", "CANARY", "ana"))
        await journal.keep(ended("r2", "more of Ana's", "ana"))
    assert forget_messages_offline(tmp_path, [R1]) == 1
    assert b"CANARY" not in bytes_in(tmp_path)
    assert set(left_in(tmp_path)) == {"r2"}
