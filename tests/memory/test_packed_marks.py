from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.packed_marks import PackedMarks
from memory.token_marks import STORED_PIECES, TokenMarks


def made(*numbers: int) -> TokenMarks:
    ids = np.array(numbers, np.uint16)
    return TokenMarks(ids, np.repeat(ids.astype(np.uint64)[:, None], 2, axis=1))


def held(packed: PackedMarks, slots: int) -> list[list[int]]:
    flat = packed.flat(slots)
    if flat is None:
        return [[] for _ in range(slots)]
    found = []
    for start, count in zip(*flat[2:], strict=True):
        ids = flat.ids[start : start + count].tolist()
        assert flat.bits[start : start + count].tolist() == [[each, each] for each in ids]
        found.append(ids)
    return found


STEPS = st.lists(
    st.tuples(st.integers(0, 9), st.lists(st.integers(1, 60_000), max_size=20, unique=True)),
    max_size=200,
)


@given(STEPS)
def test_each_slot_has_what_was_put_last_whatever_was_given_back(
    steps: list[tuple[int, list[int]]],
) -> None:
    packed = PackedMarks()
    plain: list[list[int]] = [[] for _ in range(10)]
    for slot, numbers in steps:
        packed.put(slot, made(*numbers))
        plain[slot] = numbers
    assert held(packed, 10) == plain
    assert [packed.has(slot) for slot in range(10)] == [bool(each) for each in plain]
    order = np.array([7, 3, 1], np.int32)
    again = PackedMarks()
    again.restore(*packed.dump(order))
    assert held(again, 3) == [plain[slot] for slot in order]


def test_what_is_given_back_does_not_take_room_for_ever() -> None:
    packed = PackedMarks()
    for step in range(5_000):
        packed.put(step % 4, made(*range(1, 20)))
    assert packed.size_bytes < 512 * 20 * 2


def test_of_a_long_message_the_rarest_pieces_are_kept() -> None:
    packed = PackedMarks()
    packed.put(0, made(*range(1, 101)))
    assert held(packed, 1) == [list(range(101 - STORED_PIECES, 101))]
