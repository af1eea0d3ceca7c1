"""Import and export as a terminal shows them: bars, and a line for what is wrong."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from chat_server.foreign_formats import Format, Skipped, Source, UnknownFormat, detect
from chat_server.session_file import UnreadableSessions, kept_token
from chat_server.transfer_client import (
    Told,
    TransferFailed,
    Upload,
    open_client,
    receive,
    send,
)


def import_file(file: str, url: str, token: str | None, kind: Format | None) -> None:
    """Import *file* (``-``: the standard input), a *kind* of file (``None``: guessed).

    Exits with 1 if not all of it was imported, and with a line that says why.
    """
    with _bars() as bars:
        try:
            source = read_file(file)
            upload = Upload(source, kind or detect(source), lambda it: _warn(bars, _skipped(it)))
            with open_client(url, token_for(url, token)) as http:
                told = send(http, _counted(upload, bars), Teller(upload, bars).tell)
        except (OSError, UnknownFormat, TransferFailed, UnreadableSessions) as reason:
            raise SystemExit(f"tandem: {_told(reason)}") from reason
    failed = told.errors + upload.skipped
    typer.echo(f"{told.stored:,} stored, {told.duplicates:,} known, {failed:,} not imported")
    if failed:
        raise SystemExit(1)


def export_file(file: str, url: str, token: str | None) -> None:
    """Export to *file* (``-``: the standard output); until all has come it is ``FILE.part``."""
    with _bars() as bars:
        task = bars.add_task("exported", total=None)

        def advance(part: bytes) -> None:
            bars.advance(task, part.count(b"\n"))

        try:
            with open_client(url, token_for(url, token)) as http:
                if file == "-":
                    receive(http, sys.stdout.buffer, advance)
                    return
                part = Path(f"{file}.part")
                with part.open("wb") as target:
                    receive(http, target, advance)
                part.replace(file)
        except (OSError, TransferFailed, UnreadableSessions) as reason:
            raise SystemExit(f"tandem: {_told(reason)}") from reason


def _told(reason: Exception) -> str:
    if isinstance(reason, OSError) and reason.filename:
        return f"{reason.filename}: {reason.strerror}"
    return str(reason)


class Teller:
    """Shows what the server tells of an import."""

    def __init__(self, upload: Upload, bars: Progress) -> None:
        self._upload = upload
        self._bars = bars
        self._task = bars.add_task("stored or known", total=None)

    def tell(self, told: Told) -> None:
        if told.line is not None and told.error is not None:
            field = f"{told.error.field}: " if told.error.field else ""
            _warn(self._bars, f"line {told.line}: {field}{told.error.message}")
        else:
            self._bars.update(self._task, completed=told.read, total=self._upload.lines)


def _counted(upload: Upload, bars: Progress) -> Iterator[bytes]:
    """The chunks of *upload*, with a bar of their lines."""
    task = bars.add_task("sent", total=None)
    for chunk in upload.chunks():
        yield chunk
        bars.update(task, completed=upload.lines)
    bars.update(task, total=upload.lines)


def _bars() -> Progress:
    """Bars on the standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _warn(bars: Progress, text: str) -> None:
    bars.console.print(escape(text), highlight=False, soft_wrap=True)


def _skipped(skipped: Skipped) -> str:
    return f"conversation {skipped.number}: {skipped.reason}"


def read_file(file: str) -> Source:
    """The file's content; of a real file only what is looked at is in memory."""
    if file == "-":
        return sys.stdin.buffer.read()
    with Path(file).open("rb") as opened:
        if not Path(file).stat().st_size:
            return b""
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


def token_for(url: str, given: str | None) -> str:
    """*given*, or the token that the terminal client keeps for the server at *url*.

    Raises:
        TransferFailed: there is none.
        UnreadableSessions: it cannot be known.
    """
    kept = given or kept_token(url)
    if not kept:
        raise TransferFailed(f"no session for {url}: give --token, or set TANDEM_TOKEN")
    return kept
