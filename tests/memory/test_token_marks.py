from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memory.token_marks import STORED_PIECES, marks_of, no_marks


def vectors(count: int, dimension: int = 70) -> npt.NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, dimension)).astype(np.float32)


def test_special_tokens_punctuation_and_function_words_have_no_marks() -> None:
    pieces = ["[CLS]", "the", "trombone", "!", "have", "##ist", "[UNK]", "[SEP]"]
    marks = marks_of(pieces, [101, 5, 900, 6, 7, 800, 100, 102], vectors(8))
    assert marks.ids.tolist() == [900, 800]


def test_the_pieces_of_sentencepiece_are_told_by_their_words() -> None:
    marks = marks_of(["\u2581the", "\u2581Posaune", "\u2581"], [5, 900, 6], vectors(3))
    assert marks.ids.tolist() == [900]


def test_a_piece_is_marked_where_it_stands_first() -> None:
    states = vectors(3)
    marks = marks_of(["tea", "rain", "tea"], [7, 9, 7], states)
    alone = marks_of(["tea", "rain"], [7, 9], states[:2])
    assert marks.ids.tolist() == [7, 9]
    np.testing.assert_array_equal(marks.bits, alone.bits)


def test_bits_are_the_signs_and_as_many_differ_as_signs_do() -> None:
    states = vectors(2)
    bits = marks_of(["tea", "rain"], [7, 9], states).bits
    assert bits.shape == (2, 2)
    differing = int(np.count_nonzero((states[0] > 0) != (states[1] > 0)))
    assert int(np.bitwise_count(bits[0] ^ bits[1]).sum()) == differing


def test_a_long_text_keeps_its_rarest_pieces_in_their_order() -> None:
    ids = [*range(1000, 1030), 5000, *range(10, 20)]
    marks = marks_of([f"w{number}" for number in ids], ids, vectors(len(ids)))
    kept = marks.rarest()
    assert kept.ids.tolist() == [*range(1030 - STORED_PIECES + 1, 1030), 5000]
    place = ids.index(5000)
    np.testing.assert_array_equal(kept.bits[-1], marks.bits[place])
    assert kept.rarest() is kept


def test_the_numbers_of_a_large_vocabulary_are_folded() -> None:
    ids = marks_of(["tea", "rain"], [250_001, 65_535], vectors(2)).ids
    assert ids.dtype == np.uint16
    assert ids[1] == 65_535


def test_a_text_without_content_has_no_marks() -> None:
    marks = marks_of(["[CLS]", "[SEP]"], [101, 102], vectors(2))
    nothing = no_marks(70)
    assert marks.ids.shape == nothing.ids.shape == (0,)
    assert marks.bits.shape == nothing.bits.shape == (0, 2)
