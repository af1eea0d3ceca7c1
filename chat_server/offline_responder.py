"""Answers from memory, without a language model."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from anyio.lowlevel import checkpoint

from chat_server.prompt import Prompt
from chat_server.reply_model import ReplyEnd, ReplyText
from memory.messages import OFFLINE_MODEL, Role
from memory.tokens import FUNCTION_WORDS, tokens

Reason = Literal["not_configured", "unreachable"]

MAX_ITEMS: Final = 3
MAX_QUOTE_CHARS: Final = 200
SURE_SCORE: Final = 0.8
"""From here on a memory counts without sharing a word with the question."""
LIKELY_SCORE: Final = 0.45
"""From here on a memory is offered as a guess where nothing better is found."""

REASONS: Final[dict[Reason, str]] = {
    "not_configured": "No language model is configured, so I can only repeat what I remember.",
    "unreachable": "The language model is out of reach now, so I can only repeat what I remember.",
}

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_SMALL_TALK_WORDS = """
hi hello hey howdy good morning afternoon evening night day how are is it going doing you there
thanks thank thx cheers please ok okay yes no yep nope sure fine great cool nice lol bye goodbye
see later welcome sorry tandem very much so a lot all right well what's up whats
hallo guten tag morgen abend danke bitte tschüss ja nein wie geht's geht es dir
bonjour bonsoir salut merci oui non ça va hola buenos buenas días tardes noches gracias sí adiós
"""
_SMALL_TALK: Final = frozenset(_SMALL_TALK_WORDS.split())
_ASKING_WORDS = """
what what's when where where's who who's whom whose why which how do does did is are am was were
can could would will should have has had tell remind list show name find summarize summarise
was wann wo wer wen wem wie warum welche welcher welches weißt kannst ist sind hast habe
quand où qui que quel quelle quoi comment pourquoi combien est-ce
qué cuándo dónde quién cuál cómo cuánto cuántos
"""
_ASKING: Final = frozenset(_ASKING_WORDS.split())
"""A message that begins with one of these asks, with or without a question mark."""
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_QUESTION_MARK: Final = re.compile(r"[?\uff1f\u061f\u037e]")
_ONLY_A_QUESTION: Final = re.compile(r"[^.!?\n\u3002]*[?\uff1f\u061f\u037e]\s*")
_PIECE: Final = re.compile(r"\S+\s*|\s+")


class _Item(msgspec.Struct, frozen=True, kw_only=True):
    """Something remembered, and how much it has to do with the question."""

    text: str
    role: Role
    author: str | None
    timestamp: float
    shared_words: int
    score: float


class OfflineResponder:
    """Implements ``ReplyModel`` with what is remembered; equal prompts get equal replies.

    Quotes the memories that have most to do with the question, what users said before what was
    replied to them, or says that there are none. Always says why no language model answers.
    """

    def __init__(self, reason: Reason = "not_configured") -> None:
        self._reason = REASONS[reason]

    @property
    def name(self) -> str:
        return OFFLINE_MODEL

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ReplyText | ReplyEnd, None]:
        for piece in _PIECE.findall(f"{_answer(prompt)}\n\n{self._reason}"):
            yield ReplyText(piece)
            await checkpoint()  # others go on meanwhile, and the reply can be stopped
        yield ReplyEnd("stop")

    async def aclose(self) -> None:
        """There is nothing to close."""


def _answer(prompt: Prompt) -> str:
    if _is_small_talk(prompt.question):
        return (
            "I am here. Tell me something, and I will remember it; ask me, and I will look it up."
        )
    items = _found(prompt)
    certain = [item for item in items if item.shared_words or item.score >= SURE_SCORE]
    if not _asks(prompt.question):
        if not certain:
            return "I have noted that."
        return "I have noted that. It goes with what I remember:\n" + _listed(certain)
    if len(certain) == 1:
        return _told(certain[0])
    if certain:
        return "This is what I remember:\n" + _listed(certain)
    likely = [item for item in items if item.score >= LIKELY_SCORE]
    if likely:
        return "I am not sure that it is what you mean, but this comes closest:\n" + _listed(
            likely[:1]
        )
    return "I remember nothing about that yet. I have noted what you wrote."


def _found(prompt: Prompt) -> list[_Item]:
    """What may answer: users' words first, then by the words it shares with the question.

    The order of recall decides among equals. The window is searched too, because what stands in
    it is not among the memories. A bare question answers nothing.
    """
    asked = frozenset(tokens(prompt.question)) - FUNCTION_WORDS
    items = [
        _Item(
            text=memory.text,
            role=memory.role,
            author=memory.author,
            timestamp=memory.timestamp,
            shared_words=len(asked.intersection(tokens(memory.text))),
            score=memory.score,
        )
        for memory in prompt.memories
    ]
    for message in reversed(prompt.window):
        shared_words = len(asked.intersection(tokens(message.text)))
        if shared_words and message.role == "user":
            items.append(
                _Item(
                    text=message.text,
                    role=message.role,
                    author=message.author,
                    timestamp=message.timestamp,
                    shared_words=shared_words,
                    score=0.0,
                )
            )
    telling: dict[str, _Item] = {}
    for item in sorted(items, key=lambda item: (item.role != "user", -item.shared_words)):
        quote = _quote(item.text)
        if quote and not _ONLY_A_QUESTION.fullmatch(item.text.strip()):
            telling.setdefault(quote.casefold(), item)
    telling.pop(_quote(prompt.question).casefold(), None)
    return list(telling.values())


def _listed(items: list[_Item]) -> str:
    return "\n".join(f"- {_told(item)}" for item in items[:MAX_ITEMS])


def _told(item: _Item) -> str:
    if item.role == "assistant":
        said = "I told you"
    else:
        said = f"{_quote(item.author)} said" if item.author else "You told me"
    return f'{said}{_when(item.timestamp)}: "{_quote(item.text)}"'


def _when(timestamp: float) -> str:
    """Such as `` on 3 May 2026`` (UTC); nothing for times that no calendar has."""
    try:
        day = datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return f" on {day.day} {_MONTHS[day.month - 1]} {day.year}"


def _quote(text: str) -> str:
    """*text* in one line, of at most ``MAX_QUOTE_CHARS`` characters, cut between words."""
    line = " ".join(text.split())
    if len(line) <= MAX_QUOTE_CHARS:
        return line
    start = line[: MAX_QUOTE_CHARS - 1]
    whole = start if line[MAX_QUOTE_CHARS - 1] == " " else start.rpartition(" ")[0]
    return (whole or start).rstrip() + "\u2026"


def _is_small_talk(question: str) -> bool:
    return _words(question) <= _SMALL_TALK and not re.search(r"\d", question)


def _asks(question: str) -> bool:
    first = _WORD.search(question)
    asking = first is not None and first.group().casefold().replace("\u2019", "'") in _ASKING
    return asking or _QUESTION_MARK.search(question) is not None


def _words(text: str) -> set[str]:
    return {word.casefold().replace("\u2019", "'") for word in _WORD.findall(text)}
