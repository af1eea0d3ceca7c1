from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.background import MANY, RUNNERS_UP, SCARCE, TYPICAL, background, own_evidence
from memory.bm25 import Scores
from memory.embedding import Embedded
from memory.hot_memory import HotMemory
from memory.messages import ConversationId, Message, MessageId, Role, UserId
from memory.onnx_embedder import OnnxEmbedder
from memory.ranking import RELEVANT

FACTS = {
    "My dog is called Biscuit.": (
        "What is my dog called?",
        "what is my puppy's name?",
        "Who is Biscuit?",
    ),
    "The printer needs toner TN-2410.": (
        "Which toner does the printer need?",
        "What cartridge do I have to buy?",
    ),
    "Rui plays the cello.": ("Who plays the cello?", "does anybody play an instrument?"),
    "I moved to Lisbon in March because of my new job at a bakery.": (
        "When did I move to Lisbon?",
        "where do I live now?",
        "Why did I change cities?",
    ),
    "My sister Ana is allergic to peanuts.": (
        "What is Ana allergic to?",
        "Which food must my sister avoid?",
    ),
}
UNRELATED_QUESTIONS = (
    "What is the capital of Mongolia?",
    "Write a haiku about snow",
    "how do I boil an egg",
    "How do I reverse a list in Python?",
    "Translate good night into French",
    "What is 17 times 23?",
    "Who won the 1998 world cup?",
    "How far is the moon from the earth?",
    "what is the weather like in Oslo today?",
    "Tell me a joke",
    "Give me a recipe for pancakes",
)
MANY_TOTALS = st.lists(st.floats(0, 20, width=32), min_size=MANY, max_size=MANY + 6)


def of(totals: list[float], *, words: float = 9.0, own: float | None = 0.0) -> float:
    count = len(totals)
    return background(
        np.array(totals, np.float32),
        np.full(count, words, np.float32),
        np.ones(count, np.bool_),
        None if own is None else np.full(count, own, np.float32),
    )


@given(MANY_TOTALS, st.floats(0, 9))
def test_among_many_it_is_the_sixth_best_whatever_they_have(
    totals: list[float], own: float
) -> None:
    assert of(totals, own=own) == sorted(totals)[-RUNNERS_UP]


def test_with_fewer_it_is_what_is_typical_and_less_the_more_they_have() -> None:
    assert of([9.0], own=0.0) == of([9.0], own=0.5) == TYPICAL
    assert of([9.0], own=5.0) == TYPICAL - SCARCE
    assert of([9.0], own=5.0) < of([9.0], own=1.4) < of([9.0], own=1.0) < TYPICAL


def test_between_few_and_many_what_is_typical_counts_less_and_less() -> None:
    found = [of([3.0] * count, own=0.0) for count in range(RUNNERS_UP, MANY + 1)]
    assert found[0] == TYPICAL
    assert found == sorted(found, reverse=True)
    assert found[-1] == 3


def test_where_all_is_asked_for_the_few_need_nothing() -> None:
    assert of([9.0, 3.0], own=None) == 0


def test_messages_of_a_word_or_two_do_not_make_others_comparable() -> None:
    assert of([3.0] * 9, words=1.0, own=0.0) == TYPICAL
    assert of([9.0] * 9, words=1.0, own=0.0) == 9
    assert of([3.0] * 9, words=3.0, own=0.0) < TYPICAL


def test_a_vector_pointing_away_is_no_evidence() -> None:
    own: Scores = own_evidence(np.array([1, 0], np.float32), np.array([-0.5, 0.5], np.float32))
    assert own[0] == 1
    assert own[1] > 1


@pytest.fixture(scope="module")
def embedded(prepared_model_folder: Path) -> dict[str, Embedded]:
    questions = [each for asked in FACTS.values() for each in asked]
    return anyio.run(embed, prepared_model_folder, [*FACTS, "OK", *questions, *UNRELATED_QUESTIONS])


async def embed(folder: Path, texts: list[str]) -> dict[str, Embedded]:
    embedder = OnnxEmbedder.open(folder, threads=1)
    try:
        return dict(zip(texts, await embedder.embed_marked(texts), strict=True))
    finally:
        await embedder.aclose()


def remembered(embedded: dict[str, Embedded], count: int, *, together: bool) -> HotMemory:
    """The first *count* facts with a reply each, in one conversation or one for each."""
    memory = HotMemory(max_messages=100, max_bytes=10_000_000)
    for number, fact in enumerate(list(FACTS)[:count]):
        lines: tuple[tuple[Role, str], ...] = (("user", fact), ("assistant", "OK"))
        for place, (role, text) in enumerate(lines):
            message = Message(
                id=MessageId(text if role == "user" else f"reply-{number}"),
                user=UserId("ada"),
                conversation=ConversationId("one" if together else f"talk-{number}"),
                role=role,
                text=text,
                timestamp=float(2 * number + place),
                depth=2 * number + place,
            )
            memory.add(message, embedded[text].vector, marks=embedded[text].marks.rarest())
    return memory


def relevant(memory: HotMemory, question: str, embedded: dict[str, Embedded]) -> list[str]:
    asked = embedded[question]
    found = memory.search(question, asked.vector, limit=10, marks=asked.marks, asked_at=1e9)
    return [item.id for item in found.items if item.score >= RELEVANT]


@pytest.mark.model_files
@pytest.mark.parametrize("talks", ["one", "several"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_what_fits_is_relevant_to_a_new_user_and_nothing_else(
    embedded: dict[str, Embedded], count: int, talks: str
) -> None:
    memory = remembered(embedded, count, together=talks == "one")
    for fact in list(FACTS)[:count]:
        for question in FACTS[fact]:
            assert relevant(memory, question, embedded)[:1] == [fact], question
    unrelated = [len(relevant(memory, each, embedded)) for each in UNRELATED_QUESTIONS]
    # A recipe is after something like the bakery, which is among the five.
    assert sum(unrelated[:3]) == 0
    assert sum(unrelated) <= (0 if count < 5 else len(unrelated) / 2)
