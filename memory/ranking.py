"""Which memories answer a question: words, meaning, concepts, late interaction, place, speaker.

The weights are round; ``docs/decisions/0013-ranking.md`` has the figures and what they are from.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memory.background import background, own_evidence
from memory.bm25 import LexicalScores, Scores
from memory.late_interaction import SlotMarks, late_interaction
from memory.lexical_views import Links, Slots
from memory.question import Question

TURN = 1.0
"""BM25 over the message alone."""
PAIR = 1.5
"""BM25 over the message with its predecessor."""
WINDOW = 1.5
"""BM25 over the message with two before and two after."""
CONVERSATION = 1.5
"""BM25 over the whole conversation."""
CONCEPT_PAIR = 1.5
"""BM25 of the question's concepts over the message with its predecessor."""
CONCEPT_WINDOW = 1.0
"""The same with two before and two after."""
MEANING = 2.5
"""Cosine, as a share of the best one."""
MEANT_CONVERSATION = 1.5
"""The mean of the conversation's three best cosines."""
PIECES = 1.0
"""Late interaction with the message."""
PIECES_AROUND = 1.5
"""Late interaction with the message, two before and two after."""
SPEAKER = 3.0
"""The question names who said it."""
ROLE = 2.0
"""The user said it; where the question is after the assistant's words, the assistant. Half as
much where the question is in the memories' own words."""
LENGTH = 2.0
"""Long messages hold more facts than short ones."""
QUESTION = -1.0
"""Questions hold fewer than answers."""
NUMBER = 1.0
"""It has a figure, and the question asks for one."""
CODE = 2.5
"""It has code, and the question asks for some."""
TIME = 1.0
"""It was said at a time that the question names."""
RECENCY = 1.0
"""The newest, where the question asks how something is now."""

LONG_WORDS = 100
"""From here on, a message gains nothing from being longer."""
LEAST_BEST_COSINE = 0.3
"""When even the best cosine is below this, none of them says much."""
LEAST_CONCEPT_WEIGHT = 3.0
"""A single common concept does not make a match."""
FOREIGN_SHARE, SHARED_SHARE = 0.2, 0.6
"""Between these shares of the question's words in the best message, trust goes from concepts to
words: a question in the memories' own words is decided by these, a paraphrase is not."""
ECHO = 0.998
"""A message this near is the question itself, which may be stored already: neither it nor what
stands around it says how well the memories can answer."""
RELEVANT = 0.14
"""Items below this score are not put into a prompt."""
LEAST_SHARE = 0.1
"""A signal that brought less than this part of the total is not named."""

PARTS = ("words", "meaning", "neighbour", "time", "speaker", "recency")
_TAKEN = -1.0


class Traits(NamedTuple):
    """What is known of each message before any question, one entry per slot.

    ``words``: how many it has. ``asks``: it is a question. ``named``: its speaker's name is in the
    question. ``by_user``, ``by_assistant``: who said it, where it has no named author. ``figure``,
    ``code``: it has some. ``times``: when, in seconds since the epoch.
    """

    words: Scores
    asks: npt.NDArray[np.bool_]
    named: npt.NDArray[np.bool_]
    by_user: npt.NDArray[np.bool_]
    by_assistant: npt.NDArray[np.bool_]
    figure: npt.NDArray[np.bool_]
    code: npt.NDArray[np.bool_]
    times: npt.NDArray[np.float64]


class Evidence(NamedTuple):
    """All that speaks for the slots. ``cosine`` and ``marks`` are ``None`` when the question has
    no vector. ``links`` has one entry more than there are slots, or several.
    """

    words: LexicalScores
    concepts: LexicalScores
    cosine: Scores | None
    marks: SlotMarks | None
    links: Links
    traits: Traits


class Ranking(NamedTuple):
    """``total`` orders the slots; the next six are the parts of it that the question brought.

    ``background``: the total that is no merit, usually the sixth best. ``asked``: how many words
    the question has.
    """

    total: Scores
    words: Scores
    meaning: Scores
    neighbour: Scores
    time: Scores
    speaker: Scores
    recency: Scores
    background: float
    asked: int

    def score(self, slot: int) -> float:
        """The chance that *slot* is among what answers the question, 0..1; keeps the order.

        A logistic function of how far it is above the sixth best, how good that one is (where
        many fit as well, none is meant), and how much the question says. Among fewer than six
        messages, above what is typical of those that do not answer.
        """
        margin = float(self.total[slot]) - self.background
        odds = 0.75 * margin - 0.45 * self.background + math.log1p(self.asked) - 2.0
        return 1 / (1 + math.exp(-odds))

    def why(self, slot: int) -> tuple[str, ...]:
        """The signals that brought *slot* up, strongest first."""
        parts = {name: float(part[slot]) for name, part in zip(PARTS, self[1:7], strict=True)}
        least = LEAST_SHARE * sum(parts.values())
        named = [name for name, part in parts.items() if part > 0 and part >= least]
        return tuple(sorted(named, key=lambda name: -parts[name]))


def rank(question: Question, evidence: Evidence) -> Ranking:
    """Weigh all slots for one question: everything is boosted, nothing is left out.

    BM25 is divided by the weight of all of the question's words, also those that occur nowhere.
    """
    slots = len(evidence.traits.words)
    links = _inner(evidence.links, slots)
    cosine = evidence.cosine if evidence.cosine is not None else np.zeros(slots, np.float32)
    apart = _apart(cosine, links)
    trust = _trust(evidence.words, apart)
    words, around = _lexical(evidence, trust)
    best = np.float32(max(float(cosine[apart].max(initial=0.0)), LEAST_BEST_COSINE))
    near: Scores = (np.maximum(cosine, 0) / best).astype(np.float32)
    talk = _three_best(np.minimum(near, 1), links.talk)
    meaning = MEANING * near + np.float32(MEANT_CONVERSATION) * np.minimum(near, talk)
    neighbour = around + MEANT_CONVERSATION * np.maximum(talk - near, 0)
    time, speaker, recency = _asked_for(question, evidence.traits)
    total = (
        words + meaning + neighbour + time + speaker + recency + _fitting(question, evidence, trust)
    )
    if question.marks is not None and evidence.marks is not None and len(question.marks.ids):
        alone, together = late_interaction(question.marks, evidence.marks, links, total, apart)
        meaning = meaning + PIECES * alone
        neighbour = neighbour + PIECES_AROUND * together
        total = total + PIECES * alone + PIECES_AROUND * together
    return Ranking(
        total=total.astype(np.float32, copy=False),
        words=words,
        meaning=meaning.astype(np.float32, copy=False),
        neighbour=neighbour,
        time=time,
        speaker=speaker,
        recency=recency,
        background=background(
            total,
            evidence.traits.words,
            apart,
            None if question.asks_all else own_evidence(words, cosine),
        ),
        asked=len(question.words),
    )


def _apart(cosine: Scores, links: Links) -> npt.NDArray[np.bool_]:
    """The slots that are neither the question itself nor within two of it."""
    apart = np.ones(len(cosine) + 1, np.bool_)
    echoes = np.flatnonzero(cosine > ECHO)
    if len(echoes):
        before, after = links.previous[echoes], links.following[echoes]
        for touched in (echoes, before, after, links.previous[before], links.following[after]):
            apart[touched] = False
    return apart[:-1] if apart[:-1].any() else np.ones(len(cosine), np.bool_)


def _trust(said: LexicalScores, apart: npt.NDArray[np.bool_]) -> float:
    """0..1: how far the question is in the memories' own words."""
    best = float(said.pair[apart].max(initial=0.0)) / (said.weight or 1.0)
    return min(max((best - FOREIGN_SHARE) / (SHARED_SHARE - FOREIGN_SHARE), 0.0), 1.0)


def _lexical(evidence: Evidence, trust: float) -> tuple[Scores, Scores]:
    """What words and concepts of the message itself bring, and what those around it do."""
    said, meant = evidence.words, evidence.concepts
    weight = said.weight or 1.0
    pair = said.pair / weight
    alone = np.minimum(said.turn / weight, pair)
    concept_weight = max(meant.weight, LEAST_CONCEPT_WEIGHT)
    concept = np.minimum(meant.turn, meant.pair) / concept_weight
    own, around = (0.5 + trust) * TURN * alone, np.zeros_like(alone)
    for share, mine, view in (
        ((0.5 + trust) * PAIR, alone, pair),
        ((0.5 + trust) * WINDOW, alone, said.window / weight),
        ((0.5 + trust) * CONVERSATION, alone, said.conversation / weight),
        ((1 - trust) * CONCEPT_PAIR, concept, meant.pair / concept_weight),
        ((1 - trust) * CONCEPT_WINDOW, concept, meant.window / concept_weight),
    ):
        own = own + np.float32(share) * np.minimum(mine, view)
        around = around + np.float32(share) * np.maximum(view - mine, 0)
    return own.astype(np.float32), around.astype(np.float32)


def _asked_for(question: Question, traits: Traits) -> tuple[Scores, Scores, Scores]:
    """What the time, the speaker and the age of each message bring."""
    zeros = np.zeros(len(traits.words), np.float32)
    time, recency = zeros, zeros
    for span in question.times:
        inside = (traits.times >= span.start) & (traits.times < span.end)
        time = np.maximum(time, np.float32(TIME) * inside)
    if question.asks_now and len(zeros) > 1:
        order = np.argsort(np.where(traits.words > 0, traits.times, -np.inf), kind="stable")
        recency = zeros.copy()
        recency[order] = np.linspace(0, RECENCY, len(zeros), dtype=np.float32)
    speaker: npt.NDArray[np.floating] = SPEAKER * traits.named
    if question.asks_reply:
        speaker = speaker + ROLE * traits.by_assistant
    return time, speaker.astype(np.float32), recency


def _fitting(question: Question, evidence: Evidence, trust: float) -> Scores:
    """What the kind of each message brings."""
    traits = evidence.traits
    length = np.minimum(np.log1p(traits.words) / np.log1p(LONG_WORDS), 1)
    fitting: npt.NDArray[np.floating] = LENGTH * length + QUESTION * traits.asks
    if not question.asks_reply:
        fitting = fitting + ROLE * (1 - trust / 2) * traits.by_user
    if question.asks_number:
        fitting = fitting + NUMBER * traits.figure
    if question.asks_code:
        fitting = fitting + CODE * traits.code
    return fitting.astype(np.float32)


def _three_best(near: Scores, talk: Slots) -> Scores:
    """The mean of the three best of each slot's conversation; *near* is not negative."""
    talk = talk[: len(near)].astype(np.intp)
    sizes = np.bincount(talk)
    sums = np.zeros(len(sizes), np.float32)
    left = near.copy()
    # No sorting: the best of each conversation is found and taken away, three times.
    for place in range(3):
        best = np.full(len(sizes), _TAKEN, np.float32)
        np.maximum.at(best, talk, left)
        has = sizes > place
        sums += np.where(has, best, np.float32(0))
        found = np.flatnonzero(left == best.take(talk))
        one_each = np.zeros(len(sizes), np.intp)
        one_each[talk[found]] = found
        left[one_each[has]] = _TAKEN
    counted: Scores = np.clip(sizes, 1, 3).astype(np.float32)
    means: Scores = sums / counted
    return means.take(talk)


def _inner(links: Links, slots: int) -> Links:
    """*links* of the first *slots*, and of one behind them, which is nowhere."""
    if len(links.previous) < slots:
        raise AssertionError("there are more slots than links")
    previous, following = links.previous[: slots + 1].copy(), links.following[: slots + 1].copy()
    for link in (previous, following):
        link[link < 0] = slots
        link[slots] = slots
    return Links(previous, following, links.talk[:slots])
