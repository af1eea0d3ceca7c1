from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.concepts import CODE, CONCEPT, NUMBER, concepts
from memory.message_terms import message_terms
from memory.tokens import tokens

ODD = ["e\u0301", "\u0301", "\u00a8", "\u3000", "\u00a0", "\x1f", "\u2028", "\u0e33", "\ufb01"]
TEXTS = st.lists(
    st.sampled_from(
        [*ODD, "Mum's", "3.50", "caf\u00e9", "\u5965\u3055\u3093", "HotMemory", ",", " "]
    )
    | st.text(max_size=8)
).map("".join)


@settings(deadline=None)
@given(TEXTS)
def test_they_are_those_of_the_whole_text(text: str) -> None:
    found = message_terms(text)
    assert found.words == tokens(text)
    assert [term for term in found.concepts if term not in {NUMBER, CODE}] == concepts(text)
    assert found.all == found.words + found.concepts


@settings(deadline=None)
@given(TEXTS, st.text(min_size=1, max_size=20))
def test_an_author_is_a_word_of_what_was_said(text: str, author: str) -> None:
    found = message_terms(text, author)
    assert found.words == tokens(f"{author}: {text}")
    assert found.concepts == message_terms(text).concepts


def test_figures_and_code_are_told() -> None:
    assert NUMBER in message_terms("It is number 46.").concepts
    assert CODE in message_terms("=SUM(A1:A3)").concepts
    assert CODE in message_terms("const late = rows.filter(isLate)").concepts
    assert not {NUMBER, CODE} & set(message_terms("No figures here, and no code.").concepts)


@pytest.mark.parametrize("text", ["mum has 2 dogs; {}", "La casa de mi madre"])
def test_no_word_is_taken_for_a_concept(text: str) -> None:
    found = message_terms(text)
    assert found.concepts
    assert all(term.startswith(CONCEPT) for term in found.concepts)
    assert not any(term.startswith(CONCEPT) for term in found.words)
