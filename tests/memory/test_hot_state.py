from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import WarmCopyUnusable
from memory.hot_memory import HotMemory
from memory.hot_state import MAGIC, pack, unpack
from memory.messages import MessageId
from memory.token_marks import TokenMarks
from tests.memory.test_hot_memory import ROOMY, axis, said
from tests.memory.test_packed_marks import made

WORDS = st.lists(st.sampled_from(["tea", "cat", "sun", "été", "猫"]), min_size=1, max_size=4)
SAID = st.lists(st.tuples(st.sampled_from(["talk", "walk", "1\n2"]), WORDS), max_size=30)


def remade(memory: HotMemory, *, max_messages: int = 100) -> HotMemory:
    again = HotMemory(max_messages=max_messages, max_bytes=ROOMY)
    state, version = unpack(pack(memory.dump(), fingerprint="f", version=7), fingerprint="f")
    assert version == 7
    again.restore(state)
    return again


def marks(number: int) -> TokenMarks:
    return made(number + 1, number + 2)


@given(SAID, st.integers(1, 20), SAID)
def test_a_copy_finds_what_the_original_finds_also_when_both_go_on(
    before: list[tuple[str, list[str]]], most: int, after: list[tuple[str, list[str]]]
) -> None:
    memory = HotMemory(max_messages=most, max_bytes=ROOMY)
    for number, (talk, words) in enumerate(before):
        message = said(number, " ".join(words), conversation=talk)
        memory.add(message, axis(number), marks=marks(number) if number % 2 else None)
    memory.read_to_end = True
    again = remade(memory, max_messages=most)
    for number, (talk, words) in enumerate(after):
        message = said(100 + number, " ".join(words), conversation=talk)
        for each in (memory, again):
            each.add(message, axis(number), marks=marks(number))
    ours, theirs = (each.search("tea cat 猫", axis(0), limit=99) for each in (memory, again))
    assert ours.items == theirs.items
    assert ours.partial == theirs.partial
    assert memory.unmarked(99) == again.unmarked(99)


def test_where_there_is_less_room_the_newest_of_a_copy_are_held() -> None:
    memory = HotMemory(max_messages=9, max_bytes=ROOMY)
    for number in range(6):
        memory.add(said(number), axis(number))
    memory.read_to_end = True
    again = remade(memory, max_messages=2)
    assert {item.id for item in again.search("tea", None, limit=9).items} == {"m4", "m5"}
    assert not again.complete


def test_what_has_no_vector_is_filled_in_a_copy_as_well() -> None:
    memory = HotMemory(max_messages=9, max_bytes=ROOMY)
    memory.add(said(0), 0 * axis(0))
    again = remade(memory)
    assert again.unembedded == 1
    again.fill(MessageId("m0"), axis(0))
    assert again.unembedded == 0


def test_what_is_damaged_of_another_layout_or_model_is_not_read() -> None:
    memory = HotMemory(max_messages=9, max_bytes=ROOMY)
    memory.add(said(0), axis(0))
    data = pack(memory.dump(), fingerprint="f", version=None)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    other = b"tandem warm 0" + data[len(MAGIC) - 2 :]
    for spoilt in (b"", bytes(flipped), data[:-1], other):
        with pytest.raises(WarmCopyUnusable):
            unpack(spoilt, fingerprint="f")
    with pytest.raises(WarmCopyUnusable, match="model"):
        unpack(data, fingerprint="g")
