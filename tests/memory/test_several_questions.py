"""Several questions in one message."""

import pytest

from memory.messages import ConversationId, MessageId
from memory.recalled import Recall, Recalled
from memory.several_questions import merged, questions_in


def item(name: str, score: float) -> Recalled:
    return Recalled(
        id=MessageId(name),
        text=name,
        score=score,
        timestamp=0.0,
        conversation=ConversationId("c"),
        role="user",
        why=(),
    )


def test_each_question_that_stands_alone_is_one() -> None:
    text = "Hi! Where did I leave my boat? It was windy. And who is my vet now?"
    assert questions_in(text) == ("Where did I leave my boat?", "And who is my vet now?")


@pytest.mark.parametrize(
    "text",
    [
        "Where did I leave my boat?",
        "Where did I leave my boat? And why?",
        "My boat is in Faro. The dog is well.",
        "Really? Are you sure? Why?",
        "Where is the boat of mine? " * 100,
        "",
    ],
)
def test_a_message_that_asks_one_thing_has_no_parts(text: str) -> None:
    assert questions_in(text) == ()


def test_no_more_than_three_are_searched_for() -> None:
    text = " ".join(f"Where is boat number {number}?" for number in range(9))
    assert len(questions_in(text)) == 3


def test_what_several_searches_found_is_ordered_by_its_best_score() -> None:
    first = Recall(items=(item("a", 0.9), item("b", 0.2)), took_ms=1.0)
    second = Recall(items=(item("b", 0.5), item("c", 0.3)), took_ms=2.0, partial=True)
    found = merged([first, second], 2)
    assert [(each.id, each.score) for each in found.items] == [("a", 0.9), ("b", 0.5)]
    assert (found.took_ms, found.partial) == (3.0, True)
