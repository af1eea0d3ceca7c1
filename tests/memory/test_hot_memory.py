from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.hot_memory import HotMemory
from memory.messages import OFFLINE_MODEL, ConversationId, Message, MessageId, UserId, Vector

ROOMY = 10_000_000
DIMENSION = 8


def said(number: int, text: str = "tea with lemon", **facts: str) -> Message:
    return Message(
        id=MessageId(facts.get("id", f"m{number}")),
        user=UserId("ada"),
        conversation=ConversationId(facts.get("conversation", "talk")),
        role="user",
        author=facts.get("author"),
        text=text,
        timestamp=float(number),
        depth=number,
        model=facts.get("model"),
    )


def axis(number: int) -> Vector:
    vector = np.zeros(DIMENSION, np.float32)
    vector[number % DIMENSION] = 1
    return vector


def filled(*messages: Message, max_messages: int = 100, max_bytes: int = ROOMY) -> HotMemory:
    memory = HotMemory(max_messages=max_messages, max_bytes=max_bytes)
    for message in messages:
        memory.add(message, axis(message.depth))
    return memory


def found(
    memory: HotMemory, text: str, vector: Vector | None = None, limit: int = 100
) -> list[str]:
    return [item.id for item in memory.search(text, vector, limit=limit).items]


def test_the_message_with_the_words_is_found_first_and_says_why() -> None:
    memory = filled(said(0, "I like jazz"), said(1, "My cat is called Momo"), said(2, "It rains"))
    best = memory.search("what is the name of my cat", None, limit=1).items[0]
    assert (best.id, best.why[0]) == ("m1", "words")
    assert 0 < best.score < 1


def test_the_message_with_the_meaning_is_found_first_when_no_word_is_shared() -> None:
    memory = filled(said(0, "jazz it is"), said(1, "a kitten moved in"), said(2, "rain again"))
    best = memory.search("pet", axis(1), limit=1).items[0]
    assert (best.id, best.why) == ("m1", ("meaning",))


def test_a_named_author_is_preferred() -> None:
    texts = [said(0, "we went climbing", author="Ben"), said(1, "we went climbing", author="Eva")]
    assert found(filled(*texts), "where did Ben go climbing", limit=1) == ["m0"]
    assert found(filled(*texts), "where did Eva go climbing", limit=1) == ["m1"]


def test_what_may_not_be_recalled_is_not_taken() -> None:
    memory = filled(said(0, "  "), said(1, "You told me", model=OFFLINE_MODEL), said(2))
    assert found(memory, "told") == ["m2"]


def test_excluded_messages_are_left_out_and_unknown_ones_ignored() -> None:
    memory = filled(said(0), said(1), said(2))
    exclude = {MessageId("m1"), MessageId("elsewhere")}
    items = memory.search("tea", axis(0), limit=5, exclude=exclude).items
    assert {item.id for item in items} == {"m0", "m2"}


def test_of_equal_messages_the_newer_comes_first() -> None:
    memory = HotMemory(max_messages=9, max_bytes=ROOMY)
    for number in (1, 3, 2):
        memory.add(said(number, conversation=str(number)), axis(0))
    assert found(memory, "tea", axis(0)) == ["m3", "m2", "m1"]


def test_a_message_is_held_once() -> None:
    memory = filled(said(0), said(0), said(1))
    assert len(memory) == 2
    assert sorted(found(memory, "tea")) == ["m0", "m1"]


def test_nothing_is_found_where_nothing_is_or_nothing_is_wanted() -> None:
    assert found(filled(), "tea", axis(0)) == []
    assert found(filled(said(0)), "tea", axis(0), limit=0) == []


def test_it_is_partial_until_everything_was_read_and_nothing_left_out() -> None:
    memory = filled(said(0), said(1), max_messages=2)
    assert memory.search("tea", None, limit=1).partial
    memory.read_to_end = True
    assert not memory.search("tea", None, limit=1).partial
    memory.add(said(2), axis(2))
    assert memory.search("tea", None, limit=1).partial


def test_older_messages_are_refused_once_it_is_full() -> None:
    memory = filled(said(5), said(6), max_messages=2)
    assert memory.full
    memory.add(said(4), axis(4), older=True)
    assert sorted(found(memory, "tea")) == ["m5", "m6"]
    memory.read_to_end = True
    assert not memory.complete


def test_the_oldest_leave_when_the_bytes_are_spent() -> None:
    memory = HotMemory(max_messages=1000, max_bytes=60_000)
    for number in range(100):
        memory.add(said(number, f"word{number} " * 20), axis(number))
        assert memory.size_bytes <= 60_000
    held = sorted(int(each[1:]) for each in found(memory, "word"))
    assert held == list(range(held[0], 100))
    assert 0 < held[0] < 99


def test_a_message_larger_than_the_whole_budget_is_held_alone() -> None:
    memory = filled(said(0), said(1, "long " * 3000), max_bytes=8_000)
    assert found(memory, "long") == ["m1"]


def test_an_older_message_never_fills_the_gap_that_a_newer_one_tore() -> None:
    memory = HotMemory(max_messages=1000, max_bytes=60_000)
    for number in range(100, 400):
        memory.add(said(number, "tea " * 40), axis(number))
    assert memory.full
    memory.add(said(400, "tea " * 2000), axis(400))
    assert memory.size_bytes < 60_000
    memory.add(said(1), axis(1), older=True)
    assert "m1" not in found(memory, "tea")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["newer", "older"]),
        st.integers(0, 30),
        st.sampled_from(["talk", "walk"]),
        st.lists(st.sampled_from(["tea", "cat", "sun"]), min_size=1, max_size=4),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 12))
def test_it_holds_the_newest_exactly_once_and_finds_all_of_them(
    steps: list[tuple[str, int, str, list[str]]], most: int
) -> None:
    memory = HotMemory(max_messages=most, max_bytes=ROOMY)
    plain: list[Message] = []
    left_out = False
    for what, number, conversation, words in steps:
        message = said(number, " ".join(words), conversation=conversation)
        held = {each.id for each in plain}
        memory.add(message, axis(number), older=what == "older")
        if message.id in held:
            continue
        if what == "newer":
            plain.append(message)
            left_out |= len(plain) > most
            plain = plain[-most:]
        elif len(plain) < most and not left_out:
            plain.insert(0, message)
        else:
            left_out = True
    items = memory.search("tea cat", axis(0), limit=100).items
    assert sorted(item.id for item in items) == sorted(message.id for message in plain)
    texts = {message.id: message.text for message in plain}
    assert {item.id: item.text for item in items} == texts
    scores = [item.score for item in items]
    assert scores == sorted(scores, reverse=True)
    fresh = filled(*plain)
    expected = {item.id: item.score for item in fresh.search("tea cat", axis(0), limit=100).items}
    assert {item.id: round(item.score, 4) for item in items} == {
        each: round(score, 4) for each, score in expected.items()
    }


def test_a_message_without_a_vector_is_found_by_its_words_and_makes_the_result_partial() -> None:
    memory = filled(said(0, "jazz it is"), said(1, "rain again"))
    memory.read_to_end = True
    memory.add(said(2, "my kitten moved in"), np.zeros(DIMENSION, np.float32))
    found_by_words = memory.search("kitten", axis(4), limit=1)
    assert [item.id for item in found_by_words.items] == ["m2"]
    assert found_by_words.partial
    assert memory.unembedded == 1
    memory.fill(MessageId("m2"), axis(4))
    by_meaning = memory.search("pet", axis(4), limit=1)
    assert [(item.id, item.why) for item in by_meaning.items] == [("m2", ("meaning",))]
    assert not by_meaning.partial


def test_only_what_is_here_and_has_no_vector_is_filled() -> None:
    memory = filled(said(0), said(1))
    memory.read_to_end = True
    for number in range(3):
        memory.fill(MessageId(f"m{number}"), axis(7))
    assert memory.search("pet", axis(1), limit=1).items[0].id == "m1"


def test_a_message_that_left_is_not_waited_for() -> None:
    memory = filled(said(0), max_messages=1)
    memory.add(said(1), np.zeros(DIMENSION, np.float32))
    memory.add(said(2), axis(2))
    assert memory.unembedded == 0
    memory.fill(MessageId("m1"), axis(1))
    assert found(memory, "tea") == ["m2"]


def test_a_question_that_could_not_be_embedded_is_answered_by_words_alone() -> None:
    memory = filled(said(0, "jazz it is"), said(1, "my kitten moved in"))
    memory.read_to_end = True
    recall = memory.search("kitten", np.zeros(DIMENSION, np.float32), limit=1)
    assert recall.items == memory.search("kitten", None, limit=1).items
    assert recall.items[0].id == "m1"
    assert recall.partial
