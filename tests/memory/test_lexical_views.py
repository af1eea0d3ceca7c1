from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.lexical_views import Links, near_of, view_counts

SLOTS = 6
ORDERS = st.permutations(range(SLOTS))
POSTINGS = st.lists(st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=12), max_size=3)


def links_of(order: list[int], length: int) -> Links:
    """Two conversations: the first *length* slots of *order*, and the others."""
    previous, following = np.full(SLOTS + 1, -1, np.int32), np.full(SLOTS + 1, -1, np.int32)
    talk = np.zeros(SLOTS + 1, np.int32)
    for number, part in enumerate((order[:length], order[length:]), 1):
        for before, after in itertools.pairwise(part):
            previous[after], following[before] = before, after
        talk[part] = number
    return Links(previous, following, talk)


@settings(deadline=None)
@given(ORDERS, st.integers(0, SLOTS), POSTINGS)
def test_each_view_counts_what_is_within_its_reach(
    order: list[int], length: int, said: list[list[int]]
) -> None:
    links = links_of(order, length)
    postings = [np.array(sorted(slots), np.int32) for slots in said]
    found = view_counts(postings, near_of(links), 3)
    parts = (order[:length], order[length:])
    for row, slots in enumerate(said):
        for number, part in enumerate(parts, 1):
            assert found[3][row, number] == sum(slot in part for slot in slots)
            for place, slot in enumerate(part):
                reaches = (part[place : place + 1], part[max(0, place - 1) : place + 1])
                around = part[max(0, place - 2) : place + 3]
                for view, reach in zip(found, (*reaches, around), strict=False):
                    assert view[row, slot] == sum(each in reach for each in slots)


def test_without_terms_there_is_nothing_to_count() -> None:
    found = view_counts([], near_of(links_of(list(range(SLOTS)), 3)), 3)
    assert [table.shape for table in found] == [(0, SLOTS + 1)] * 3 + [(0, 3)]
