from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory.context import merge_context
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.ranking import RELEVANT
from memory.recalled import Recalled
from memory.short_term import Window

TALK = ConversationId("talk")


def said(name: str, text: str) -> Message:
    return Message(
        id=MessageId(name),
        user=UserId("ada"),
        conversation=TALK,
        role="user",
        text=text,
        timestamp=1.0,
        depth=0,
    )


def memory(
    name: str,
    text: str,
    score: float = 0.5,
    *,
    talk: str = "earlier",
    why: tuple[str, ...] = ("words",),
) -> Recalled:
    return Recalled(
        id=MessageId(name),
        text=text,
        score=score,
        timestamp=1.0,
        conversation=ConversationId(talk),
        role="user",
        why=why,
    )


QUESTION = said("q", "Where do I live?")


def merged(window: list[Message], recalled: list[Recalled], max_results: int = 5) -> list[str]:
    context = merge_context(
        Window(tuple(window)), recalled, question=QUESTION, max_results=max_results
    )
    return [each.id for each in context.memories]


def test_the_window_is_kept_in_order_without_the_question() -> None:
    window = Window((said("a", "Hello"), said("b", "Hi"), QUESTION))
    context = merge_context(window, [], question=QUESTION, max_results=5)
    assert [message.id for message in context.window] == ["a", "b"]


def test_a_memory_that_the_window_holds_is_dropped() -> None:
    assert merged([said("a", "I moved")], [memory("a", "I moved"), memory("b", "Lisbon")]) == ["b"]


def test_a_memory_that_is_not_relevant_is_dropped() -> None:
    found = [memory("a", "Lisbon", RELEVANT + 0.01), memory("b", "Tea", RELEVANT - 0.01)]
    assert merged([], found) == ["a"]


def test_what_only_stood_next_to_something_is_dropped_without_that() -> None:
    beside = memory("b", "OK", why=("neighbour",))
    assert merged([], [beside]) == []
    assert merged([], [beside, memory("a", "Lisbon", talk="other")]) == ["a"]
    assert merged([], [beside, memory("a", "Lisbon", 0.4)]) == ["b", "a"]
    assert merged([], [beside, memory("a", "Lisbon", RELEVANT - 0.01)]) == []
    assert merged([], [memory("b", "OK", why=("neighbour", "meaning"))]) == ["b"]


def test_a_memory_that_says_what_the_window_says_is_dropped() -> None:
    assert merged([said("a", "I moved")], [memory("x", " i  MOVED\n")]) == []


def test_the_question_is_no_memory_of_itself() -> None:
    assert merged([], [memory("q", "other"), memory("x", "where do i live?")]) == []


def test_of_equal_texts_the_best_stays() -> None:
    recalled = [memory("a", "Lisbon", 0.9), memory("b", "lisbon", 0.8), memory("c", "Porto", 0.7)]
    assert merged([], recalled) == ["a", "c"]


def test_dropped_memories_make_room_for_the_next() -> None:
    recalled = [memory("a", "x"), memory("b", "x"), memory("c", "y"), memory("d", "z")]
    assert merged([], recalled, max_results=2) == ["a", "c"]


def test_no_memories_are_wanted_and_none_are_given() -> None:
    assert merged([], [memory("a", "x")], max_results=0) == []


TEXTS = st.sampled_from(["one", "two", "Two ", "three", "four"])
NAMES = st.sampled_from(list("abcdefq"))


@given(
    st.lists(st.tuples(NAMES, TEXTS), max_size=5),
    st.lists(st.tuples(NAMES, TEXTS), max_size=12),
    st.integers(0, 6),
)
def test_nothing_stands_twice_and_nothing_better_is_missing(
    window: list[tuple[str, str]], recalled: list[tuple[str, str]], max_results: int
) -> None:
    recent = [said(*each) for each in window]
    found = [memory(*each) for each in recalled]
    context = merge_context(
        Window(tuple(recent)), found, question=QUESTION, max_results=max_results
    )
    texts = [each.text.strip().lower() for each in context.memories] + [QUESTION.text.lower()]
    names = [each.id for each in context.memories] + [QUESTION.id]
    assert len(set(texts)) == len(texts)
    assert len(set(names)) == len(names)
    assert not {message.id for message in context.window} & {each.id for each in context.memories}
    assert len(context.memories) <= max_results
    places = [found.index(each) for each in context.memories]
    assert places == sorted(places)
    if len(context.memories) < max_results:
        known_names = {*names, *(message.id for message in context.window)}
        known_texts = {*texts, *(message.text.strip().lower() for message in context.window)}
        for each in found:
            assert each.id in known_names or each.text.strip().lower() in known_texts
