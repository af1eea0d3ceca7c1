from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.tokens import FUNCTION_WORDS, stem, tokens


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("cats", "cat"),
        ("cities", "city"),
        ("planning", "plans"),
        ("moved", "move"),
        ("Caroline's", "caroline"),
        ("Caroline\u2019s", "Caroline"),
        ("STRASSE", "Straße"),
        ("\uff26\uff35\uff2c\uff2c", "full"),
        ("cafe\u0301", "caf\u00e9"),
        ("größer", "größe"),
        ("replies", "reply"),
        ("families", "family"),
        ("собака", "собаки"),
    ],
)
def test_forms_of_one_word_are_equal(text: str, other: str) -> None:
    assert tokens(text) == tokens(other)


@pytest.mark.parametrize(
    ("text", "other"), [("sing", "sin"), ("bed", "be"), ("bus", "bu"), ("2023", "2022")]
)
def test_short_words_and_numbers_stay_apart(text: str, other: str) -> None:
    assert tokens(text) != tokens(other)


def test_an_identifier_gives_itself_and_its_parts() -> None:
    assert tokens("max_results") == ["max_results", "max", "result"]
    assert tokens("HotMemory") == ["hotmemory", "hot", "memory"]
    assert tokens("parseHTTPReply") == ["parsehttpreply", "pars", "http", "reply"]
    assert tokens("utf8_mode") == ["utf8_mode", "utf", "8", "mod"]
    assert tokens("__init__") == ["init"]


def test_numbers_stay_whole() -> None:
    assert tokens("at 7:30 for 3.5 km in 2023.") == ["at", "7:30", "for", "3.5", "km", "in", "2023"]


@pytest.mark.parametrize(
    ("question", "memory"),
    [
        ("猫叫什么名字", "我的猫叫咪咪"),
        ("แมวชื่ออะไร", "ฉันมีแมวสองตัว"),
        ("ラーメンが好き", "昨日ラーメンを食べた"),
        ("학교에서", "학교는"),
    ],
)
def test_scripts_without_spaces_share_pairs_of_characters(question: str, memory: str) -> None:
    assert set(tokens(question)) & set(tokens(memory))


def test_a_word_keeps_its_vowel_signs() -> None:
    assert len(tokens("हिन्दी")) == 1


def test_mixed_scripts_are_split_where_the_script_changes() -> None:
    assert tokens("iphone手机壳") == ["iphon", "手机", "机壳"]


def test_text_without_words_has_no_tokens() -> None:
    assert tokens(" \n?!… 🎉") == []


def test_function_words_are_stored_as_they_are_compared() -> None:
    assert {"what", "wher", "hav"} <= FUNCTION_WORDS
    assert "dog" not in FUNCTION_WORDS


@given(st.text())
def test_any_text_has_tokens_that_hold_no_space(text: str) -> None:
    assert all(word and not any(map(str.isspace, word)) for word in tokens(text))


@given(st.text())
def test_composed_and_decomposed_text_is_equal(text: str) -> None:
    assert tokens(unicodedata.normalize("NFD", text)) == tokens(unicodedata.normalize("NFC", text))


@given(st.text(alphabet=st.characters(categories=["L"]), min_size=1))
def test_a_stem_is_never_empty(word: str) -> None:
    assert stem(word)


@pytest.mark.parametrize("length", [8, 32, 33, 500])
def test_a_word_of_any_length_is_stemmed_each_time(length: int) -> None:
    word = "x" * (length - 4)
    assert tokens(f"{word}king {word}king") == [f"{word}k"] * 2
