from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from chat_server.patient_http import MAX_HEAD_BYTES, PatientHttp

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


class Hasty(PatientHttp):
    head_within_s = 0.3


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def raw() -> Iterator[socket.socket]:
    """A connection to a bare server with the protocol, in a hurry."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    server = _Server(uvicorn.Config(app, http=Hasty, log_config=None, timeout_keep_alive=60))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            yield connection
    finally:
        server.should_exit = True
        thread.join(10)


def ended(raw: socket.socket) -> bool:
    """Whether the server hung up without a word."""
    try:
        return raw.recv(4096) == b""
    except ConnectionResetError:
        return True


def body(raw: socket.socket) -> bytes:
    """What the next answer says."""
    received = b""
    while b"\r\n\r\n" not in received or received.endswith(b"\r\n\r\n"):
        received += raw.recv(4096)
    return received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("sent", [b"", b"G", b"POST / HTTP/1.1\r\nHost: x\r\n"])
def test_who_does_not_end_the_head_is_hung_up_on(raw: socket.socket, sent: bytes) -> None:
    raw.sendall(sent)
    assert ended(raw)


def test_the_head_of_a_later_request_has_its_own_time(raw: socket.socket) -> None:
    for _ in range(3):
        raw.sendall(REQUEST % 2 + b"ab")
        assert body(raw) == b"2"
    raw.sendall(b"POST / HT")
    assert ended(raw)


def test_an_endless_header_is_not_kept(raw: socket.socket) -> None:
    raw.sendall(b"POST / HTTP/1.1\r\nX-Y: ")
    with suppress(ConnectionError):
        for _ in range(1_000):
            raw.sendall(b"z" * MAX_HEAD_BYTES)
        pytest.fail("all of it was read")
    assert ended(raw)


def test_a_body_may_be_larger_and_slower_than_a_head(raw: socket.socket) -> None:
    size = 4 * MAX_HEAD_BYTES
    raw.sendall(REQUEST % size + b"z" * (size - 1))
    threading.Event().wait(2 * Hasty.head_within_s)  # longer than a head may take
    raw.sendall(b"z")
    assert body(raw) == str(size).encode()
