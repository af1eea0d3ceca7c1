from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import postings
from memory.postings import Postings

TERMS = ["tea", "cat", "sun", "été", "猫"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "tidy", "again"]),
        st.sampled_from(TERMS),
        st.integers(0, 5),
    ),
    max_size=80,
)


@given(STEPS)
def test_each_term_has_the_slots_that_were_added_and_not_removed(
    steps: list[tuple[str, str, int]],
) -> None:
    plain: dict[str, list[int]] = {term: [] for term in TERMS}
    found = Postings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "LEAST_OPEN_TERMS", 1)
        for what, term, slot in steps:
            if what == "add":
                found.add([term], slot)
                plain[term].append(slot)
            elif what == "tidy":
                found.tidy()
            elif what == "again":
                again = Postings()
                again.restore(found.dump(np.arange(6, dtype=np.int32)))
                found = again
            elif slot in plain[term]:
                found.remove(term, slot)
                plain[term].remove(slot)
            else:
                with pytest.raises(KeyError):
                    found.remove(term, slot)
    assert {term: sorted(found.get(term).tolist()) for term in TERMS} == {
        term: sorted(slots) for term, slots in plain.items()
    }


def test_a_copy_has_its_slots_renamed() -> None:
    found, again = Postings(), Postings()
    for slot in (0, 2, 2):
        found.add(["tea"], slot)
    again.restore(found.dump(np.array([5, 6, 7], np.int32)))
    assert again.get("tea").tolist() == [5, 7, 7]


def test_many_terms_take_little_room() -> None:
    found = Postings()
    for number in range(20_000):
        found.add([f"term {number}"], number)
        found.tidy()
    assert found.size_bytes < 20_000 * 16 + 20_000 * 300 // postings.OPEN_SHARE
