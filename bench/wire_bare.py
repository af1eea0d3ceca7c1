"""A bare Starlette echo on the same uvicorn, with the same options: what a connection costs at
least. The text ``stream N`` has it send N frames to everybody who is connected.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

FRAME: Final = json.dumps(
    {"type": "run.delta", "run": "r" * 44, "offset": 1234, "text": " a word or two"},
    separators=(",", ":"),
)
"""As large as a piece of a reply."""

everybody: set[WebSocket] = set()


async def echo(socket_: WebSocket) -> None:
    await socket_.accept()
    everybody.add(socket_)
    try:
        while True:
            text = await socket_.receive_text()
            if text.startswith("stream "):
                await stream(int(text.removeprefix("stream ")))
            else:
                await socket_.send_text(text)
    except WebSocketDisconnect:
        everybody.discard(socket_)


async def stream(frames: int) -> None:
    for _ in range(frames):
        for listener in list(everybody):
            await listener.send_text(FRAME)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(json.dumps({"event": "server.ready", "address": address}), flush=True)
        yield

    app = Starlette(routes=[WebSocketRoute("/ws", echo)], lifespan=lifespan)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
