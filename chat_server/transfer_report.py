"""What an import tells its client, as lines; telling never holds the import up."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgspec

from chat_server.errors import ChatError
from chat_server.events import ErrorFacts, error_facts
from chat_server.transfer_import import Counts

PROGRESS_EVERY_S: Final = 1.0
MAX_UNREAD: Final = 10_000
"""Lines that may wait for a client that reads only once it has sent everything."""


class LineError(msgspec.Struct, frozen=True):
    """Line *line* (from 1) was not imported."""

    line: int
    error: ErrorFacts


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last line. ``done``: all lines were read; else ``error`` says why not. ``untold``: errors
    whose lines nobody read in time.
    """

    done: bool
    read: int
    stored: int
    duplicates: int
    errors: int
    took_ms: int
    untold: int = 0
    error: ErrorFacts | None = None


class Report:
    """Collects the lines of the answer, and writes them as fast as the client reads."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = anyio.Event()
        self._ended = False
        self._untold = 0

    def error(self, line: int, error: ChatError) -> None:
        """Tell that *line* was not imported; only counted while ``MAX_UNREAD`` are not read."""
        if len(self._waiting) >= MAX_UNREAD:
            self._untold += 1
        else:
            self._put(LineError(line, error_facts(error)))

    def end(self, counts: Counts, took_s: float, reason: ChatError | None = None) -> None:
        """Tell how it ended; nothing is told after this."""
        self._ended = True
        self._put(
            Summary(
                done=reason is None,
                read=counts.read,
                stored=counts.stored,
                duplicates=counts.duplicates,
                errors=counts.errors,
                took_ms=round(took_s * 1000),
                untold=self._untold,
                error=error_facts(reason) if reason else None,
            )
        )

    async def write(self, send: Callable[[bytes], Awaitable[None]], counts: Counts) -> None:
        """Send what is told until the end was; in silence, the *counts* every second."""
        while not (self._ended and not self._waiting):
            with anyio.move_on_after(PROGRESS_EVERY_S):
                await self._changed.wait()
            self._changed = anyio.Event()
            lines, self._waiting = self._waiting, deque()
            if not lines:
                lines.append(_line(counts))
            await send(b"".join(lines))

    def _put(self, line: LineError | Summary) -> None:
        self._waiting.append(_line(line))
        self._changed.set()


def _line(body: LineError | Summary | Counts) -> bytes:
    return msgspec.json.encode(body) + b"\n"
