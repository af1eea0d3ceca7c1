"""What the terminal client shows, and how."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.text import Text

from chat_server.client import Conversation, Memory, Message, Result

PROMPT: Final = "> "
MEMORIES_SHOWN: Final = 3
MEMORY_CHARS: Final = 60

_CONTROLS: Final = dict.fromkeys(
    (code for code in (*range(32), *range(127, 160)) if code not in (9, 10)), None
)


def harmless(text: str) -> str:
    """*text* without the control characters that a terminal would obey."""
    return text.translate(_CONTROLS)


def shortened(text: str, chars: int = MEMORY_CHARS) -> str:
    """*text* on one line, cut after *chars*."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= chars else line[: chars - 1] + "…"


def day(timestamp: float) -> str:
    """Date and time of day, in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(timestamp))


class Screen:
    """Writes replies to standard output. On a terminal, notes stand among them, dimmed; otherwise
    only what is wrong is said, on standard error.
    """

    def __init__(self, *, interactive: bool) -> None:
        self.interactive = interactive
        self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._notes = self.out if interactive else Console(stderr=True, highlight=False)

    def piece(self, text: str) -> None:
        """The next piece of a reply, where the last one ended."""
        self.out.print(Text(harmless(text)), end="")
        self.out.file.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """A line of its own."""
        self.out.print(Text(harmless(text)), style=style)

    def note(self, text: str) -> None:
        """What is good to know, and no part of the conversation; on a terminal only."""
        if self.interactive:
            self.line(text, "dim")

    def problem(self, text: str) -> None:
        """What went wrong."""
        self._notes.print(Text(harmless(text)), style="red", soft_wrap=True)

    def beside_prompt(self, text: str, unfinished: str) -> None:
        """A note while the prompt stands there: above it, and the prompt again."""
        self.out.file.write("\r\x1b[K")
        self.note(text)
        self.out.file.write(PROMPT + harmless(unfinished))
        self.out.file.flush()

    @contextmanager
    def countdown(self) -> Iterator[Callable[[str], None]]:
        """A line that changes in its place, on a terminal; it is gone at the end."""
        if not self.interactive:
            yield lambda _text: None
            return
        with self.out.status("") as status:
            yield lambda text: status.update(Text(text, "dim"))

    def memories(self, memories: Sequence[Memory]) -> None:
        """What is remembered for the reply that follows."""
        if memories:
            shown = " · ".join(shortened(memory.text) for memory in memories[:MEMORIES_SHOWN])
            more = len(memories) - MEMORIES_SHOWN
            self.note(f"remembered: {shown}" + (f" · and {more} more" if more > 0 else ""))

    def ended(self, result: Result) -> None:
        """The end of a reply, and what is to be said of it."""
        if result.corrected:
            self.line()
            self.note("what holds of this reply:")
            self.piece(result.text)
        self.line()
        if result.model == "offline" and result.error is None:
            self.note("no language model is connected: answered from memory")
        if result.status == "stopped":
            self.note("stopped")
        elif result.status == "interrupted":
            self.problem("the server restarted in the middle of this reply")
        if result.error is not None:
            self.problem(result.error.message)
        elif result.kept:
            self.note("not stored yet: the server keeps it until it can be")
        elif not result.stored:
            self.problem("this reply could not be stored")

    def title(self, conversation: Conversation) -> None:
        """What the messages that follow belong to."""
        self.note(f"{shortened(conversation.title)} ({day(conversation.updated_at)})")

    def message(self, message: Message) -> None:
        """A message of the history."""
        if message.role == "user":
            self.line(f"{PROMPT}{message.text}", "bold")
            if message.reply == "interrupted":
                self.note("interrupted before it was answered")
        else:
            self.line(message.text)

    def conversations(self, listed: Sequence[Conversation], current: str | None) -> None:
        """A numbered list; the current conversation is marked."""
        for number, found in enumerate(listed, start=1):
            mark = "*" if found.id == current else " "
            self.line(f"{mark}{number:>3}  {day(found.updated_at)}  {shortened(found.title)}")
        if not listed:
            self.line("nothing was said yet")

    def found(self, memories: Sequence[Memory]) -> None:
        """The results of a search."""
        for memory in memories:
            self.line(f"{day(memory.timestamp)}  {shortened(memory.text, 100)}")
        if not memories:
            self.line("nothing found")
