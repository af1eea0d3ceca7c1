"""What would go into a prompt: how much, and how much of it belongs there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bench.recall_data import Question
from chat_server.prompt import estimated_tokens
from memory.ranking import RELEVANT
from memory.recalled import Recalled

TOP = 5


class Injected(NamedTuple):
    """For one question: how many items, how many of them are evidence, their tokens, and the
    share of the evidence that is among them.
    """

    items: int
    hits: int
    tokens: int
    recall: float


def injected(question: Question, found: Iterable[Recalled], *, threshold: bool) -> Injected:
    """What of *found*, best first, goes into the prompt, with or without the threshold."""
    kept = [item for item in found if not threshold or item.score >= RELEVANT][:TOP]
    hits = len(question.evidence & {item.id for item in kept})
    return Injected(
        items=len(kept),
        hits=hits,
        tokens=sum(estimated_tokens(item.text) for item in kept),
        recall=hits / len(question.evidence) if question.evidence else 0.0,
    )


def summary(rows: list[Injected]) -> dict[str, float]:
    """Means over the questions; precision over all items together."""
    if not rows:
        return {}
    items = sum(row.items for row in rows)
    return {
        "items": round(items / len(rows), 2),
        "tokens": round(float(np.mean([row.tokens for row in rows])), 1),
        "precision": round(sum(row.hits for row in rows) / items, 3) if items else 0.0,
        "recall": round(float(np.mean([row.recall for row in rows])), 3),
    }
