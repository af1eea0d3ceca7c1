from __future__ import annotations

import numpy as np

from memory.bm25 import bm25, saturation


def scores(counts: list[list[float]], lengths: list[float]) -> list[float]:
    rows, sizes = np.array(counts, np.float32), np.array(lengths, np.float32)
    found: list[float] = bm25(
        rows, saturation(sizes, sizes > 0), np.ones(len(rows), np.float32)
    ).tolist()
    return found


def test_more_occurrences_count_more_and_each_less_than_the_one_before() -> None:
    none, once, twice, thrice = scores([[0, 1, 2, 3]], [9, 9, 9, 9])
    assert none == 0
    assert once > twice - once > thrice - twice > 0


def test_a_shorter_text_with_the_same_words_fits_better() -> None:
    short, long = scores([[1, 1]], [4, 40])
    assert short > long


def test_without_terms_or_texts_nothing_fits() -> None:
    assert scores([[0, 0]], [0, 0]) == [0, 0]
    nothing = np.zeros((0, 3), np.float32)
    empty = np.zeros(0, np.float32)
    assert bm25(nothing, np.ones(3, np.float32), empty).tolist() == [0, 0, 0]


def test_a_text_without_length_has_its_terms_all_the_same() -> None:
    assert scores([[1, 0]], [0, 0]) == [0, 0]
    assert scores([[1, 0]], [0, 5])[0] > 0
