"""Messages that ask several things: each is searched for by itself too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from memory.messages import MessageId
from memory.recalled import Recall, Recalled

MOST_PARTS: Final = 3
LEAST_WORDS: Final = 4
"""Shorter questions mean something only after the others."""
MOST_CHARS: Final = 1_000

_QUESTION: Final = re.compile(r"[^.!?\uff1f\u3002\u061f\n]+[?\uff1f\u061f]")
_WORD: Final = re.compile(r"\w+")


def questions_in(text: str) -> tuple[str, ...]:
    """The questions of *text*, where it asks at least two that can stand alone; else none."""
    if len(text) > MOST_CHARS:
        return ()
    found = [question.strip() for question in _QUESTION.findall(text)]
    alone = [each for each in found if len(_WORD.findall(each)) >= LEAST_WORDS]
    return tuple(dict.fromkeys(alone[:MOST_PARTS])) if len(alone) > 1 else ()


def merged(recalls: Sequence[Recall], limit: int) -> Recall:
    """The *limit* best of several searches: each memory with its best score."""
    best: dict[MessageId, Recalled] = {}
    for recall in recalls:
        for item in recall.items:
            if item.id not in best or best[item.id].score < item.score:
                best[item.id] = item
    items = sorted(best.values(), key=lambda item: -item.score)
    return Recall(
        items=tuple(items[:limit]),
        took_ms=sum(recall.took_ms for recall in recalls),
        partial=any(recall.partial for recall in recalls),
    )
