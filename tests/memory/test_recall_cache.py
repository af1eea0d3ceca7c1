"""Answers of recall that are given again."""

from __future__ import annotations

from functools import partial
from itertools import count

import anyio
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.hot_memory import HotMemory
from memory.messages import ConversationId, Message, MessageId, UserId, Vector
from memory.recall_cache import LIFE_S, RecallCache, Sought
from memory.recalled import Recall

ANN, BEN = UserId("ann"), UserId("ben")
ROOMY = 10_000_000
NOW_S = 1_000_000.0
WORDS = ("tea", "boat", "dog", "rain")
VECTOR: Vector = np.eye(1, 4, dtype=np.float32)[0]
NOTHING: Vector = np.zeros(4, np.float32)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(number: int, text: str = "tea") -> Message:
    return Message(
        id=MessageId(f"m{number}"),
        user=ANN,
        conversation=ConversationId("c"),
        role="user",
        text=f"{text} {number}",
        timestamp=float(number),
        depth=number,
    )


def memories(messages: int) -> HotMemory:
    made = HotMemory(max_messages=100, max_bytes=ROOMY)
    for number in range(messages):
        made.add(said(number), VECTOR)
    made.read_to_end = True
    return made


class Searches:
    """Searches through a cache, and counts those that were real."""

    def __init__(self, cache: RecallCache) -> None:
        self.cache = cache
        self.made = 0
        self.gate: anyio.Event | None = None

    async def search(
        self, here: HotMemory, text: str = "tea", limit: int = 3, **more: object
    ) -> Recall:
        async def find(depth: int) -> Recall:
            self.made += 1
            found = here.search(text, VECTOR, limit=depth, asked_at=NOW_S)
            if self.gate is not None:
                await self.gate.wait()
            return found

        user = more.get("user", ANN)
        exclude = more.get("exclude", frozenset())
        assert isinstance(user, str)
        assert isinstance(exclude, frozenset)
        sought = Sought(UserId(user), text, embedded=True, day=0)
        return await self.cache.search(sought, here, find, limit=limit, exclude=exclude)


async def test_the_same_search_is_done_once() -> None:
    searches, here = Searches(RecallCache()), memories(9)
    first, second = await searches.search(here), await searches.search(here)
    assert searches.made == 1
    assert first.items == second.items
    assert (searches.cache.hits, searches.cache.misses) == (1, 1)


async def test_a_change_makes_the_next_search_a_real_one() -> None:
    searches, here = Searches(RecallCache()), memories(3)
    await searches.search(here, limit=9)
    here.add(said(50), VECTOR)
    assert "m50" in [item.id for item in (await searches.search(here, limit=9)).items]
    assert searches.made == 2


async def test_memories_that_were_read_anew_are_searched_anew() -> None:
    searches = Searches(RecallCache())
    await searches.search(memories(3))
    assert (await searches.search(memories(0))).items == ()


async def test_what_the_window_holds_is_left_out_of_a_kept_answer() -> None:
    searches, here = Searches(RecallCache()), memories(9)
    best = (await searches.search(here)).items[0].id
    again = await searches.search(here, exclude=frozenset({best}))
    assert searches.made == 1
    assert len(again.items) == 3
    assert best not in [item.id for item in again.items]


async def test_an_answer_that_is_too_short_is_searched_for_again() -> None:
    searches, here = Searches(RecallCache()), memories(60)
    await searches.search(here, limit=1)
    assert len((await searches.search(here, limit=50)).items) == 50
    assert searches.made == 2


async def test_answers_are_kept_for_ten_minutes() -> None:
    clock = Clock()
    searches, here = Searches(RecallCache(clock=clock)), memories(3)
    await searches.search(here)
    clock.now = LIFE_S
    await searches.search(here)
    assert searches.made == 2


async def test_answers_take_a_bounded_number_of_bytes() -> None:
    cache = RecallCache(most_bytes=20_000)
    searches, here = Searches(cache), memories(9)
    for number in range(50):
        await searches.search(here, f"tea {number}")
        assert cache.size_bytes <= 20_000
    made = searches.made
    await searches.search(here, "tea 49")
    await searches.search(here, "tea 0")
    assert searches.made == made + 1


async def test_users_are_apart_and_forgotten_one_by_one() -> None:
    cache = RecallCache()
    searches, here, others = Searches(cache), memories(3), memories(2)
    await searches.search(here)
    assert len((await searches.search(others, user=BEN)).items) == 2
    cache.forget(BEN)
    await searches.search(here)
    assert searches.made == 2
    cache.forget(ANN)
    assert cache.size_bytes == 0


async def test_equal_searches_in_flight_are_one() -> None:
    searches, here, found = Searches(RecallCache()), memories(9), list[Recall]()
    searches.gate = anyio.Event()

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            found.append(await searches.search(here, limit=20))

    scopes = [anyio.CancelScope() for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for scope in scopes[:3]:
            tasks.start_soon(ask, scope)
        await anyio.wait_all_tasks_blocked()
        assert searches.made == 1
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        assert searches.made == 2
        here.add(said(50), VECTOR)
        tasks.start_soon(ask, scopes[3])
        await anyio.wait_all_tasks_blocked()
        assert searches.made == 3
        searches.gate.set()
    assert sorted("m50" in [item.id for item in each.items] for each in found) == [
        False,
        False,
        True,
    ]


async def test_what_changed_while_it_was_searched_is_not_kept() -> None:
    searches, here = Searches(RecallCache()), memories(3)
    searches.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(searches.search, here)
        await anyio.wait_all_tasks_blocked()
        here.add(said(50), VECTOR)
        searches.gate.set()
    assert searches.cache.size_bytes == 0


STEPS = st.one_of(
    st.tuples(st.just("search"), st.sampled_from(WORDS), st.integers(1, 30)),
    st.tuples(st.just("add"), st.sampled_from(WORDS), st.integers(0, 1)),
    st.tuples(st.sampled_from(["fill", "read_anew", "forget", "later"]), st.just(""), st.just(0)),
)


@given(st.lists(STEPS, max_size=40), st.frozensets(st.integers(0, 40), max_size=20))
def test_no_answer_is_ever_stale(
    steps: list[tuple[str, str, int]], in_window: frozenset[int]
) -> None:
    """Every answer is the one that a search without a cache gives at that moment."""
    clock = Clock()
    cache, numbers = RecallCache(clock=clock, most_bytes=60_000), count()
    here, kept = memories(0), list[Message]()
    hidden = frozenset(MessageId(f"m{number}") for number in in_window)
    for step, word, number in steps:
        if step == "add":
            kept.append(said(next(numbers), word))
            here.add(kept[-1], VECTOR if number else NOTHING)
        elif step == "fill" and kept:
            here.fill(kept[-1].id, VECTOR)
        elif step == "read_anew":
            here = memories(0)
            for message in kept:
                here.add(message, VECTOR)
        elif step == "forget":
            here, kept = memories(0), []
        elif step == "later":
            clock.now += LIFE_S / 3
        elif step == "search":
            answer = anyio.run(partial(Searches(cache).search, here, word, number, exclude=hidden))
            plain = here.search(word, VECTOR, limit=number, exclude=hidden, asked_at=NOW_S)
            assert answer.items == plain.items
            assert answer.partial == plain.partial
