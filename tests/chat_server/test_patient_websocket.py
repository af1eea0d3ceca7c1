from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from chat_server.patient_websocket import PatientWebSocket

PING = bytes([0x89, 0x80 | 125, 0, 0, 0, 0]) + b"x" * 125
"""A masked ping of the largest payload (RFC 6455, section 5.5)."""
FLOOD_BYTES = 64_000_000


async def listen(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
def port() -> Iterator[int]:
    """A bare server with the protocol."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[WebSocketRoute("/", listen)])
    server = _Server(
        uvicorn.Config(app, ws=PatientWebSocket, ws_ping_interval=None, log_config=None)
    )
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)


def test_who_reads_is_answered(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/") as client:
        assert client.ping().wait(10)


def test_who_floods_with_pings_and_reads_nothing_is_hung_up_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        pings = PING * 1000
        with pytest.raises(ConnectionError):
            for _ in range(FLOOD_BYTES // len(pings)):
                raw.sendall(pings)


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def masked(first: int, payload: bytes) -> bytes:
    """A short frame with a mask of zeros."""
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(0x81, b"\xff\xfe"), 1007),
        (masked(0x01, b"\xe2\x82") + masked(0x80, b"\xff"), 1007),
        (masked(0x01, b"") + masked(0x00, b"") * 2_000, 1009),
        (masked(0x01, b"a") + masked(0x81, b"b"), 1002),
        (masked(0x80, b"nothing to continue"), 1002),
        (masked(0x09, b"a fragmented ping"), 1002),
        (masked(0xC1, b"a reserved bit"), 1002),
        (masked(0x83, b"a reserved opcode"), 1002),
        (b"\x81\x05hello", 1002),  # without a mask
        (b"\x81\xff" + b"\x7f" + b"\xff" * 7 + bytes(4), 1009),
        (masked(0x88, b"\x03\xe8\xff"), 1007),
        (masked(0x88, b"\x03"), 1002),
    ],
)
def test_nonsense_is_answered_with_a_close_code_and_nothing_is_logged(
    port: int, caplog: pytest.LogCaptureFixture, sent: bytes, code: int
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(UPGRADE + b"\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        raw.sendall(sent)
        answer = b""
        while more := raw.recv(4096):
            answer += more
        assert answer[0] == 0x88
        assert int.from_bytes(answer[2:4], "big") == code
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "more",
    [
        b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        b"X: x\r\n" * 300 + b"\r\n",
        b"Sec-WebSocket-Version: 12\r\n\r\n",
    ],
)
def test_a_request_that_cannot_be_read_ends_without_a_traceback(
    port: int, caplog: pytest.LogCaptureFixture, more: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(UPGRADE + more)
        try:
            while raw.recv(4096):
                pass
        except ConnectionError:
            pass
    assert not [record for record in caplog.records if record.exc_info]
