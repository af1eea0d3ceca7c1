from __future__ import annotations

import msgspec
import numpy as np

from memory.packed_messages import PackedMessages
from tests.memory.test_hot_memory import said


def test_a_message_is_told_as_it_was_put() -> None:
    messages = PackedMessages()
    ann = msgspec.structs.replace(said(0, "Tee? Ja!", author="Änn"), client_id="c-1")
    reply = msgspec.structs.replace(said(1, "tea?", conversation="walk"), role="assistant")
    messages.put(0, ann, 2)
    messages.put(1, reply, 1)
    assert messages.id(0) == "m0"
    assert messages.body(0) == ("c-1", "Tee? Ja!")
    assert (messages.author(0), messages.role(0)) == ("Änn", "user")
    assert (messages.author(1), messages.role(1)) == (None, "assistant")
    assert messages.conversation(1) == "walk"
    assert messages.columns.asks[:2].tolist() == [False, True]
    assert messages.columns.times[:2].tolist() == [0, 1]


def test_a_slot_is_used_again() -> None:
    messages = PackedMessages()
    messages.put(0, said(0, "long " * 50), 50)
    larger = messages.size_bytes
    messages.clear(0)
    messages.put(0, said(1), 3)
    assert (messages.id(0), len(messages)) == ("m1", 1)
    assert messages.size_bytes < larger


def test_what_was_dumped_is_restored_and_goes_on() -> None:
    messages, again = PackedMessages(), PackedMessages()
    for number in range(3):
        messages.put(number, said(number, author=f"a{number}", conversation=f"c{number}"), 3)
    again.restore(*messages.dump(np.array([2, 0], np.int32)))
    again.restore_names(messages.speakers, messages.talks)
    again.put(2, said(9, author="a2", conversation="c9"), 3)
    assert [again.id(slot) for slot in range(3)] == ["m2", "m0", "m9"]
    assert [again.author(slot) for slot in range(3)] == ["a2", "a0", "a2"]
    assert [again.conversation(slot) for slot in range(3)] == ["c2", "c0", "c9"]
