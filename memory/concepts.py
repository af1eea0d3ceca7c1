"""Everyday concepts behind words, across languages: ``mum``, ``madre`` and ``matka`` are one.

``concepts.txt`` holds one concept a line, with words for it in English, German, Spanish, French,
Portuguese, Polish, Japanese and Chinese. It was written by hand, from what people talk about.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from memory.tokens import FUNCTION_WORDS, stem

CONCEPT: Final = "\u2248"
"""What the term of a concept begins with; no word does."""
_FILE = Path(__file__).with_name("concepts.txt")
_HAN = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Japanese and Chinese: words stand side by side, and the longest known one counts."""
_RUN = re.compile(rf"[{_HAN}]+|[^\W\d_{_HAN}]+")
_LONGEST_HAN = 4
_LONGEST_ENDING = 3
"""A word may have so many letters more than the one in the list, which it declines."""
_SHORTEST_DECLINED = 4
_WORDS_KEPT = 5_000
_LONGEST_KEPT = 32
"""As in ``memory.tokens``: most words of a history have been looked up before."""


NUMBER: Final = f"{CONCEPT}number"
"""A message with a figure in it."""
CODE: Final = f"{CONCEPT}code"
"""A message with what looks like code, a formula or a command."""
CODE_LIKE: Final = re.compile(
    r"=[A-Z]+\(|[{};`]|\w+\(.*\)|==|=>|\$\w|(?<!-)--\w|\bSELECT\b|^=", re.MULTILINE
)


def concepts(text: str) -> list[str]:
    """The terms of the concepts that *text* speaks of, in order, each as often as it occurs."""
    found: list[str] = []
    for run in _RUN.findall(text):
        found += _kept_terms(run) if len(run) <= _LONGEST_KEPT else _terms(run)
    return found


@cache
def _known() -> dict[str, tuple[str, ...]]:
    """The terms of each word in the list."""
    terms: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_FILE.read_text(encoding="utf-8").splitlines()):
        for word in line.split():
            folded = _folded(word)
            terms[folded] = (*terms.get(folded, ()), f"{CONCEPT}{number}")
    return terms


def _terms(run: str) -> tuple[str, ...]:
    known = _known()
    if run[0] >= "\u3005" and re.match(f"[{_HAN}]", run):
        return tuple(term for word in _han_words(run) for term in known[word])
    if stem(run.casefold()) in FUNCTION_WORDS:
        return ()
    word = _folded(run)
    shortest = max(_SHORTEST_DECLINED, len(word) - _LONGEST_ENDING)
    lengths = (len(word), *range(len(word) - 1, shortest - 1, -1))
    return next((known[word[:length]] for length in lengths if word[:length] in known), ())


_kept_terms = lru_cache(_WORDS_KEPT)(_terms)


def _han_words(run: str) -> Iterator[str]:
    known = _known()
    start = 0
    while start < len(run):
        pieces = (run[start : start + length] for length in range(_LONGEST_HAN, 0, -1))
        found = next((piece for piece in pieces if piece in known), "")
        if found:
            yield found
        start += len(found) or 1


def _folded(word: str) -> str:
    """Lower case, without accents."""
    if word.isascii():
        return word.casefold()
    word = word.casefold().replace("\u0142", "l")
    if re.match(f"[{_HAN}]", word):
        return word
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(char for char in decomposed if not unicodedata.combining(char))
