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
