from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import JournalFailed
from memory.journal_files import JournalFiles
from memory.journal_folders import adopt_journals, journal_folder, journal_folders
from memory.journal_records import ReplySettled, frame
from memory.messages import MessageId


def write(folder: Path, *replies: str) -> None:
    """Each in a segment of its own."""
    for reply in replies:
        files = JournalFiles(folder)
        files.append(frame(ReplySettled(MessageId(reply))), sync=True)
        files.close()


def read(folder: Path) -> list[str]:
    found = JournalFiles(folder).read()
    return [record.reply for record in found if isinstance(record, ReplySettled)]


def test_the_first_slot_has_the_folder_of_a_single_process(tmp_path: Path) -> None:
    assert journal_folder(tmp_path) == journal_folder(tmp_path, 0) == tmp_path / "journal"
    assert journal_folder(tmp_path, 2) == tmp_path / "journal-2"


def test_all_that_are_there_are_found_whoever_kept_them(tmp_path: Path) -> None:
    assert journal_folders(tmp_path) == []
    write(journal_folder(tmp_path, 3), "a")
    assert journal_folders(tmp_path) == [tmp_path / "journal-3"]
    write(journal_folder(tmp_path), "b")
    (tmp_path / "journal-notes").write_text("a file")
    assert journal_folders(tmp_path) == [tmp_path / "journal", tmp_path / "journal-3"]


def test_journals_of_slots_that_are_no_more_are_kept_by_the_first(tmp_path: Path) -> None:
    write(journal_folder(tmp_path), "a", "b")
    write(journal_folder(tmp_path, 1), "c")
    write(journal_folder(tmp_path, 2), "d", "e")
    adopt_journals(tmp_path, 2)
    assert read(journal_folder(tmp_path)) == ["a", "b", "d", "e"]
    assert journal_folders(tmp_path) == [tmp_path / "journal", tmp_path / "journal-1"]
    adopt_journals(tmp_path, 1)
    assert read(journal_folder(tmp_path)) == ["a", "b", "d", "e", "c"]
    assert journal_folders(tmp_path) == [tmp_path / "journal"]


def test_the_first_one_may_be_missing(tmp_path: Path) -> None:
    write(journal_folder(tmp_path, 1), "a")
    adopt_journals(tmp_path, 1)
    assert read(journal_folder(tmp_path)) == ["a"]
    assert journal_folder(tmp_path).stat().st_mode & 0o777 == 0o700
    assert JournalFiles(journal_folder(tmp_path)).read() != []


def test_what_a_kill_left_half_moved_is_moved_on(tmp_path: Path) -> None:
    write(journal_folder(tmp_path, 1), "a", "b")
    left = journal_folder(tmp_path, 1)
    (left / "journal-00000009.tmp").write_bytes(b"half")
    first = journal_folder(tmp_path)
    first.mkdir()
    (left / "journal-00000001.log").rename(first / "journal-00000001.log")
    adopt_journals(tmp_path, 1)
    assert read(first) == ["a", "b"]
    assert journal_folders(tmp_path) == [first]


def test_a_folder_that_cannot_be_changed_is_said(tmp_path: Path) -> None:
    write(journal_folder(tmp_path, 1), "a")
    (tmp_path / "journal").write_text("in the way")
    with pytest.raises(JournalFailed):
        adopt_journals(tmp_path, 1)
    assert read(journal_folder(tmp_path, 1)) == ["a"]
