"""Everyday concepts behind words, across languages: ``mum``, ``madre`` and ``matka`` are one.

``concepts.txt`` holds one concept a line, with words for it in English, German, Spanish, French,
Portuguese, Polish, Japanese and Chinese. It was written by hand, from what people talk about.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
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


NUMBER: Final = f"{CONCEPT}number"
"""A message with a figure in it."""
CODE: Final = f"{CONCEPT}code"
"""A message with what looks like code, a formula or a command."""
_CODE = re.compile(r"=[A-Z]+\(|[{};`]|\w+\(.*\)|==|=>|\$\w|(?<!-)--\w|\bSELECT\b|^=", re.MULTILINE)
_DIGIT = re.compile(r"\d")


def concepts(text: str) -> list[str]:
    """The terms of the concepts that *text* speaks of, in order, each as often as it occurs."""
    known = _known()
    return [term for word in _words(text) for term in known.get(word, ())]


def message_terms(text: str) -> list[str]:
    """What stands in the index for a message of *text* beside its words: its concepts, and
    ``NUMBER`` and ``CODE`` where they hold.
    """
    terms = concepts(text)
    if _DIGIT.search(text):
        terms.append(NUMBER)
    if _CODE.search(text):
        terms.append(CODE)
    return terms


def is_concept(term: str) -> bool:
    """Whether *term* stands for a concept, and not for a word."""
    return term.startswith(CONCEPT)


@cache
def _known() -> dict[str, tuple[str, ...]]:
    """The terms of each word in the list."""
    terms: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_FILE.read_text(encoding="utf-8").splitlines()):
        for word in line.split():
            folded = _folded(word)
            terms[folded] = (*terms.get(folded, ()), f"{CONCEPT}{number}")
    return terms


def _words(text: str) -> Iterator[str]:
    """The words of the list that stand in *text*."""
    known = _known()
    for match in _RUN.finditer(text):
        run = match.group()
        if run[0] >= "\u3005" and re.match(f"[{_HAN}]", run):
            yield from _han_words(run)
        elif stem(run.casefold()) not in FUNCTION_WORDS:
            word = _folded(run)
            shortest = max(_SHORTEST_DECLINED, len(word) - _LONGEST_ENDING)
            for length in (len(word), *range(len(word) - 1, shortest - 1, -1)):
                if word[:length] in known:
                    yield word[:length]
                    break


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
