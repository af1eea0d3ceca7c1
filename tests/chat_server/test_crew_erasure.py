from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from chat_server.crew import Crew
from chat_server.crew_erasure import CrewKeepsake
from chat_server.worker_messages import Done, Forget, Message
from memory.data_folder import hold_slot
from memory.errors import DataFolderInUse, LineBroken
from memory.journal_files import JournalFiles
from memory.journal_folders import journal_folder
from memory.journal_records import ReplyEnded, frame
from memory.messages import Message as Said
from memory.messages import MessageId, UserId
from tests.memory.test_journal_records import ended

ADA = UserId("ada")


class Slot:
    """Stands for a member: somebody is there, or not."""

    def __init__(self, slot: int, *, there: bool) -> None:
        self.slot = slot
        self.connected = object() if there else None


class Answers:
    """Stands for a crew whose workers answer as they are told."""

    def __init__(self, *answers: Message | LineBroken | None, there: tuple[bool, ...] = ()) -> None:
        self._answers = answers
        self.asked: list[Message] = []
        present = there or tuple(answer is not None for answer in answers)
        self.members = [Slot(slot, there=each) for slot, each in enumerate(present)]

    async def ask_all(self, message: Message, within_s: float) -> dict[int, Message | LineBroken]:
        assert within_s > 0
        self.asked.append(message)
        return {slot: it for slot, it in enumerate(self._answers) if it is not None}


def keepsake_of(crew: Answers, data_dir: Path) -> CrewKeepsake:
    return CrewKeepsake(cast("Crew", crew), data_dir)


def keep(data_dir: Path, slot: int, *messages: Said) -> None:
    files = JournalFiles(journal_folder(data_dir, slot))
    for message in messages:
        files.append(frame(ReplyEnded(message)), sync=True)
    files.close()


def words(data_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data_dir.rglob("*.log"))


async def test_every_worker_is_asked(tmp_path: Path) -> None:
    crew = Answers(Done(), Done())
    keepsake = keepsake_of(crew, tmp_path)
    await keepsake.forget_user(ADA)
    await keepsake.forget_messages([MessageId("m1")])
    assert crew.asked == [Forget(ADA), Forget(messages=(MessageId("m1"),))]


async def test_one_that_has_not_forgotten_is_said(tmp_path: Path) -> None:
    with pytest.raises(LineBroken, match="busy"):
        await keepsake_of(Answers(Done(), LineBroken("busy")), tmp_path).forget_user(ADA)


async def test_one_that_ended_meanwhile_is_said(tmp_path: Path) -> None:
    crew = Answers(Done(), None, there=(True, True))
    with pytest.raises(LineBroken, match="ended"):
        await keepsake_of(crew, tmp_path).forget_user(ADA)


async def test_what_a_dead_one_left_in_its_journal_is_taken_out(tmp_path: Path) -> None:
    keep(tmp_path, 1, ended("r1", "adamant", "ada"), ended("r2", "benign", "ben"))
    keepsake = keepsake_of(Answers(Done(), None), tmp_path)
    await keepsake.forget_user(ADA)
    assert b"adamant" not in words(tmp_path)
    assert b"benign" in words(tmp_path)


async def test_so_are_messages(tmp_path: Path) -> None:
    gone, stays = ended("r1", "adamant", "ada"), ended("r2", "admirable", "ada")
    keep(tmp_path, 1, gone, stays)
    await keepsake_of(Answers(Done(), None), tmp_path).forget_messages([gone.id])
    assert b"adamant" not in words(tmp_path)
    assert b"admirable" in words(tmp_path)


async def test_the_journal_of_one_that_begins_or_ends_is_left_alone(tmp_path: Path) -> None:
    keep(tmp_path, 1, ended("r1", "adamant", "ada"))
    keepsake = keepsake_of(Answers(Done(), None), tmp_path)
    with hold_slot(tmp_path, 1), pytest.raises(DataFolderInUse):
        await keepsake.forget_user(ADA)
    assert b"adamant" in words(tmp_path)
