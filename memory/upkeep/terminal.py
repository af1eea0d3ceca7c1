"""What the commands on the store's files show: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Report = Callable[[str, float], None]
"""Is told what is being done now, and how much of the whole is done (0..1)."""


@contextmanager
def told() -> Iterator[Report]:
    """Show what is told on stderr: a bar on a terminal, elsewhere a line for each new step."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines().tell
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:<30}"), BarColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda step, done: progress.update(task, description=step, completed=done)


def counted(number: int, noun: str) -> str:
    """*number* of *noun*, as people write it: "1 user", "2,630 users"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def quiet_logs() -> None:
    """Let the log be errors on stderr: a command tells what it does itself."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class _Lines:
    """A step is told once, however often it gets on."""

    def __init__(self) -> None:
        self._step: str | None = None

    def tell(self, step: str, _done: float) -> None:
        if step != self._step:
            self._step = step
            typer.echo(step, err=True)
