"""Other programs' conversations: what they have in common, and how they are told apart; no I/O.

Ids are made of the content, so that a file may be imported again. Only what users and assistants
said to each other is taken: system texts, tools and what is hidden are left out, and what followed
them follows what came before them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from memory.messages import Role

Format = Literal["ndjson", "chatgpt", "openai"]
Source = bytes | memoryview
"""A whole file; memory that is mapped will do."""

ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant"}
TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text", "audio_transcription"})

Kind = TypeVar("Kind")


class UnknownFormat(Exception):
    """The file is none of the formats, or not the one that was named."""


class Skipped(NamedTuple):
    """The *number*-th conversation (from 1) could not be read."""

    number: int
    reason: str


class Part(msgspec.Struct):
    """A piece of a text; others (pictures, files) have other types and no text."""

    type: str | None = None
    content_type: str | None = None
    text: str | None = None


NOTHING: Final = msgspec.Raw()


class _Marks(msgspec.Struct):
    """What tells the formats apart; the values do not matter here."""

    mapping: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    role: msgspec.Raw = NOTHING
    conversation: msgspec.Raw = NOTHING


def detect(source: Source) -> Format:
    """The format of *source*, by its first conversation or message.

    Raises:
        UnknownFormat: it is none of those known.
    """
    first = next(values(source), None)
    if first is None:
        raise UnknownFormat("the file is empty")
    if decoded(first, list[msgspec.Raw]) is not None:
        return "openai"
    marks = decoded(first, _Marks)
    if marks is None:
        raise UnknownFormat("the file is not JSON")
    if marks.mapping is not NOTHING:
        return "chatgpt"
    if marks.messages is not NOTHING or (
        marks.role is not NOTHING and marks.conversation is NOTHING
    ):
        return "openai"
    if marks.conversation is not NOTHING:
        return "ndjson"
    raise UnknownFormat("neither lines of an export, nor ChatGPT's, nor OpenAI's messages")


def values(source: Source) -> Iterator[msgspec.Raw | memoryview]:
    """The elements of a list, a single value, or the values of JSON lines, unread."""
    view = memoryview(source)
    listed = decoded(view, list[msgspec.Raw])
    if listed is not None:
        yield from listed
        return
    start = 0
    first = _line_at(view, 0)
    if decoded(first, msgspec.Raw) is None and decoded(view, msgspec.Raw) is not None:
        yield view  # one value on many lines
        return
    while start < len(view):
        line = _line_at(view, start)
        start += len(line) + 1
        if bytes(line).strip():
            yield line


def decoded(raw: msgspec.Raw | Source, kind: type[Kind]) -> Kind | None:
    """*raw* as a *kind*; ``None`` if it is not one."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def joined(parts: Sequence[str | Part | None]) -> str:
    """The texts of a message in several parts."""
    texts = [
        part
        if isinstance(part, str)
        else (part.text or "" if (part.type or part.content_type) in TEXT_PARTS else "")
        for part in parts
        if part is not None
    ]
    return "\n".join(text for text in texts if text).strip()


def line_id(conversation: str, key: str) -> str:
    """The id of the line that *key* names in *conversation*."""
    return "i" + digest(f"{conversation}/{key}".encode())


def digest(content: bytes) -> str:
    """128 bits of SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


def _line_at(view: memoryview, start: int) -> memoryview:
    """The line from *start* to its end; looks at some of the rest at a time."""
    place = start
    while place < len(view):
        part = bytes(view[place : place + 65_536])
        end = part.find(b"\n")
        if end >= 0:
            return view[start : place + end]
        place += len(part)
    return view[start:]
