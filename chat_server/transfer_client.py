"""The client's side of import and export: a file's lines to a server, and a server's to a file."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import httpx
import msgspec

from chat_server.foreign_chatgpt import chatgpt_lines
from chat_server.foreign_formats import Format, Skipped, Source
from chat_server.foreign_openai import openai_lines
from chat_server.transfer_lines import encode_line

CHUNK_BYTES: Final = 65_536
CHUNK_LINES: Final = 100
ANSWER_WITHIN_S: Final = 120.0
"""The server takes lines as fast as it stores them, and tells every second how far it is."""

WRITE_WITHIN_S: Final = 600.0
"""A part that is sent waits for those before it to be stored, by a server that is busy."""
SMALL_BUFFER: Final = (socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
"""What is sent is then nearly what is stored: megabytes would wait in a buffer otherwise, and a
write for minutes until a third of it is free."""


class TransferFailed(Exception):
    """It was not done; the message says why, and what to do."""


class ToldError(msgspec.Struct):
    """Why the server did not do something."""

    code: str
    message: str
    field: str | None = None


class Told(msgspec.Struct):
    """A line of the server's answer: about one *line*, how far it is, or (*done*) the summary."""

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    errors: int = 0
    line: int | None = None
    done: bool | None = None
    error: ToldError | None = None


class _Refusal(msgspec.Struct):
    error: ToldError


class Upload:
    """The lines of a file in one of the formats; counts what was handed out.

    *skipped* is told of each conversation that could not be read.
    """

    def __init__(self, source: Source, kind: Format, skipped: Callable[[Skipped], None]) -> None:
        self._source = source
        self._kind = kind
        self._tell_skipped = skipped
        self.lines = 0
        self.skipped = 0

    def chunks(self) -> Iterator[bytes]:
        """The lines, some at a time."""
        if self._kind == "ndjson":
            view = memoryview(self._source)
            for start in range(0, len(view), CHUNK_BYTES):
                chunk = bytes(view[start : start + CHUNK_BYTES])
                self.lines += chunk.count(b"\n")
                yield chunk
            return
        part: list[bytes] = []
        read = chatgpt_lines if self._kind == "chatgpt" else openai_lines
        for line in read(self._source):
            if isinstance(line, Skipped):
                self.skipped += 1
                self._tell_skipped(line)
                continue
            self.lines += 1
            part.append(encode_line(line))
            if len(part) == CHUNK_LINES:
                yield b"".join(part)
                part.clear()
        yield b"".join(part)


def open_client(url: str, token: str) -> httpx.Client:
    """A client of the server at *url* for whoever *token* names."""
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.HTTPTransport(socket_options=[SMALL_BUFFER])
    timeout = httpx.Timeout(ANSWER_WITHIN_S, write=WRITE_WITHIN_S)
    return httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)


def send(http: httpx.Client, chunks: Iterator[bytes], tell: Callable[[Told], None]) -> Told:
    """Import *chunks*; *tell* is called with what the server tells on the way.

    Raises:
        TransferFailed: not all was read; what was stored stays.
    """
    last = far = Told()
    with _failing_plainly(lambda: _how_far(far)):
        with http.stream("GET", "/api/conversations", params={"limit": 1}) as response:
            _check(response)  # before anything is sent in vain
        with http.stream("POST", "/api/import", content=chunks) as response:
            _check(response)
            for row in response.iter_lines():
                last = msgspec.json.decode(row, type=Told)
                far = last if last.line is None else far
                tell(last)
    if not last.done:
        reason = last.error.message if last.error else "the answer has no end"
        raise TransferFailed(f"{reason}; {_how_far(far)}")
    return last


def _how_far(far: Told) -> str:
    """What is known of an import that ended early, and what to do."""
    stored = f"{far.stored:,} of {far.read:,} lines read were stored; " if far.read else ""
    return f"{stored}run it again: nothing is stored twice"


def receive(http: httpx.Client, target: BinaryIO, tell: Callable[[bytes], None]) -> None:
    """Write the export into *target*; *tell* is called with each part.

    Raises:
        TransferFailed: it broke off.
    """
    with _failing_plainly(lambda: "run it again"), http.stream("GET", "/api/export") as response:
        _check(response)
        for part in response.iter_bytes(CHUNK_BYTES):
            target.write(part)
            tell(part)


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        refusal = msgspec.json.decode(response.read(), type=_Refusal)
    except msgspec.DecodeError as wrong:
        raise TransferFailed(f"the server answered {response.status_code}") from wrong
    raise TransferFailed(refusal.error.message)


@contextmanager
def _failing_plainly(advice: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as fault:
        raise TransferFailed(f"the server cannot be reached: {fault}") from fault
    except httpx.InvalidURL as fault:
        raise TransferFailed(f"this is no address of a server: {fault}") from fault
    except httpx.HTTPError as fault:
        raise TransferFailed(
            f"the connection broke ({type(fault).__name__}); {advice()}"
        ) from fault
