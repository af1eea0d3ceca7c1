"""Requests for all there is."""

import pytest

from memory.deep_requests import DEEP
from memory.small_talk import plain


def reasons(text: str) -> list[str]:
    return [reason for reason, pattern in DEEP if pattern.search(plain(text))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Summarise all that I told you about the boat", "everything"),
        ("Erz\u00e4hl mir alles \u00fcber mein Boot", "everything"),
        ("Dime todo lo que sabes de mi barco", "everything"),
        ("Opowiedz wszystko o \u0142odzi", "everything"),
        (
            "\u79c1\u306e\u8239\u306b\u3064\u3044\u3066\u3059\u3079\u3066\u6559\u3048\u3066",
            "everything",
        ),
        ("Every time I sailed, who came along?", "each_time"),
        ("Combien de fois suis-je all\u00e9 \u00e0 Faro ?", "each_time"),
        ("Kiedy by\u0142em tam pierwszy raz?", "first_time"),
        ("What do you remember about me?", "about_the_user"),
    ],
)
def test_a_request_for_all_is_known_in_several_languages(text: str, reason: str) -> None:
    assert reason in reasons(text)


@pytest.mark.parametrize(
    "text", ["Where is my boat?", "How often do I water it?", "Is all well?", "What did I buy?"]
)
def test_a_question_for_one_thing_is_none(text: str) -> None:
    assert reasons(text) == []
