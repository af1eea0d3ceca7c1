"""Reading server-sent events, without I/O (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 262_144
"""An event of a completion has some hundred bytes; more than this is not one."""

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event grew beyond ``MAX_EVENT_BYTES``."""


class EventReader:
    """Turns a response's bytes, cut anywhere, into the data of its events.

    Names, ids and comments are dropped: completions say everything in the data. An event
    that its empty line has not ended yet when the response ends is not one.
    """

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a line
        self._data: list[bytes] = []  # the lines of an event that has not ended
        self._data_bytes = 0
        self._after_cr = False  # a line feed that comes next belongs to the line break before it
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that *chunk* completes, in order.

        Raises:
            EventTooLong: this reader cannot be used any further.
        """
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        lines = (self._rest + chunk).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        events: list[bytes] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        if len(self._rest) + self._data_bytes > MAX_EVENT_BYTES:
            raise EventTooLong
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._data_bytes = 0
        elif line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._data_bytes += len(value)
