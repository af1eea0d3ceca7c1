from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memory.journal_files import JournalFiles
from memory.journal_records import ReplySettled, frame
from memory.messages import MessageId


def settled(name: str) -> bytes:
    return frame(ReplySettled(MessageId(name)))


def names(folder: Path) -> list[str]:
    found = JournalFiles(folder).read()
    assert all(isinstance(record, ReplySettled) for record in found)
    return [record.reply for record in found if isinstance(record, ReplySettled)]


def test_nothing_is_made_before_something_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    files = JournalFiles(folder)
    assert files.read() == []
    files.replace(b"")
    files.close()
    assert not folder.exists()


def test_what_is_appended_is_read_and_nobody_else_may(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    files = JournalFiles(folder)
    files.append(settled("a"), sync=True)
    files.append(settled("b"), sync=False)
    assert names(folder) == ["a", "b"]
    [segment] = folder.iterdir()
    assert segment.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert files.size_bytes == segment.stat().st_size
    files.close()


def test_a_new_process_appends_to_a_segment_of_its_own(tmp_path: Path) -> None:
    first, second = JournalFiles(tmp_path), JournalFiles(tmp_path)
    first.append(settled("a") + settled("torn")[:-1], sync=True)
    second.append(settled("b"), sync=True)
    with capture_logs() as logs:
        assert names(tmp_path) == ["a", "b"]
    assert [entry["event"] for entry in logs] == ["journal.damaged"], "the tear is in the middle"
    first.close()
    second.close()


def test_a_torn_end_is_no_damage(tmp_path: Path) -> None:
    files = JournalFiles(tmp_path)
    files.append(settled("a") + settled("torn")[:5], sync=True)
    files.close()
    with capture_logs() as logs:
        assert names(tmp_path) == ["a"]
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("journal.end_torn", "info")
    ]


def test_replacing_leaves_what_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    JournalFiles(tmp_path).append(settled("old"), sync=True)
    (tmp_path / "journal-00000009.tmp").write_bytes(settled("unfinished"))
    files = JournalFiles(tmp_path)
    files.append(settled("older"), sync=True)
    files.replace(settled("new"))
    files.append(settled("newer"), sync=True)
    assert names(tmp_path) == ["new", "newer"]
    assert len(list(tmp_path.iterdir())) == 1
    files.replace(b"")
    assert list(tmp_path.iterdir()) == []
    files.append(settled("again"), sync=True)
    assert names(tmp_path) == ["again"]
    files.close()


def test_a_replacement_that_was_cut_short_leaves_the_old_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = JournalFiles(tmp_path)
    files.append(settled("old"), sync=True)
    with monkeypatch.context() as disk:
        disk.setattr(Path, "rename", fail(errno.EIO))
        with pytest.raises(OSError, match="planted"):
            files.replace(settled("new"))
    assert names(tmp_path) == ["old"]
    files.replace(settled("new"))
    assert names(tmp_path) == ["new"]
    assert len(list(tmp_path.iterdir())) == 1
    files.close()


def test_after_a_failed_sync_the_segment_is_not_written_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = JournalFiles(tmp_path)
    files.append(settled("a"), sync=True)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail(errno.EIO))
        with pytest.raises(OSError, match="planted"):
            files.append(settled("b"), sync=True)
    assert files.size_bytes == 0
    files.append(settled("c"), sync=True)
    assert len(list(tmp_path.iterdir())) == 2
    files.close()


def fail(number: int) -> object:
    def planted(*_arguments: object, **_named: object) -> None:
        raise OSError(number, "planted")

    return planted


@settings(max_examples=30)
@given(st.data())
def test_cut_anywhere_all_records_before_are_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    files = JournalFiles(folder)
    ends = []
    for n in range(5):
        files.append(settled(f"r{n}"), sync=False)
        ends.append(files.size_bytes)
    files.close()
    [segment] = folder.iterdir()
    length = data.draw(st.integers(0, ends[-1]))
    os.truncate(segment, length)
    assert names(folder) == [f"r{n}" for n, end in enumerate(ends) if end <= length]


def test_a_copy_that_somebody_put_beside_the_segments_is_read_and_stops_nothing(
    tmp_path: Path,
) -> None:
    files = JournalFiles(tmp_path)
    files.append(settled("a"), sync=True)
    (tmp_path / "journal-00000001.log").rename(tmp_path / "journal-old.log")
    files.replace(settled("b"))
    assert names(tmp_path) == ["b"], "and is gone as all that stood before"
    files.append(settled("c"), sync=True)
    assert names(tmp_path) == ["b", "c"]
    files.close()
