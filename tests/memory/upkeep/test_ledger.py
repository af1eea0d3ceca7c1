from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.errors import UpkeepRefused
from memory.messages import MessageId, UserId
from memory.upkeep.ledger import FILE, KEY_BYTES, KEY_FILE, SqliteLedger

ANN = UserId("ann-of-the-many-names")
BEN = UserId("ben")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    opened = SqliteLedger.open(tmp_path)
    yield opened
    opened.close()


def reopened(ledger: SqliteLedger, folder: Path) -> SqliteLedger:
    ledger.close()
    return SqliteLedger.open(folder)


def files_with(folder: Path, text: str) -> list[str]:
    return [path.name for path in folder.iterdir() if text.encode() in path.read_bytes()]


def test_an_erasure_is_unfinished_until_it_is_finished_whoever_asks(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    begun = ledger.begin(ANN)
    assert begun.finished_at is None
    ledger = reopened(ledger, tmp_path)
    assert ledger.unfinished() == [begun]
    ledger.finish(begun)
    ledger = reopened(ledger, tmp_path)
    assert ledger.unfinished() == []
    (entry,) = ledger.latest(10)
    assert (entry.id, entry.requested_at) == (begun.id, begun.requested_at)
    assert entry.finished_at is not None
    assert entry.finished_at >= entry.requested_at
    ledger.close()


def test_asking_again_meanwhile_is_the_same_erasure_and_later_a_new_one(
    ledger: SqliteLedger,
) -> None:
    first = ledger.begin(ANN)
    assert ledger.begin(ANN) == first
    assert ledger.begin(BEN) != first
    assert ledger.begin(ANN, [MessageId("m1")]) != first
    ledger.finish(first)
    assert ledger.begin(ANN).id != first.id


def test_the_messages_of_an_erasure_are_kept(ledger: SqliteLedger, tmp_path: Path) -> None:
    ids = [MessageId("m2"), MessageId("m1"), MessageId("m2")]
    begun = ledger.begin(ANN, ids)
    ledger = reopened(ledger, tmp_path)
    (entry,) = ledger.unfinished()
    assert set(entry.messages) == set(begun.messages) == {"m1", "m2"}
    ledger.finish(entry)
    wanted = [MessageId("m1"), MessageId("m3")]
    assert ledger.erased_messages(wanted) == {MessageId("m1")}
    ledger.close()


def test_a_finished_erasure_tells_nobodys_name_in_any_byte(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    for erasure in (ledger.begin(ANN), ledger.begin(ANN, [MessageId("m1")])):
        assert files_with(tmp_path, ANN)
        ledger.finish(erasure)
    assert files_with(tmp_path, ANN) == []
    assert [entry.user for entry in ledger.latest(10)] == [None, None]
    ledger.close()
    assert files_with(tmp_path, ANN) == []


def test_what_a_copy_of_the_store_must_leave_out_is_known_by_the_time_of_the_copy(
    ledger: SqliteLedger,
) -> None:
    erasure = ledger.begin(ANN)
    assert ledger.erased_user(ANN, since=erasure.requested_at + 1e6)
    ledger.finish(erasure)
    (entry,) = ledger.latest(1)
    assert entry.finished_at is not None
    assert ledger.erased_user(ANN, since=entry.requested_at - 1)
    assert not ledger.erased_user(ANN, since=entry.finished_at)
    assert not ledger.erased_user(BEN, since=0)


def test_deleting_a_message_is_not_erasing_its_user(ledger: SqliteLedger) -> None:
    ledger.finish(ledger.begin(ANN, [MessageId("m1")]))
    ledger.begin(ANN, [MessageId("m2")])
    assert not ledger.erased_user(ANN, since=0)


def test_users_are_hashed_with_this_installations_own_key(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ledger = SqliteLedger.open(tmp_path / name)
        ledger.begin(ANN)
        found.append(ledger._connection.execute("SELECT user_hash FROM erasures").fetchone()[0])
        ledger.close()
    assert found[0] != found[1]


def test_ledger_and_key_are_for_their_owner_alone(ledger: SqliteLedger, tmp_path: Path) -> None:
    ledger.begin(ANN)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {FILE, KEY_FILE} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_a_damaged_ledger_or_key_is_refused_in_one_line(tmp_path: Path) -> None:
    SqliteLedger.open(tmp_path).close()
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(UpkeepRefused, match="ledger of erasures"):
        SqliteLedger.open(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(UpkeepRefused, match="is damaged"):
        SqliteLedger.open(tmp_path)


def test_a_ledger_without_its_key_is_refused_and_no_other_key_is_made(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    ledger.finish(ledger.begin(ANN))
    ledger.close()
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(UpkeepRefused, match=f"{KEY_FILE} is missing"):
        SqliteLedger.open(tmp_path)
    assert not (tmp_path / KEY_FILE).exists()


def test_a_start_that_was_killed_leaves_a_whole_key_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_before_the_first_byte: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", killed)
        with pytest.raises(KeyboardInterrupt):
            SqliteLedger.open(tmp_path)
    SqliteLedger.open(tmp_path).close()
    assert len((tmp_path / KEY_FILE).read_bytes()) == KEY_BYTES


def test_a_name_that_a_killed_process_left_in_the_log_is_gone_at_the_next_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "killed").mkdir()
    (tmp_path / "next").mkdir()
    killed = SqliteLedger.open(tmp_path / "killed")
    erasure = killed.begin(ANN)
    killed._connection.execute(
        "UPDATE erasures SET finished_at = 1, user = NULL WHERE id = ?", (erasure.id,)
    )
    for path in (tmp_path / "killed").iterdir():
        shutil.copy(path, tmp_path / "next")
    killed.close()
    assert files_with(tmp_path / "next", ANN)
    following = SqliteLedger.open(tmp_path / "next")
    assert files_with(tmp_path / "next", ANN) == []
    following.close()


def test_what_another_process_enters_is_noticed_and_what_one_enters_itself_is_not(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    other = SqliteLedger.open(tmp_path)
    before, there = ledger.changes(), other.changes()
    begun = ledger.begin(ANN)
    assert ledger.changes() == before
    assert other.changes() != there
    assert other.unfinished() == [begun]
    there = other.changes()
    ledger.finish(begun)
    assert other.changes() != there
    other.close()


def test_two_processes_enter_the_same_erasure_once(ledger: SqliteLedger, tmp_path: Path) -> None:
    other = SqliteLedger.open(tmp_path)
    assert ledger.begin(ANN) == other.begin(ANN)
    assert len(ledger.latest(10)) == 1
    other.close()


def test_a_name_is_gone_though_another_process_has_the_ledger_open(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    other = SqliteLedger.open(tmp_path)
    begun = other.begin(ANN)
    assert ledger.unfinished() == [begun]
    other.finish(begun)
    assert files_with(tmp_path, ANN) == []
    assert ledger.unfinished() == []
    other.close()


def test_a_ledger_that_fails_is_said(ledger: SqliteLedger) -> None:
    ledger.close()
    with pytest.raises(UpkeepRefused, match="ledger"):
        ledger.unfinished()
