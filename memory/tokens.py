"""Words of a text as recall compares them, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_MARKS = "".join(
    chr(code) for code in range(0x0300, 0x1E00) if unicodedata.category(chr(code))[0] == "M"
)
r"""Vowel signs and accents: ``\w`` does not match them, and many scripts' words need them."""

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
    "\uac00-\ud7af"  # Korean: spaced, but its particles are part of the word
)
"""Scripts in which a run of letters is not one word."""

_WORD = re.compile(rf"\d+(?:[.,:]\d+)+|[\w{_MARKS}]+(?:['\u2019][^\W\d_]+)*")
_UNSPACED_RUN = re.compile(f"([{_UNSPACED}]+)")
_CAMEL = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
_IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")

_SUFFIXES = (
    ("ies", "y"),
    ("ied", "y"),
    ("ing", ""),
    ("ed", ""),
    ("es", ""),
    ("s", ""),
)
_SHORTEST_STEM = 3
_PREFIX = 5
_WORDS_KEPT = 5_000
"""As they were said, with what they give: some 2 MB for all users together, RAM only."""
_LONGEST_KEPT = 32
"""Longer ones are rarely words and seldom come twice."""


def tokens(text: str) -> list[str]:
    """The words of *text*, in order, folded so that equal words compare equal.

    NFKC, case-folded, inflection roughly removed. A code identifier (``max_results``,
    ``HotMemory``) gives itself and its parts; scripts without spaces give pairs of adjacent
    characters.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    found: list[str] = []
    for word in _WORD.findall(text):
        found += _kept_terms(word) if len(word) <= _LONGEST_KEPT else _terms(word)
    return found


def _terms(word: str) -> tuple[str, ...]:
    if not word.isascii() and _UNSPACED_RUN.search(word):
        return tuple(_unspaced(word))
    if "_" in word or _CAMEL.search(word):
        return tuple(_identifier(word))
    return (stem(word.casefold()),)


_kept_terms = lru_cache(_WORDS_KEPT)(_terms)


def _identifier(word: str) -> Iterator[str]:
    whole = word.strip("_").casefold()
    parts = [part.group().casefold() for part in _IDENTIFIER_PART.finditer(word)]
    if whole and parts != [whole]:
        yield whole
    for part in parts:
        yield stem(part)


def _unspaced(word: str) -> Iterator[str]:
    for piece in _UNSPACED_RUN.split(word):
        if not piece:
            continue
        if not _UNSPACED_RUN.match(piece):
            yield stem(piece.casefold())
        elif len(piece) == 1:
            yield piece
        else:
            for start in range(len(piece) - 1):
                yield piece[start : start + 2]


def stem(word: str) -> str:
    """*word* (case-folded) without its ending: the same for most forms of one word.

    A rough rule of thumb; it only has to treat the question and the memory alike. Outside of
    ASCII, where endings differ from language to language, only the first letters count.
    """
    word = word.replace("\u2019", "'").removesuffix("'s")
    if not word.isascii():
        return word[:_PREFIX]
    if len(word) <= _SHORTEST_STEM or word[0].isdigit():
        return word
    for suffix, replacement in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            word = word[: -len(suffix)] + replacement
            doubled = len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "lsz"
            if doubled and suffix in ("ing", "ed"):
                word = word[:-1]
            break
    return word[:-1] if len(word) > _SHORTEST_STEM and word[-1] == "e" else word


_FUNCTION_WORDS = """
a an the and or but if of to in on at by for with from about into as than then that this these
those there here i me my mine we us our you your he him his she her it its they them their is are
was were am be been being do does did done has have had will would can could should may might must
not no what when where who whom whose why which how so too very just also
der das den dem des ein eine einen einem einer und oder aber wenn von zu im auf mit aus als dass
ich mich mir mein meine wir uns unser du dich dein deine er sie es ihr ihm ist sind bin waren
hat habe haben nicht kein was wann wo wer wen wem wie warum welche welcher welches auch sehr
el la los las un una unos unas y o pero si de del en por para con como que este esta yo mi mis tu
su es soy son era fue ha he hay cuando donde quien cual cuanto
le les une et ou mais du des dans sur pour avec par ce cette je mon ma mes tu ton ta il elle nous
vous leur est suis sont ai as avons quand quel quelle qui comment pourquoi
"""
FUNCTION_WORDS = frozenset(stem(word) for word in _FUNCTION_WORDS.split())
"""Words that hold questions together and say little of what is asked (English, German, Spanish,
French). A history of a few messages is too short to learn that from frequencies."""
