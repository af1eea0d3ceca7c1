"""What clients write down while faults happen, and what the store holds afterwards; NDJSON.

Times are seconds of one monotonic clock, that of the process in which all clients run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec

Value = TypeVar("Value")


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=str.lower):
    """A line of a client's log."""

    t: float
    user: str


class Joined(Entry, frozen=True, kw_only=True):
    """The user says *canary* in each message, and nobody else ever does."""

    canary: str


class Sent(Entry, frozen=True, kw_only=True):
    """One attempt: the same ``id`` is sent again until its outcome is known."""

    id: str
    conversation: str
    text: str


class Accepted(Entry, frozen=True, kw_only=True):
    """The server says that it is stored for good, under the id ``message``."""

    id: str
    message: str
    run: str
    duplicate: bool = False


class Refused(Entry, frozen=True, kw_only=True):
    """The server says that this attempt was not stored, or that it does not know."""

    id: str
    code: str


class Unknown(Entry, frozen=True, kw_only=True):
    """No answer to this attempt will come: the connection is lost, or time was up."""

    id: str


class Shown(Entry, frozen=True, kw_only=True):
    """A piece of a reply, after *offset* code points."""

    run: str
    offset: int
    text: str


class Done(Entry, frozen=True, kw_only=True):
    """A reply is over. ``stored`` false: the server keeps it, and will store it later."""

    run: str
    text: str
    stored: bool = True


class Line(msgspec.Struct, frozen=True):
    """A message as a client reads it."""

    id: str
    text: str


class Read(Entry, frozen=True, kw_only=True):
    """The whole of a conversation, read again after everything, oldest first."""

    conversation: str
    lines: tuple[Line, ...]


class Met(Entry, frozen=True, kw_only=True):
    """Texts that were found for the user."""

    texts: tuple[str, ...]


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it lies in the store, or in the journal that is still to be stored."""

    id: str
    user: str
    conversation: str
    role: str
    text: str
    depth: int
    parent: str | None = None
    client_id: str | None = None
    reply_to: str | None = None
    status: str = "completed"
    place: Literal["store", "journal"] = "store"


AnyEntry = Joined | Sent | Accepted | Refused | Unknown | Shown | Done | Read | Met

_encoder = msgspec.json.Encoder()
_entries = msgspec.json.Decoder(AnyEntry)
_records = msgspec.json.Decoder(StoredMessage)


class Logbook:
    """One user's log; each entry is in the file when ``write`` returns."""

    def __init__(self, file: IO[bytes], user: str) -> None:
        self.user = user
        self._file = file

    def write(self, kind: Callable[..., AnyEntry], **facts: object) -> AnyEntry:
        """Note what happened just now."""
        entry = kind(t=time.monotonic(), user=self.user, **facts)
        self._file.write(_encoder.encode(entry) + b"\n")
        self._file.flush()
        return entry


def read_logs(paths: Iterable[Path]) -> list[AnyEntry]:
    """All entries of all logs, in the order in which they happened."""
    return sorted((entry for path in paths for entry in _lines(path, _entries)), key=_when)


def read_store(path: Path) -> list[StoredMessage]:
    """The records of a file that :func:`write_store` wrote."""
    return list(_lines(path, _records))


def write_store(path: Path, records: Iterable[StoredMessage]) -> None:
    """Write *records*, one a line."""
    with path.open("wb") as file:
        file.writelines(_encoder.encode(record) + b"\n" for record in records)


def _when(entry: AnyEntry) -> float:
    return entry.t


def _lines(path: Path, decoder: msgspec.json.Decoder[Value]) -> Iterator[Value]:
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)
