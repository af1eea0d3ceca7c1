from __future__ import annotations

import pytest

from memory.concepts import concepts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("my mum", "meine Mutter"),
        ("moja matka", "mi madre"),
        ("the landlord", "\u5927\u5bb6"),
        ("a bicycle", "v\u00e9lo"),
        ("\u4fdd\u967a", "insurance"),
        ("las hermanas", "my sister"),
    ],
)
def test_words_for_the_same_thing_share_a_concept(one: str, other: str) -> None:
    assert set(concepts(one)) & set(concepts(other))


def test_declined_words_are_known_and_words_that_only_begin_alike_are_not() -> None:
    assert concepts("Krankenh\u00e4user")[:1] != []
    assert concepts("sisters") == concepts("sister")
    assert not set(concepts("partnership agreements forever")) & set(concepts("boyfriend"))


def test_function_words_and_unknown_words_stand_for_nothing() -> None:
    assert concepts("and then the xylograph was there") == []
    assert concepts("") == []


def test_the_longest_known_run_of_characters_counts() -> None:
    assert concepts("\u5965\u3055\u3093\u3068\u5927\u5b66") == concepts("\u5927\u5b66")
