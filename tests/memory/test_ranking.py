from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.bm25 import LexicalScores, Scores
from memory.late_interaction import SlotMarks
from memory.lexical_views import Links
from memory.question import Question, read_question
from memory.ranking import (
    MEANING,
    MEANT_CONVERSATION,
    RELEVANT,
    Evidence,
    Ranking,
    Traits,
    rank,
)
from memory.time_expressions import Span
from memory.token_marks import TokenMarks

PLAIN = read_question("where is it", marks=None, asked_at=0.0)


def row(*values: float) -> Scores:
    return np.array(values, np.float32)


def lexical(
    slots: int,
    *,
    turn: tuple[float, ...] = (),
    pair: tuple[float, ...] = (),
    window: tuple[float, ...] = (),
    weight: float = 4.0,
) -> LexicalScores:
    nothing = np.zeros(slots, np.float32)
    return LexicalScores(
        turn=row(*turn) if turn else nothing,
        pair=row(*pair) if pair else nothing,
        window=row(*window) if window else nothing,
        conversation=nothing,
        weight=weight,
    )


def flags(slots: int, *yes: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(slots), yes)


def traits(slots: int, **known: npt.NDArray[Any]) -> Traits:
    nobody = flags(slots)
    plain = Traits(
        words=np.full(slots, 9, np.float32),
        asks=nobody,
        named=nobody,
        by_user=nobody,
        by_assistant=nobody,
        figure=nobody,
        code=nobody,
        times=np.arange(slots, dtype=np.float64),
    )
    return plain._replace(**known)


def apart(slots: int) -> Links:
    """Each message in a conversation of its own."""
    nowhere = np.full(slots + 1, -1, np.int32)
    return Links(nowhere, nowhere, np.arange(1, slots + 2, dtype=np.int32))


def ranked(question: Question = PLAIN, *, slots: int = 2, **known: Any) -> Ranking:
    """Nothing but what is *known* speaks for any of the *slots*."""
    evidence = Evidence(
        words=lexical(slots),
        concepts=lexical(slots),
        cosine=None,
        marks=None,
        links=apart(slots),
        traits=traits(slots),
    )
    return rank(question, evidence._replace(**known))


def test_own_words_win_and_are_named_first() -> None:
    ranking = ranked(words=lexical(2, turn=(4, 0), pair=(4, 0), window=(4, 4)))
    assert ranking.total[0] > ranking.total[1]
    assert ranking.why(0) == ("words",)
    assert ranking.why(1) == ("neighbour",)


def test_what_the_neighbour_says_is_not_taken_for_own_words() -> None:
    ranking = ranked(words=lexical(2, pair=(4, 0), window=(4, 0)))
    assert ranking.why(0) == ("neighbour",)
    assert ranking.why(1) == ()


def test_meaning_decides_where_words_say_little() -> None:
    ranking = ranked(
        words=lexical(2, turn=(0, 0.4), pair=(0, 0.4), window=(0, 0.4), weight=8.0),
        cosine=row(0.5, 0.1),
    )
    assert ranking.total[0] > ranking.total[1]
    assert ranking.why(0)[0] == "meaning"


def test_concepts_count_where_the_questions_own_words_do_not_occur() -> None:
    meant = lexical(2, turn=(3, 0), pair=(3, 0), window=(3, 0))
    assert ranked(concepts=meant).total[0] > ranked(concepts=meant).total[1]
    shared = lexical(2, turn=(4, 4), pair=(4, 4), window=(4, 4))
    equal = ranked(words=shared, concepts=meant)
    assert equal.total[0] == equal.total[1]


def test_a_named_speaker_is_lifted_and_nobody_left_out() -> None:
    ranking = ranked(cosine=row(0.3, 0.3), traits=traits(2, named=flags(2, 1)))
    assert ranking.total[1] > ranking.total[0] > 0
    assert "speaker" in ranking.why(1)
    assert "speaker" not in ranking.why(0)


def test_the_user_is_asked_about_unless_the_question_is_after_the_assistants_words() -> None:
    known = traits(2, by_user=flags(2, 0), by_assistant=flags(2, 1))
    assert np.diff(ranked(traits=known).total)[0] < 0
    told = read_question("Which lock did you recommend?", marks=None, asked_at=0.0)
    assert np.diff(ranked(told, traits=known).total)[0] > 0


@pytest.mark.parametrize(
    ("question", "trait"),
    [("How much was the rent?", "figure"), ("What was the formula in the cell?", "code")],
)
def test_an_answer_of_the_kind_that_is_asked_for_is_lifted(question: str, trait: str) -> None:
    known = traits(2, **{trait: flags(2, 1)})
    asked = read_question(question, marks=None, asked_at=0.0)
    assert np.diff(ranked(asked, traits=known).total)[0] > 0
    assert np.diff(ranked(traits=known).total)[0] == 0


def test_a_named_time_lifts_what_was_said_then() -> None:
    asked = PLAIN._replace(times=[Span(0.5, 1.5)])
    ranking = ranked(asked)
    assert ranking.total[1] > ranking.total[0]
    assert ranking.why(1) == ("time",)


def test_the_newest_is_lifted_where_the_question_asks_how_it_is_now() -> None:
    asked = read_question("Where do I work these days?", marks=None, asked_at=0.0)
    ranking = ranked(asked)
    assert ranking.total[1] > ranking.total[0]
    assert ranking.why(1) == ("recency",)
    assert np.diff(ranked().total)[0] == 0


def test_a_question_gives_way_to_a_statement() -> None:
    ranking = ranked(traits=traits(2, asks=flags(2, 0)))
    assert ranking.total[1] > ranking.total[0]


def test_longer_is_better_up_to_a_length() -> None:
    assert np.diff(ranked(traits=traits(2, words=row(3, 30))).total)[0] > 0
    assert np.diff(ranked(traits=traits(2, words=row(500, 900))).total)[0] == 0


def test_a_vector_pointing_away_does_no_harm() -> None:
    ranking = ranked(cosine=row(-0.9, 0.0))
    assert ranking.total[0] == ranking.total[1]


def test_pieces_that_fit_lift_a_message_and_those_beside_it() -> None:
    bits = np.random.default_rng(3).integers(0, 1 << 63, (4, 6), np.uint64)
    marks = SlotMarks(
        np.arange(4, dtype=np.uint16), bits, np.arange(4, dtype=np.int32), np.ones(4, np.int32)
    )
    asked = PLAIN._replace(marks=TokenMarks(np.array([2], np.uint16), bits[2:3]))
    nowhere = np.full(5, -1, np.int32)
    previous, following = nowhere.copy(), nowhere.copy()
    previous[3], following[2] = 2, 3
    links = Links(previous, following, np.array([1, 2, 3, 3, 0], np.int32))
    ranking = ranked(asked, slots=4, marks=marks, links=links)
    assert ranking.total[2] > ranking.total[3] > max(ranking.total[:2])
    assert ranking.why(2) == ("neighbour", "meaning")
    assert ranking.why(3) == ("neighbour",)


def test_the_question_itself_among_the_memories_does_not_dim_the_others() -> None:
    cosine = row(0.4, 0.3, 0.2, 0.1)
    alone = ranked(slots=4, cosine=cosine)
    with_echo = ranked(slots=5, cosine=np.append(cosine, row(1.0)))
    np.testing.assert_allclose(with_echo.total[:4], alone.total)


def test_what_stands_out_scores_high_and_what_many_are_like_is_not_relevant() -> None:
    asked = PLAIN._replace(words=["a"] * 9)
    known = traits(20, by_user=flags(20, *range(20)))
    equal = ranked(asked, slots=20, cosine=np.full(20, 0.4, np.float32), traits=known)
    assert equal.score(0) < RELEVANT
    words = lexical(20, turn=(4, *[0] * 19), pair=(4, *[0] * 19), window=(4, *[0] * 19))
    outstanding = ranked(asked, slots=20, words=words, traits=known)
    assert outstanding.score(0) > max(RELEVANT, outstanding.score(1))


def test_of_the_few_messages_of_a_new_user_those_are_relevant_that_fit() -> None:
    known = traits(3, by_user=flags(3, 0, 1, 2))
    ranking = ranked(slots=3, cosine=row(0.5, 0.1, 0.1), traits=known)
    assert ranking.score(0) > RELEVANT > max(ranking.score(1), ranking.score(2))
    strange = ranked(slots=3, cosine=row(0.2, 0.1, 0.1), traits=known)
    assert max(strange.score(slot) for slot in range(3)) < RELEVANT


def test_all_of_the_few_are_relevant_where_all_is_asked_for() -> None:
    asked = read_question("What do you know about me?", marks=None, asked_at=0.0)
    ranking = ranked(asked, slots=3, cosine=row(0.2, 0.1, 0.1))
    assert min(ranking.score(slot) for slot in range(3)) > RELEVANT


@given(st.lists(st.floats(-1, 0.99), min_size=1, max_size=12))
def test_scores_lie_in_0_to_1_and_keep_the_order(cosines: list[float]) -> None:
    ranking = ranked(slots=len(cosines), cosine=row(*cosines))
    scores = [ranking.score(slot) for slot in range(len(cosines))]
    assert all(0 <= score <= 1 for score in scores)
    order = np.argsort(-ranking.total, kind="stable")
    assert all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-0.2, 0.0, 0.3, 0.5, 0.9]))))
def test_a_conversation_counts_by_the_mean_of_its_three_best_cosines(
    said: list[tuple[int, float]],
) -> None:
    said = [(1, 0.9), *said]
    slots, talks = len(said), np.array([talk for talk, _ in said] + [0], np.int32)
    cosine = row(*(value for _, value in said))
    ranking = ranked(slots=slots, cosine=cosine, links=apart(slots)._replace(talk=talks))
    near = np.maximum(cosine, 0) / 0.9
    for slot, (talk, _) in enumerate(said):
        best = sorted((near[each] for each, (other, _) in enumerate(said) if other == talk))[-3:]
        brought = ranking.meaning[slot] + ranking.neighbour[slot] - MEANING * near[slot]
        assert brought == pytest.approx(MEANT_CONVERSATION * np.mean(best), abs=1e-5)
