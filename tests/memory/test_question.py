from __future__ import annotations

import pytest

from memory.question import read_question


@pytest.mark.parametrize(
    "text",
    [
        "Which tyre did you recommend?",
        "What was your advice about the lease?",
        "Was hast du mir zum Mietvertrag gesagt?",
        "\u00bfQu\u00e9 me aconsejaste?",
        "Co mi poradzi\u0142e\u015b?",
        "\u524d\u306b\u52e7\u3081\u3066\u304f\u308c\u305f\u672c\u306f?",
    ],
)
def test_the_assistants_own_words_are_asked_for(text: str) -> None:
    assert read_question(text, marks=None, asked_at=0).asks_reply


@pytest.mark.parametrize("text", ["Where does my sister live?", "What is the taste of it?"])
def test_the_users_words_are_asked_for_otherwise(text: str) -> None:
    assert not read_question(text, marks=None, asked_at=0).asks_reply


def test_the_kind_of_the_answer_is_told() -> None:
    def asked(text: str) -> tuple[bool, bool, bool]:
        question = read_question(text, marks=None, asked_at=0)
        return question.asks_number, question.asks_code, question.asks_now

    assert asked("How much is the rent?") == (True, False, False)
    assert asked("Wie hie\u00df der Befehl?") == (False, True, False)
    assert asked("Where do I work these days?") == (False, False, True)
    assert asked("\u7d50\u5c40\u3069\u3053\u306b\u3057\u305f?") == (False, False, True)
    assert asked("Who has my key?") == (False, False, False)


def test_concepts_are_named_once_and_times_are_resolved() -> None:
    question = read_question("mum or mother, in May 2023?", marks=None, asked_at=1.7e9)
    assert len(question.concepts) == len(set(question.concepts)) == 1
    assert len(question.times) == 1


def test_all_there_is_may_be_asked_for() -> None:
    assert read_question("What do you know about me?", marks=None, asked_at=0).asks_all
    assert not read_question("What is my dog called?", marks=None, asked_at=0).asks_all
