"""The lines of an export: one message each, as JSON; no I/O.

A line without ``parent`` follows the line before it in its conversation; ``"parent": null`` begins
the conversation. See docs/import-export.md.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from chat_server.errors import ChatError
from chat_server.protocol import ClientId
from memory.messages import Conversation, Message, MessageStatus, Role

MAX_LINE_BYTES: Final = 524_288
"""A text of the greatest length, all of it escaped, fits."""
MAX_TEXT_BYTES: Final = 65_536
"""More than may be said at once: other programs' messages, and replies, are longer."""

LAST_SECOND: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

_field_path: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_missing_field: Final = re.compile(r"missing required field `([^`]*)`")


class BadLine(ChatError):
    """A line that cannot be imported; ``field`` names what is wrong with it."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of one conversation.

    ``title`` and ``head`` say something of the conversation and stand on its first line: ``head``
    is the message below which it is shown, where it has branches. What is ``forgotten`` is never
    recalled. ``timestamp``: seconds since the
    epoch, or ISO 8601 (UTC where no zone is given).
    """

    id: ClientId
    conversation: ClientId
    role: Role
    text: str
    timestamp: float | str | None = None
    parent: ClientId | UnsetType | None = UNSET
    author: Annotated[str, msgspec.Meta(min_length=1, max_length=80)] | None = None
    title: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    head: ClientId | None = None
    status: MessageStatus = "completed"
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    forgotten: bool = False


_decoder: Final = msgspec.json.Decoder(Line)
_encoder: Final = msgspec.json.Encoder()


def parse_line(raw: bytes) -> Line:
    """Read and check one line.

    Raises:
        BadLine: with the reason, and the field where one is wrong.
    """
    try:
        line = _decoder.decode(raw)
    except msgspec.ValidationError as wrong:
        raise _bad_line(str(wrong)) from wrong
    except (msgspec.DecodeError, RecursionError, UnicodeError) as wrong:
        raise BadLine("bad_request", "the line is not a JSON object") from wrong
    if line.status == "deleted":
        return _checked_tombstone(line)
    _check_text(line)
    if line.role == "user" and line.status != "completed":
        raise BadLine("bad_request", "only replies end otherwise than completed", field="status")
    return line


def encode_line(line: Line) -> bytes:
    """*line* as it is written, with its line break."""
    return _encoder.encode(line) + b"\n"


def line_of(message: Message, opened: Conversation | None = None) -> Line:
    """*message* as a line; *opened* is its conversation where it is the first line of that."""
    return Line(
        id=message.id,
        conversation=message.conversation,
        role=message.role,
        text=message.text,
        timestamp=message.timestamp,
        parent=message.parent,
        author=message.author,
        title=opened.title if opened else None,
        head=opened.head if opened else None,
        status=message.status,
        model=message.model,
        forgotten=message.forgotten,
    )


def moment(given: float | str) -> float:
    """A line's ``timestamp`` in seconds since the epoch.

    Raises:
        BadLine: it is no time, or none between the years 1970 and 9999.
    """
    seconds = given if isinstance(given, float) else _parsed(given)
    if not math.isfinite(seconds) or not 0 <= seconds <= LAST_SECOND:
        raise BadLine(
            "bad_request", "a timestamp lies between the years 1970 and 9999", field="timestamp"
        )
    return seconds


class NumberedLine(NamedTuple):
    """A line as it came, counted from 1; ``None``: it is longer than ``MAX_LINE_BYTES``."""

    number: int
    raw: bytes | None


class Lines:
    """Cuts a stream of bytes into lines; never holds more than one line and one chunk.

    Blank lines count and are left out; a byte order mark before the first one is no part of it.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[NumberedLine]:
        """The lines that *chunk* completes, without their ends."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:end])
            yield from self._take()
            start = end + 1
        self._keep(chunk[start:])

    def end(self) -> Iterator[NumberedLine]:
        """The last line, where it has no end."""
        yield from self._take()

    def _keep(self, part: bytes) -> None:
        if self._skipping or len(self._rest) + len(part) > MAX_LINE_BYTES:
            self._skipping = True
            self._rest.clear()
        else:
            self._rest += part

    def _take(self) -> Iterator[NumberedLine]:
        self._number += 1
        line = bytes(self._rest)
        if self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if self._skipping:
            yield NumberedLine(self._number, None)
        elif line.strip():
            yield NumberedLine(self._number, line)
        self._rest.clear()
        self._skipping = False


def _checked_tombstone(line: Line) -> Line:
    if line.text or line.author or line.model:
        raise BadLine("bad_request", "a deleted message has no text, author or model", field="text")
    return msgspec.structs.replace(line, forgotten=False)


def _check_text(line: Line) -> None:
    if line.role == "user" and not line.text.strip():
        raise BadLine("empty_text", "a message needs something visible", field="text")
    size = len(line.text.encode())
    if size > MAX_TEXT_BYTES:
        raise BadLine(
            "text_too_long",
            f"the text has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are allowed",
            field="text",
        )


def _parsed(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise BadLine(
            "bad_request", "a timestamp is a number or ISO 8601", field="timestamp"
        ) from wrong
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _bad_line(reason: str) -> BadLine:
    """The error that names the field, from msgspec's text (``... - at `$.id```)."""
    where = _field_path.search(reason) or _missing_field.search(reason)
    said = _field_path.sub("", reason)
    return BadLine(
        "bad_request", said[:1].lower() + said[1:], field=where.group(1) if where else None
    )
