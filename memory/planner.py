"""What is worth remembering for a message: decided by rules, from the message alone.

The rules look for what is closed in any language: small talk, talk about what was said just now,
and requests for everything. Whatever they do not know is searched for: a needless search costs
milliseconds, a missing memory the answer.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from memory.deep_requests import DEEP
from memory.small_talk import (
    ASKING,
    LAST_SAID,
    LIGHT,
    OF_IT,
    OF_ITS_LAST,
    PHRASES,
    SELF,
    SOCIAL,
    YOU,
    folded,
    plain,
)
from memory.small_talk_unspaced import (
    SCRIPT,
    UNSPACED,
    UNSPACED_ASKING,
    UNSPACED_SELF,
    UNSPACED_YOU,
)

PlanKind = Literal["none", "recent", "relevant", "deep"]
"""``none``: nothing; ``recent``: the window has it; ``relevant``: the best memories; ``deep``: as
many as there are on it."""

LONGEST_SMALL_TALK_CHARS: Final = 120
MOST_WORDS: Final = 12
MOST_WORDS_WITH_UNKNOWN: Final = 7
DEEP_SHARE: Final = 3
"""So many times as many memories go into a prompt that asks for all there is."""
MOST_TEST_WORDS: Final = 3
SHORT_REACTION_WORDS: Final = 2
"""A question of so few words is a reaction: "really?"."""
MOST_DEEP_CHARS: Final = 1_000

_WORD: Final = re.compile(r"[^\W_]+")
_QUESTION: Final = re.compile("[?\uff1f\u061f\u037e]")
_PHRASE: Final = re.compile(r"\b(?:" + "|".join(sorted(PHRASES, key=len, reverse=True)) + r")\b")
_LAUGHTER: Final = re.compile(r"(?:a?(?:ha|he|hi|ho|ja|je|xa|\u0445\u0430|k|w|x|xd|rs)+h?)")
_LAST: Final = frozenset(
    folded(
        "just last previous gerade eben letzte letzten acabo acabas ultimo ultima "
        "viens dernier derniere"
    ).split()
)
_FORGIVING: Final = ("thanks", "farewell", "laughter", "praise")
"""Beside one of these a word may be unknown: a name, or a slip of the pen."""


class Plan(msgspec.Struct, frozen=True):
    """What to fetch, and the rule that decided it: a short constant."""

    kind: PlanKind
    reason: str

    @property
    def searches(self) -> bool:
        """Whether memories are searched at all."""
        return self.kind in ("relevant", "deep")

    def limit(self, usual: int) -> int:
        """How many memories to fetch, where *usual* many are."""
        return usual * DEEP_SHARE if self.kind == "deep" else usual


def plan_for(text: str) -> Plan:
    """What is worth fetching for the message *text*. Takes microseconds; never fails.

    A question about the user's life is always searched for, in whatever language it is, and so is
    everything that the rules do not know.
    """
    if len(text) <= LONGEST_SMALL_TALK_CHARS:
        found = _short(text)
        if found is not None:
            return found
    said = plain(text[:MOST_DEEP_CHARS])
    for reason, pattern in DEEP:
        if pattern.search(said):
            return Plan("deep", reason)
    return Plan("relevant", "question" if _QUESTION.search(text) else "statement")


def _short(text: str) -> Plan | None:
    """The plan of a line that needs no search; ``None`` if it may need one."""
    line = folded(text)
    if SCRIPT.search(line):
        return _unspaced(line)
    words = _WORD.findall(line)
    if not words:
        return Plan("none", "wordless")
    if len(words) > MOST_WORDS or any(char.isdigit() for char in line):
        return _test(words)
    asks = bool(_QUESTION.search(text)) or words[0] in ASKING
    if asks and not SELF.isdisjoint(words):
        return _of_the_last(words)
    return _of_the_last(words) or _social(line, words, asks=asks)


def _test(words: list[str]) -> Plan | None:
    known = SOCIAL["presence"]
    return Plan("none", "presence") if words[0] in known and len(words) <= MOST_TEST_WORDS else None


def _of_the_last(words: list[str]) -> Plan | None:
    """A request that the last messages answer: "say that again", "what did I just say"."""
    named = set(words)
    if not named <= OF_ITS_LAST | LAST_SAID | LIGHT | SOCIAL["praise"] | SOCIAL["apology"]:
        return None
    if not named.isdisjoint(_LAST) and not named.isdisjoint(LAST_SAID - LIGHT - _LAST):
        return Plan("recent", "last_said")
    if not named.isdisjoint(OF_ITS_LAST) and named <= OF_ITS_LAST | LIGHT | _POLITE:
        return Plan("recent", "last_reply")
    return None


_POLITE: Final = SOCIAL["apology"] | SOCIAL["acknowledgement"] | SOCIAL["thanks"]


def _social(line: str, words: list[str], *, asks: bool) -> Plan | None:
    kinds = [kind for word in words if (kind := _kind(word)) is not None]
    phrase = _PHRASE.search(line)
    rest = _WORD.findall(_PHRASE.sub(" ", line))
    to_it = not YOU.isdisjoint(words)
    unknown = [word for word in rest if not _known(word, of_it=to_it or not asks)]
    if unknown and not (len(unknown) == 1 and _forgives(kinds, words, asks=asks)):
        return None
    if asks and not (to_it or phrase or len(words) <= SHORT_REACTION_WORDS):
        return None
    if kinds:
        return Plan("none", kinds[0])
    if phrase:
        return Plan("none", "phrase")
    if asks and to_it and not OF_IT.isdisjoint(words):
        return Plan("none", "about_the_assistant")
    return None


def _forgives(kinds: list[str], words: list[str], *, asks: bool) -> bool:
    """Whether a line of thanks may hold a word that nobody knows."""
    if asks or len(words) > MOST_WORDS_WITH_UNKNOWN or not SELF.isdisjoint(words):
        return False
    return any(kind in _FORGIVING for kind in kinds)


def _kind(word: str) -> str | None:
    if len(word) > 1 and _LAUGHTER.fullmatch(word):
        return "laughter"
    return _KINDS.get(word)


def _known(word: str, *, of_it: bool) -> bool:
    return word in LIGHT or _kind(word) is not None or (of_it and word in OF_IT)


_KINDS: Final = {word: kind for kind, words in reversed(SOCIAL.items()) for word in words}


def _unspaced(line: str) -> Plan | None:
    """Small talk where nothing is left of the line without the words of small talk."""
    asks = UNSPACED_ASKING.search(line) is not None
    if asks and (UNSPACED_SELF.search(line) or not UNSPACED_YOU.search(line)):
        return None
    return Plan("none", "phrase") if _WORD.search(UNSPACED.sub("", line)) is None else None
