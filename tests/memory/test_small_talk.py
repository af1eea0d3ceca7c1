"""The words of small talk, and how they are written."""

import pytest

from memory.small_talk import ASKING, LIGHT, SELF, SOCIAL, folded, plain


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Heyyy", "hey"),
        ("D\u00cdAS", "dias"),
        ("don't", "dont"),
        ("don\u2019t", "dont"),
        ("good", "god"),
        ("cze\u015b\u0107", "czesc"),
        ("\u304c", "\u304c"),
    ],
)
def test_ways_to_write_a_word_are_one(text: str, same: str) -> None:
    assert folded(text) == same


def test_plain_keeps_doubled_letters() -> None:
    assert plain("\u00dcber ALLES") == "uber alles"


def test_words_are_written_as_they_are_compared() -> None:
    for words in (*SOCIAL.values(), ASKING, LIGHT, SELF):
        assert {folded(word) for word in words} == words


def test_what_is_ones_own_is_no_small_talk() -> None:
    own = {"my", "mine", "mein", "meine", "mon", "moj", "minha"}
    assert own <= SELF
    assert not any(own & words for words in (*SOCIAL.values(), LIGHT))
