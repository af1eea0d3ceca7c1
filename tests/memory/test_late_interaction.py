from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.late_interaction import SlotMarks, best_matches, nth_largest, piece_weights
from memory.token_marks import TokenMarks, no_marks

WORDS = 2


def marked(*ids: int) -> TokenMarks:
    """Pieces whose bits are drawn from their ids."""
    bits = [np.random.default_rng(each).integers(0, 1 << 63, WORDS, np.uint64) for each in ids]
    return TokenMarks(np.array(ids, np.uint16), np.array(bits, np.uint64).reshape(-1, WORDS))


def flat(*texts: TokenMarks, gap: int = 3) -> SlotMarks:
    """The marks of one text a slot, with *gap* pieces of nobody's before each."""
    stray = marked(*range(60_000, 60_000 + gap))
    ids = [part for text in texts for part in (stray.ids, text.ids)]
    bits = [part for text in texts for part in (stray.bits, text.bits)]
    count = np.array([len(text.ids) for text in texts], np.int32)
    start = (np.cumsum(count + gap) - count).astype(np.int32)
    return SlotMarks(np.concatenate(ids), np.concatenate(bits), start, count)


def all_slots(marks: SlotMarks) -> npt.NDArray[np.int32]:
    return np.arange(len(marks.counts), dtype=np.int32)


def test_a_piece_that_a_message_has_fits_fully() -> None:
    marks = flat(marked(1, 2, 3), marked(4, 5))
    matches = best_matches(marked(2, 5), marks, all_slots(marks))
    assert matches.shape == (2, 2)
    assert matches[0, 0] == pytest.approx(1)
    assert matches[1, 1] == pytest.approx(1)
    assert matches[0, 1] < 0.9


def test_the_best_piece_counts_by_the_cosine_that_its_differing_bits_stand_for() -> None:
    marks = flat(marked(1, 2, 3))
    question = marked(9)
    differing = np.bitwise_count(marked(1, 2, 3).bits ^ question.bits).sum(axis=1).min()
    expected = np.sin(np.pi / 2 * (1 - 2 * float(differing) / (64 * WORDS)))
    assert best_matches(question, marks, all_slots(marks))[0, 0] == pytest.approx(expected)


def test_slots_may_be_asked_for_in_any_order_and_those_without_marks_have_nothing() -> None:
    marks = flat(marked(1, 2), no_marks(128), marked(3))
    asked = np.array([2, 1, 0], np.int32)
    matches = best_matches(marked(1, 3), marks, asked)
    assert matches[1].tolist() == [0, 0]
    whole = best_matches(marked(1, 3), marks, all_slots(marks))
    np.testing.assert_array_equal(matches, whole[[2, 1, 0]])


def test_without_any_marks_there_are_no_matches() -> None:
    nothing = flat(no_marks(128), no_marks(128), gap=0)
    assert best_matches(marked(1), nothing, all_slots(nothing)).tolist() == [[0], [0]]
    some = flat(marked(1))
    assert best_matches(no_marks(128), some, all_slots(some)).shape == (1, 0)


def test_rare_pieces_weigh_most_and_the_weights_add_up_to_one() -> None:
    marks = flat(marked(1, 2), marked(1, 3), marked(1, 4), marked(1, 5))
    often, rare, unknown = piece_weights(marked(1, 2, 9), marks)
    assert often < rare < unknown
    assert often + rare + unknown == pytest.approx(1)
    assert piece_weights(no_marks(128), marks).shape == (0,)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=120), st.integers(1, 12))
def test_the_nth_largest_is_what_sorting_puts_there(values: list[int], place: int) -> None:
    place = min(place, len(values))
    found = nth_largest(np.array(values, np.float32), place)
    assert found == sorted(values, reverse=True)[place - 1]
