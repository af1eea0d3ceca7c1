from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import msgspec
import pytest

from memory.errors import UpkeepRefused
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.placement import PerUser
from memory.records import conversation_record_id, placeholder
from memory.upkeep.backup import back_up
from memory.upkeep.ledger import SqliteLedger
from memory.upkeep.left_out import LeftOut, leave_out_erased
from memory.upkeep.store_file import StoreFile
from memory.upkeep.vector_segments import DATABASE
from tests.memory.upkeep.store_world import USERS, filled, ignore

pytestmark = pytest.mark.chroma

ANN, BOB, CHLOE = USERS
Row = tuple[int, int, str, bytes | None, str | None]


@pytest.fixture
def stored(tmp_path: Path) -> dict[UserId, list[Message]]:
    return anyio.run(filled, tmp_path / "store")


@pytest.fixture
def copy(tmp_path: Path, stored: dict[UserId, list[Message]]) -> Path:
    back_up(tmp_path / "store", tmp_path / "backup", ignore)
    return tmp_path / "backup" / DATABASE


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    (tmp_path / "ledger").mkdir()
    found = SqliteLedger.open(tmp_path / "ledger")
    yield found
    found.close()


def rows(database: Path) -> list[Row]:
    """Chroma's log."""
    with closing(sqlite3.connect(database)) as connection:
        found: list[Row] = connection.execute(
            "SELECT seq_id, operation, id, vector, metadata FROM embeddings_queue ORDER BY seq_id"
        ).fetchall()
    return found


def ids(database: Path) -> list[str]:
    with StoreFile.opened(database, still=True) as store:
        return [record.id for _, record in store.records()]


def left_out(database: Path, ledgers: Sequence[SqliteLedger], since: float = 0) -> LeftOut:
    return leave_out_erased(database, ledgers, since, ignore)


def test_of_a_user_nothing_is_left_but_places_in_the_log(
    copy: Path, stored: dict[UserId, list[Message]], ledger: SqliteLedger
) -> None:
    before = rows(copy)
    ledger.finish(ledger.begin(CHLOE))
    assert left_out(copy, [ledger]) == LeftOut(users=1, messages=0)
    after = rows(copy)
    assert [row[0] for row in after] == [row[0] for row in before]
    theirs = {message.id for message in stored[CHLOE]}
    for was, is_now in zip(before, after, strict=True):
        if was[2] in theirs:
            assert is_now[1:] == (3, "erased", None, "{}")
    assert sum(row[2] == "erased" for row in after) == len(theirs) + 1  # and the conversation
    assert not theirs & set(ids(copy))
    content = copy.read_bytes()
    assert CHLOE.encode() not in content
    assert not any(message_id.encode() in content for message_id in theirs)


def test_what_stands_in_the_log_only_is_left_out_as_well(copy: Path, ledger: SqliteLedger) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        metadata = msgspec.json.encode({"user_id": "dan", "chroma:document": "hidden"}).decode()
        connection.execute(
            "INSERT INTO embeddings_queue (operation, topic, id, metadata) VALUES (0, 't', 'x', ?)",
            (metadata,),
        )
        connection.commit()
    ledger.begin(UserId("dan"))
    assert left_out(copy, [ledger]) == LeftOut(users=1, messages=0)
    assert b"hidden" not in copy.read_bytes()


def test_a_message_becomes_its_tombstone_in_the_log_too(
    copy: Path, stored: dict[UserId, list[Message]], ledger: SqliteLedger
) -> None:
    victim = stored[BOB][1]
    ledger.finish(ledger.begin(BOB, [victim.id]))
    assert left_out(copy, [ledger]) == LeftOut(users=0, messages=1)
    (row,) = [row for row in rows(copy) if row[2] == victim.id]
    assert row[3] == placeholder(8).tobytes()
    logged = msgspec.json.decode(row[4] or "")
    assert (logged["status"], logged["chroma:document"]) == ("deleted", "")
    with StoreFile.opened(copy, still=True) as store:
        found = next(record for _, record in store.records() if record.id == victim.id)
    assert found.document == ""
    assert found.metadata == {key: logged[key] for key in logged if key != "chroma:document"}
    assert found.metadata["parent"] == victim.parent
    assert left_out(copy, [ledger]) == LeftOut(users=0, messages=0)


def test_a_deleted_conversation_is_in_no_list_and_its_title_in_no_byte(
    copy: Path, stored: dict[UserId, list[Message]], ledger: SqliteLedger
) -> None:
    record = conversation_record_id(BOB, ConversationId("tea"))
    assert record in ids(copy)
    gone = [MessageId(record), *(message.id for message in stored[BOB])]
    ledger.finish(ledger.begin(BOB, gone))
    assert left_out(copy, [ledger]) == LeftOut(users=0, messages=len(stored[BOB]))
    assert record not in ids(copy)
    assert not [row for row in rows(copy) if row[2] == record]
    assert conversation_record_id(ANN, ConversationId("tea")) in ids(copy)


def test_a_collection_of_one_s_own_goes_as_a_whole(tmp_path: Path, ledger: SqliteLedger) -> None:
    anyio.run(filled, tmp_path / "other", PerUser())
    back_up(tmp_path / "other", tmp_path / "kept", ignore)
    database = tmp_path / "kept" / DATABASE
    ledger.finish(ledger.begin(ANN))
    left_out(database, [ledger])
    with StoreFile.opened(database, still=True) as store:
        owners = [it.facts.get("owner") for it in store.collections()]
        known = {it.segment for it in store.collections()}
        assert {segment for segment, _ in store.records()} <= known
    assert ANN not in owners
    assert {BOB, CHLOE} < set(owners)


def test_only_what_was_erased_since_is_left_out(copy: Path, ledger: SqliteLedger) -> None:
    before = ids(copy)
    ledger.finish(ledger.begin(ANN))
    assert left_out(copy, [ledger], since=1e12) == LeftOut(users=0, messages=0)
    assert left_out(copy, []) == LeftOut(users=0, messages=0)
    assert ids(copy) == before


def test_a_message_that_is_not_ours_is_told_rather_than_guessed_at(
    copy: Path, stored: dict[UserId, list[Message]], ledger: SqliteLedger
) -> None:
    victim = MessageId(stored[ANN][0].id)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(
            "DELETE FROM embedding_metadata WHERE key = 'depth' "
            "AND id = (SELECT id FROM embeddings WHERE embedding_id = ?)",
            (victim,),
        )
        connection.commit()
    ledger.begin(ANN, [victim])
    with pytest.raises(UpkeepRefused, match="did not write"):
        left_out(copy, [ledger])


def test_a_database_that_cannot_be_changed_is_told_in_one_line(
    copy: Path, ledger: SqliteLedger
) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DROP TABLE embeddings_queue")
        connection.commit()
    with pytest.raises(UpkeepRefused, match="cannot be changed: no such table"):
        left_out(copy, [ledger])
