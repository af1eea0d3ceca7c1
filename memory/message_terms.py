"""What stands in the index for a message: its words, and the concepts behind them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from memory.concepts import CODE, CODE_LIKE, NUMBER, concepts
from memory.tokens import tokens

_DIGIT: Final = re.compile(r"\d")
_CHUNKS_KEPT: Final = 20_000
_LONGEST_KEPT: Final = 32
"""As in ``memory.tokens``: most of what is said was said before, commas included. Some 8 MB."""


class MessageTerms(NamedTuple):
    """``words`` as in :func:`memory.tokens.tokens`, and what stands beside them: ``concepts``, and
    ``NUMBER`` and ``CODE`` where they hold.
    """

    words: list[str]
    concepts: list[str]

    @property
    def all(self) -> list[str]:
        return self.words + self.concepts


def message_terms(text: str, author: str | None = None) -> MessageTerms:
    """The terms of a message of *text*; the name of an *author* counts as a word of it.

    No word and no concept reaches over white space: each chunk between is looked up by itself.
    """
    found = MessageTerms(tokens(f"{author}:") if author else [], [])
    words, meant = found
    for chunk in text.split():
        of_it = _kept_terms(chunk) if len(chunk) <= _LONGEST_KEPT else _terms(chunk)
        words += of_it[0]
        meant += of_it[1]
    if _DIGIT.search(text):
        meant.append(NUMBER)
    if CODE_LIKE.search(text):
        meant.append(CODE)
    return found


def _terms(chunk: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(tokens(chunk)), tuple(concepts(chunk))


_kept_terms = lru_cache(_CHUNKS_KEPT)(_terms)
