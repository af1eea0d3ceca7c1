from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.lexical import LexicalScores, Scores
from memory.ranking import Ranking, Traits, rank


def row(*values: float) -> Scores:
    return np.array(values, np.float32)


def lexical(
    *,
    turn: tuple[float, float] = (0, 0),
    pair: tuple[float, float] = (0, 0),
    window: tuple[float, float] = (0, 0),
    conversation: tuple[float, float] = (0, 0),
    weight: float = 4.0,
) -> LexicalScores:
    return LexicalScores(row(*turn), row(*pair), row(*window), row(*conversation), weight)


def traits(
    *, words: tuple[float, float] = (9, 9), asks: tuple[bool, bool] = (False, False)
) -> Traits:
    return Traits(row(*words), np.array(asks), np.array([0, 1], np.int32))


def test_own_words_win_and_are_named_first() -> None:
    ranking = rank(
        lexical(turn=(4, 0), pair=(4, 0), window=(4, 4)), row(0.1, 0.1), traits(), named=[]
    )
    assert ranking.total[0] > ranking.total[1]
    assert ranking.why(0)[0] == "words"
    assert ranking.why(0) == ("words", "meaning", "neighbour")
    assert "words" not in ranking.why(1)


def test_what_the_neighbour_says_is_not_taken_for_own_words() -> None:
    ranking = rank(lexical(pair=(4, 0), window=(4, 0)), None, traits(), named=[])
    assert ranking.why(0) == ("neighbour",)
    assert ranking.why(1) == ()


def test_meaning_decides_where_words_say_little() -> None:
    ranking = rank(
        lexical(turn=(0, 0.4), pair=(0, 0.4), window=(0, 0.4), weight=8.0),
        row(0.5, 0.1),
        traits(),
        named=[],
    )
    assert ranking.total[0] > ranking.total[1]
    assert ranking.why(0) == ("meaning",)


def test_a_named_speaker_is_lifted_and_nobody_left_out() -> None:
    ranking = rank(lexical(), row(0.3, 0.3), traits(), named=[1])
    assert ranking.total[1] > ranking.total[0] > 0
    assert "speaker" in ranking.why(1)
    assert "speaker" not in ranking.why(0)


def test_a_question_gives_way_to_a_statement() -> None:
    ranking = rank(lexical(), None, traits(asks=(True, False)), named=[])
    assert ranking.total[1] > ranking.total[0]


def test_longer_is_better_up_to_a_length() -> None:
    assert np.diff(rank(lexical(), None, traits(words=(3, 30)), named=[]).total)[0] > 0
    assert np.diff(rank(lexical(), None, traits(words=(500, 900)), named=[]).total)[0] == 0


def test_a_vector_pointing_away_does_no_harm() -> None:
    ranking = rank(lexical(), row(-0.9, 0.0), traits(), named=[])
    assert ranking.total[0] == ranking.total[1]


def test_an_unrelated_best_vector_does_not_count_in_full() -> None:
    far = rank(lexical(), row(0.05, 0.0), traits(), named=[])
    near = rank(lexical(), row(0.6, 0.0), traits(), named=[])
    assert far.meaning[0] < near.meaning[0] / 2


def test_a_question_without_any_word_is_ranked() -> None:
    ranking = rank(lexical(weight=0.0), row(0.1, 0.4), traits(), named=[])
    assert np.isfinite(ranking.total).all()


@given(st.lists(st.floats(-2, 40, width=32), min_size=2, max_size=2))
def test_scores_lie_between_0_and_1_and_keep_the_order(totals: list[float]) -> None:
    nothing = row(0, 0)
    ranking = Ranking(row(*totals), nothing, nothing, nothing, nothing)
    first, second = ranking.score(0), ranking.score(1)
    assert 0 <= first <= 1
    if totals[0] > totals[1]:
        assert first >= second
        if totals[1] > 0 and totals[0] - totals[1] > 0.01 and totals[0] < 30:
            assert first > second


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_signal_that_brought_next_to_nothing_is_not_named(share: float) -> None:
    ranking = Ranking(row(1), row(1), row(share), row(0), row(0))
    assert ranking.why(0) == ("words",)
