from __future__ import annotations

import msgspec

from memory.messages import Message, UserId
from memory.placement import PerUser, Sharded
from memory.records import Record, conversation_record, message_record
from memory.upkeep.record_check import RecordCheck
from memory.upkeep.store_file import StoredCollection
from tests.contracts.long_term_world import chat, line, said

ANN, BEA = UserId("ann"), UserId("bea")


def collection(name: str, kind: str, layout: str) -> StoredCollection:
    facts: dict[str, str | int] = {"kind": kind, "layout": layout}
    return StoredCollection(id=name, name=name, dimension=8, segment=f"of {name}", facts=facts)


SHARDED = [
    collection("user_.meta", "conversations", Sharded().layout),
    collection("user_00", "messages", Sharded().layout),
]


def faults(*records: Record, of: str = "of user_00") -> list[str]:
    check = RecordCheck(SHARDED)
    for record in records:
        check.take(of, record)
    return list(check.faults())


def records(messages: list[Message]) -> list[Record]:
    return [message_record(message) for message in messages]


def test_what_this_program_writes_is_sound_in_any_order() -> None:
    messages = line(ANN, 20)
    assert faults(*records(messages)) == []
    assert faults(*reversed(records(messages))) == []
    assert faults(conversation_record(chat(ANN, "tea")), of="of user_.meta") == []


def test_a_deleted_message_needs_no_words() -> None:
    gone = msgspec.structs.replace(said(ANN), text="", status="deleted")
    assert faults(message_record(gone)) == []


def test_each_kind_of_fault_is_one_line_with_some_ids() -> None:
    messages = line(ANN, 10)
    (found,) = faults(*records([messages[0], *messages[5:], *line(BEA, 5)[3:]]))
    assert found.startswith("2 records: the parent is not stored (such as m")


def test_a_parent_of_somebody_else_or_of_another_depth_is_found() -> None:
    ours, theirs = line(ANN, 2), line(BEA, 2)
    stolen = msgspec.structs.replace(ours[1], parent=theirs[0].id)
    deep = msgspec.structs.replace(ours[1], depth=7)
    for wrong in (stolen, deep):
        (found,) = faults(*records([ours[0], *theirs, wrong]))
        assert "the parent is of another conversation or depth" in found


def test_a_record_that_cannot_be_found_by_its_keys_is_found() -> None:
    record = message_record(said(ANN))
    moved = Record(record.id, record.document, {**record.metadata, "month": "ann/1999-01"})
    assert "cannot be found where it belongs" in faults(moved)[0]


def test_the_same_id_in_two_collections_is_found() -> None:
    record = message_record(said(ANN))
    assert "stands in two collections" in faults(record, record)[0]


def test_a_user_in_a_collection_of_another_is_found() -> None:
    check = RecordCheck(
        [
            collection("user_.meta", "conversations", PerUser().layout),
            collection("user_ann", "messages", PerUser().layout),
        ]
    )
    check.take("of user_ann", message_record(said(ANN)))
    check.take("of user_ann", message_record(said(BEA)))
    (found,) = check.faults()
    assert found.startswith("1 records: it is in a collection that is not its user's")


def test_a_conversation_under_anothers_id_is_found() -> None:
    record = conversation_record(chat(ANN, "tea"))
    assert faults(Record("c1", *record[1:]), of="of user_.meta")


def test_records_of_others_are_left_alone() -> None:
    check = RecordCheck([collection("recipes", "", "")])
    check.take("of recipes", Record("soup", "", {}))
    check.take("of nothing", Record("soup", "", {}))
    assert list(check.faults()) == []
    assert check.records == 0
