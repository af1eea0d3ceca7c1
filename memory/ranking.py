"""Which memories answer a question: a linear fusion of words, meaning, speaker and place.

The weights are round and set by hand. ``docs/decisions/0004-plain-recall.md`` has the figures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memory.lexical import LexicalScores, Scores

PAIR = 2.0
"""BM25 over the message with its predecessor."""
WINDOW = 0.5
"""BM25 over the message with two before and two after."""
CONVERSATION = 1.0
"""BM25 over the whole conversation."""
MEANING = 2.5
"""Cosine, as a share of the best one."""
SPEAKER = 2.0
"""The question names who said it."""
LENGTH = 2.0
"""Long messages hold more facts than short ones."""
QUESTION = -0.5
"""Questions hold fewer than answers."""
PRODUCT = 2.0
"""Words around it and meaning at the same time."""

LONG_WORDS = 100
"""From here on, a message gains nothing from being longer."""
LEAST_BEST_COSINE = 0.3
"""When even the best cosine is below this, none of them says much."""
SCORE_SCALE = 4.0
"""A total of this much becomes a score of 0.63."""
LEAST_SHARE = 0.1
"""A signal that brought less than this part of the total is not named."""


class Traits(NamedTuple):
    """What is known of each message before any question, one entry per slot.

    ``words``: how many it has. ``asks``: it is a question. ``speaker``: a number per name.
    """

    words: Scores
    asks: npt.NDArray[np.bool_]
    speaker: npt.NDArray[np.int32]


class Ranking(NamedTuple):
    """``total`` orders the slots; the others are the parts of it that the question brought."""

    total: Scores
    words: Scores
    meaning: Scores
    speaker: Scores
    neighbour: Scores

    def score(self, slot: int) -> float:
        """The total squeezed into 0..1; keeps the order."""
        return float(-np.expm1(-max(float(self.total[slot]), 0.0) / SCORE_SCALE))

    def why(self, slot: int) -> tuple[str, ...]:
        """The signals that brought *slot* up, strongest first."""
        names = ("words", "meaning", "speaker", "neighbour")
        parts = {name: float(getattr(self, name)[slot]) for name in names}
        least = LEAST_SHARE * sum(parts.values())
        named = [name for name in names if parts[name] > 0 and parts[name] >= least]
        return tuple(sorted(named, key=lambda name: -parts[name]))


def rank(
    lexical: LexicalScores, cosine: Scores | None, traits: Traits, *, named: list[int]
) -> Ranking:
    """Weigh all slots for one question.

    *cosine* is ``None`` when the question has no vector; *named* are the numbers of the speakers
    whose names the question holds. Speakers are boosted, nothing is left out.

    BM25 is divided by the weight of all of the question's words, also those that occur nowhere:
    a question that shares only a few words with the memories is decided by meaning.
    """
    weight = lexical.weight or 1.0
    pair, window = lexical.pair / weight, lexical.window / weight
    alone = np.minimum(lexical.turn / weight, pair)
    near = _share_of_best(cosine) if cosine is not None else np.zeros_like(pair)
    words = PAIR * alone
    around = PAIR * (pair - alone) + WINDOW * window
    neighbour = around + CONVERSATION * (lexical.conversation / weight)
    meaning = MEANING * near + PRODUCT * window * near
    speaker = np.float32(SPEAKER) * np.isin(traits.speaker, named)
    length = LENGTH * np.minimum(np.log1p(traits.words) / np.log1p(LONG_WORDS), 1)
    total = words + neighbour + meaning + speaker + length + QUESTION * traits.asks
    parts = (total, words, meaning, speaker, neighbour)
    return Ranking(*(part.astype(np.float32, copy=False) for part in parts))


def _share_of_best(cosine: Scores) -> Scores:
    best = max(float(cosine.max(initial=0.0)), LEAST_BEST_COSINE)
    return (np.maximum(cosine, 0) / best).astype(np.float32)
