"""Answers from memory, without a language model."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from anyio.lowlevel import checkpoint

from chat_server.prompt import Prompt
from chat_server.reply_model import ReplyEnd, ReplyText
from memory.messages import OFFLINE_MODEL, Message, Role
from memory.recalled import Recalled
from memory.tokens import FUNCTION_WORDS, tokens

Reason = Literal["not_configured", "unreachable"]

MAX_ITEMS: Final = 3
MAX_OVERVIEW: Final = 5
MAX_QUOTE_CHARS: Final = 200
LIKELY_SCORE: Final = 0.55
"""From here on a memory that shares no word with a question about the user is offered as a guess.
Scores order the results of one question and are no probabilities: more than a guess it is not."""

NOTHING_FOUND: Final = "I remember nothing about that."
NOT_CONFIGURED: Final = (
    "No language model is configured, so I can only repeat what you have told me."
)
UNREACHABLE: Final = "The language model is out of reach now."

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_SMALL_TALK_WORDS = """
hi hello hey howdy good morning afternoon evening night day how are is it going doing you there
thanks thank thx cheers please ok okay yes no yep nope sure fine great cool nice lol bye goodbye
see later welcome sorry tandem very much so a lot all right well what's up whats that helps
hallo guten tag morgen abend danke bitte tschüss ja nein wie geht's geht es dir
bonjour bonsoir salut merci oui non ça va hola buenos buenas días tardes noches gracias sí adiós
"""
_SMALL_TALK: Final = frozenset(_SMALL_TALK_WORDS.split())
_POLITE_WORDS = "please hi hello hey ok okay so and tandem bitte hallo hola"
_POLITE: Final = frozenset(_POLITE_WORDS.split())
"""What may stand before the word that says whether a message asks."""
_QUESTION_WORDS = """
what what's when where where's who who's whom whose why which how
was wann wo wer wen wem wie warum welche welcher welches
quand où qui que quel quelle quoi comment pourquoi combien est-ce
qué cuándo dónde quién cuál cómo cuánto cuántos
tell show list find name write give translate explain describe help summarize summarise suggest
recommend
"""
_REQUESTING: Final = frozenset(_QUESTION_WORDS.split())
"""A single sentence that begins with one of these asks for something, and tells nothing."""
_VERB_WORDS = """
do does did is are am was were can could would will should have has had remind
weißt kannst ist sind hast habe
"""
_ASKING: Final = _REQUESTING.union(_VERB_WORDS.casefold().split())
"""A message that begins with one of these asks, with or without a question mark."""
_FILLER_WORDS = """
please remember remind tell told say said ask know known note one ones thing things something
anything everything some any more far today yes no ok hi hello hey thank thanks help give show list
bitte erinnere erinnerst weißt sag sagen gesagt erzählt etwas alles heute gemerkt über dir woran
dis dit sais souviens chose choses tout qu'est te moi
dime dije sabes recuerdas algo todo hoy favor qué quién sobre mí
"""
_UNTELLING: Final = FUNCTION_WORDS.union(tokens(_FILLER_WORDS))
"""Words that a question and a memory may share without having to do with each other."""
_TODAY: Final = frozenset({"today", "heute", "hoy"})
_OVERVIEW: Final = re.compile(
    r"\b(?:you|we) (?:still )?(?:know|remember|note|noted)\b|\bI (?:just )?(?:tell|say|told|said)\b"
    r"|\b(?:know|remember|told you|everything|something|anything) (?:all )?about (?:me|us|myself)\b"
    r"|\bwho am I\b|\bremember me\b"
    r"|\bweißt du\b|\berinnerst du\b|\bich dir\b|\bwer bin ich\b"
    r"|\btu sais\b|\bsais-tu\b|\bte souviens\b|\bt'ai dit\b|\bqui suis-je\b"
    r"|\bsabes\b|\brecuerdas\b|\bte dije\b|\bhe dicho\b|\bquién soy\b",
    re.IGNORECASE,
)
"""Asks for what is remembered at all, when nothing else in the question tells more."""
_OWN: Final = re.compile(
    r"\b(?:I|I'm|my|mine|we|our|ich|mein\w*|wir|unser\w*|mon|ma|mes|je|mi|mis|yo)\b", re.IGNORECASE
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_QUESTION_MARK: Final = re.compile(r"[?\uff1f\u061f\u037e]")
_ONLY_A_QUESTION: Final = re.compile(r"[^.!?\n\u3002]*[?\uff1f\u061f\u037e]\s*")
_ONE_SENTENCE: Final = re.compile(r"[^.!?\n\u3002]*[.!\u3002]?\s*")
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
    """Implements ``ReplyModel`` with what is remembered; equal prompts of one day get equal
    replies.

    Quotes the memories that share telling words with the question, what users said before what was
    replied to them; lists the latest where the question is what is remembered at all; or says that
    there is nothing. Why no language model answers it says where it has nothing else to say, and
    always where one is configured: the reply's ``model`` tells the rest. *now* gives seconds since
    the epoch.
    """

    def __init__(
        self, reason: Reason = "not_configured", *, now: Callable[[], float] = time.time
    ) -> None:
        self._reason = reason
        self._now = now

    @property
    def name(self) -> str:
        return OFFLINE_MODEL

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ReplyText | ReplyEnd, None]:
        answer = _answer(prompt, _day(self._now()))
        text = answer or NOTHING_FOUND
        if self._reason == "unreachable":
            text = f"{text}\n\n{UNREACHABLE}"
        elif answer is None:
            text = f"{text} {NOT_CONFIGURED}"
        for piece in _PIECE.findall(text):
            yield ReplyText(piece)
            await checkpoint()  # others go on meanwhile, and the reply can be stopped
        yield ReplyEnd("stop")

    async def aclose(self) -> None:
        """There is nothing to close."""


def _answer(prompt: Prompt, today: str) -> str | None:
    """What memory has to say; ``None`` when nothing fits a question."""
    question = prompt.question
    if _is_small_talk(question):
        return (
            "I am here. Tell me something, and I will remember it; ask me, and I will look it up."
        )
    if not _asks(question):
        return "I have noted that."
    asked = frozenset(tokens(question)) - _UNTELLING
    items = _telling(_remembered(prompt, asked), question)
    if not asked:
        return _overview(items, question, today) if _OVERVIEW.search(question) else None
    certain = [item for item in items if item.shared_words]
    if len(certain) == 1:
        return _told(certain[0])
    if certain:
        return "This is what I remember:\n" + _listed(certain[:MAX_ITEMS])
    if _OWN.search(question) and items and items[0].score >= LIKELY_SCORE:
        return "I remember nothing that says so. This comes closest:\n" + _listed(items[:1])
    return None


def _overview(items: list[_Item], question: str, today: str) -> str | None:
    """The latest that users said, if the question says so only today's."""
    said = [item for item in items if item.role == "user"]
    if _TODAY & _words(question):
        said = [item for item in said if _day(item.timestamp) == today]
    latest = sorted(said, key=lambda item: -item.timestamp)[:MAX_OVERVIEW]
    return (
        "Here is some of what you told me, the latest first:\n" + _listed(latest)
        if latest
        else None
    )


def _remembered(prompt: Prompt, asked: frozenset[str]) -> list[_Item]:
    """Memories, best first, then what users said in the window, newest first: recall leaves out
    what stands in it.
    """
    said = [message for message in reversed(prompt.window) if message.role == "user"]
    found = [_item(memory, memory.score, asked) for memory in prompt.memories]
    return found + [_item(message, 0.0, asked) for message in said]


def _item(entry: Recalled | Message, score: float, asked: frozenset[str]) -> _Item:
    return _Item(
        text=entry.text,
        role=entry.role,
        author=entry.author,
        timestamp=entry.timestamp,
        shared_words=len(asked.intersection(tokens(entry.text))),
        score=score,
    )


def _telling(items: Iterable[_Item], question: str) -> list[_Item]:
    """Those that tell something, each once: users' words first, then by the words that they share
    with the question. The order given decides among equals.
    """
    telling: dict[str, _Item] = {}
    for item in sorted(items, key=lambda item: (item.role != "user", -item.shared_words)):
        said = _folded(item.text)
        if said and said != _folded(question) and not _tells_nothing(item.text):
            telling.setdefault(said, item)
    return list(telling.values())


def _tells_nothing(text: str) -> bool:
    """Bare questions, requests and greetings answer no question."""
    line = text.strip()
    if _ONLY_A_QUESTION.fullmatch(line) or _is_small_talk(line):
        return True
    return _ONE_SENTENCE.fullmatch(line) is not None and _first_word(line) in _REQUESTING


def _folded(text: str) -> str:
    """Texts that differ in case, white space and the mark at the end only say the same."""
    return " ".join(text.casefold().split()).rstrip(" .!?")


def _listed(items: list[_Item]) -> str:
    return "\n".join(f"- {_told(item)}" for item in items)


def _told(item: _Item) -> str:
    if item.role == "assistant":
        said = "I told you"
    else:
        said = f"{_quote(item.author)} said" if item.author else "You told me"
    return f'{said}{_when(item.timestamp)}: "{_quote(item.text)}"'


def _when(timestamp: float) -> str:
    """Such as `` on 3 May 2026`` (UTC); nothing for times that no calendar has."""
    day = _day(timestamp)
    return f" on {day}" if day else ""


def _day(timestamp: float) -> str:
    try:
        day = datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


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
    return _first_word(question) in _ASKING or _QUESTION_MARK.search(question) is not None


def _first_word(text: str) -> str:
    """The first that is no mere politeness, folded; "" when there is none."""
    words = (_fold_word(match.group()) for match in _WORD.finditer(text))
    return next((word for word in words if word not in _POLITE), "")


def _words(text: str) -> set[str]:
    return {_fold_word(word) for word in _WORD.findall(text)}


def _fold_word(word: str) -> str:
    return word.casefold().replace("\u2019", "'")
