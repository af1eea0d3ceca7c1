from __future__ import annotations

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.bm25 import K1, B
from memory.lexical import FUNCTION_WORD_WEIGHT, LexicalIndex
from memory.messages import ConversationId
from memory.tokens import FUNCTION_WORDS

ONE = ConversationId("one")
TWO = ConversationId("two")


class PlainIndex:
    """The same scores, computed from the definition over a list of conversations' documents."""

    def __init__(self) -> None:
        self.documents: list[tuple[int, ConversationId, list[str]]] = []

    def scores(self, query: list[str], slots: int) -> dict[str, list[float]]:
        weights = {word: self._weight(word) for word in query}
        views = {
            "turn": self._near(0, 0),
            "pair": self._near(1, 0),
            "window": self._near(2, 2),
            "conversation": self._near(10_000, 10_000),
        }
        result: dict[str, list[float]] = {}
        for name, texts in views.items():
            lengths = {slot: len(text) for slot, text in texts.items()}
            if name == "conversation":
                one_each = {conversation: slot for slot, conversation, _ in self.documents}
                lengths = {slot: lengths[slot] for slot in one_each.values()}
            average = sum(lengths.values()) / max(len(lengths), 1) or 1
            row = [0.0] * slots
            for slot, text in texts.items():
                counts = Counter(text)
                for word, weight in weights.items():
                    count = counts[word]
                    floor = K1 * (1 - B + B * len(text) / average)
                    row[slot] += weight * (K1 + 1) * count / (count + floor)
            result[name] = row
        return result

    def _near(self, before: int, after: int) -> dict[int, list[str]]:
        texts: dict[int, list[str]] = {}
        for conversation in {each for _, each, _ in self.documents}:
            line = [(slot, words) for slot, each, words in self.documents if each == conversation]
            for place, (slot, _) in enumerate(line):
                near = line[max(place - before, 0) : place + after + 1]
                texts[slot] = [word for _, words in near for word in words]
        return texts

    def _weight(self, word: str) -> float:
        having = sum(word in words for _, _, words in self.documents)
        rarity = math.log1p((len(self.documents) - having + 0.5) / (having + 0.5))
        return rarity * (FUNCTION_WORD_WEIGHT if word in FUNCTION_WORDS else 1)


WORDS = st.sampled_from(["cat", "dog", "the", "tea", "run", "blue"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["newer", "older", "drop"]),
        st.sampled_from([ONE, TWO, ConversationId("three")]),
        st.lists(WORDS, min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=30,
)


@given(STEPS, st.lists(WORDS, max_size=4, unique=True))
def test_scores_equal_the_definition_whatever_came_and_went(
    steps: list[tuple[str, ConversationId, list[str]]], query: list[str]
) -> None:
    index, plain, free, slots = LexicalIndex(), PlainIndex(), list[int](), 0
    for what, conversation, words in steps:
        if what == "drop":
            if plain.documents:
                slot, conversation, words = plain.documents.pop(0)  # noqa: PLW2901 - what went
                index.remove(slot, words, conversation)
                free.append(slot)
            continue
        if not free:
            free.append(slots)
            slots += 1
        slot = free.pop()
        index.add(slot, words, conversation, older=what == "older")
        place = 0 if what == "older" else len(plain.documents)
        plain.documents.insert(place, (slot, conversation, words))
    found = index.scores(query).first(slots)
    expected = plain.scores(query, slots)
    assert len(index) == len(plain.documents)
    for view in ("turn", "pair", "window", "conversation"):
        np.testing.assert_allclose(getattr(found, view), expected[view], rtol=1e-4, atol=1e-5)


def test_queries_asked_together_score_as_they_do_alone() -> None:
    index = LexicalIndex()
    for slot in range(30):
        words = ["tea"] * (slot % 3) + (["lemon"] if slot in (4, 17) else ["sugar"])
        index.add(slot, words, ConversationId(str(slot % 4)))
    queries: list[list[str]] = [["tea", "lemon"], [], ["sugar"]]
    for query, together in zip(queries, index.all_scores(queries), strict=True):
        for one, other in zip(index.scores(query), together, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_rare_word_outweighs_a_common_one() -> None:
    index = LexicalIndex()
    for slot in range(10):
        index.add(slot, ["tea", "lemon" if slot == 3 else "sugar"], ConversationId(str(slot)))
    turn = index.scores(["tea", "lemon"]).turn
    assert int(turn.argmax()) == 3


def test_words_that_occur_nowhere_count_in_the_weight_of_the_query() -> None:
    index = LexicalIndex()
    index.add(0, ["tea"], ONE)
    assert index.scores(["tea", "lemon"]).weight > 2 * index.scores(["tea"]).weight
    assert not index.scores(["lemon"]).turn.any()


def test_neighbours_are_those_of_the_same_conversation() -> None:
    index = LexicalIndex()
    index.add(0, ["lemon"], ONE)
    index.add(1, ["sugar"], TWO)
    index.add(2, ["tea"], ONE)
    pair = index.scores(["lemon"]).pair
    assert pair[2] > 0
    assert pair[1] == 0


def test_an_empty_index_and_an_empty_query_score_nothing() -> None:
    index = LexicalIndex()
    assert len(index.scores(["tea"]).turn) == 0
    index.add(0, ["tea"], ONE)
    assert index.scores([]).weight == 0
    assert not index.scores([]).conversation.any()


def test_what_was_removed_takes_no_room() -> None:
    index = LexicalIndex()
    index.add(0, ["tea"], ONE)
    before = index.size_bytes
    index.add(1, ["tea", "lemon", "lemon"], TWO)
    assert index.size_bytes > before
    index.remove(1, ["tea", "lemon", "lemon"], TWO)
    assert index.size_bytes - before <= 32
    assert not index.scores(["lemon"]).turn.any()


def test_concepts_are_found_and_make_no_message_longer() -> None:
    with_concepts, without = LexicalIndex(), LexicalIndex()
    with_concepts.add(0, ["mum"], ConversationId("a"), concepts=["\u22480"])
    without.add(0, ["mum"], ConversationId("a"))
    assert with_concepts.having("\u22480")[0]
    assert not without.having("\u22480").any()
    assert with_concepts.scores(["mum"]).turn[0] == without.scores(["mum"]).turn[0]
    with_concepts.remove(0, ["mum", "\u22480"], ConversationId("a"))
    assert not with_concepts.having("\u22480").any()
