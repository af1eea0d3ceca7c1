"""Lines from a keyboard or a pipe."""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from typing import Final

try:
    import readline
except ImportError:  # some builds of Python are without it: lines can be typed, not edited
    readline = None  # type: ignore[assignment]  # there is no module to stand for it

MAX_TYPED_BYTES: Final = 65_536


class LineInput:
    """Reads standard input; on a terminal with editing and history (kept in memory only)."""

    def __init__(self, commands: tuple[str, ...]) -> None:
        """*commands* are completed with the tab key."""
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self.waiting = False
        """Whether the prompt stands on the screen."""
        self._commands = commands
        self._ahead: deque[str] = deque()
        self._partial = b""
        if self.interactive and readline is not None:
            readline.set_completer(self._complete)
            readline.set_completer_delims(" ")
            readline.parse_and_bind("tab: complete")

    @property
    def unfinished(self) -> str:
        """What stands behind the prompt."""
        return readline.get_line_buffer() if self.waiting and readline is not None else ""

    def read(self, prompt: str) -> str:
        """The next line, without its end; waits for it.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: Ctrl-C.
        """
        if self._ahead:
            return self._ahead.popleft()
        if not self.interactive:
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.rstrip("\r\n")
        self.waiting = True
        try:
            return input(prompt)
        finally:
            self.waiting = False

    def typed(self, within_s: float) -> str | None:
        """A line that is typed within *within_s*, while something else goes on; ``None``: none.

        What is not taken up at once can be given back with :meth:`put_back`.
        """
        if not select.select([sys.stdin], [], [], within_s)[0]:
            return None
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            return None
        self._partial = (self._partial + data)[-MAX_TYPED_BYTES:]
        line, end, rest = self._partial.partition(b"\n")
        if not end:
            return None
        self._partial = rest
        return line.decode(errors="replace").rstrip("\r")

    def put_back(self, line: str) -> None:
        """:meth:`read` returns *line* after what was put back before."""
        self._ahead.append(line)

    def _complete(self, text: str, state: int) -> str | None:
        fitting = [command for command in self._commands if text and command.startswith(text)]
        return fitting[state] if state < len(fitting) else None
