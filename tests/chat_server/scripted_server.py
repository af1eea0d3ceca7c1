"""A server whose every frame is written by the test, for what a real one does seldom."""

from __future__ import annotations

import http
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from chat_server.client import Client

Frame = dict[str, Any]
WITHIN_S = 10.0


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.hello: Frame = {}

    async def receive(self) -> Frame:
        with anyio.fail_after(WITHIN_S):
            frame: Frame = json.loads(await self.socket.recv())
        return frame

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def accept(self, sent: Frame, *, duplicate: bool = False, run: str = "r1") -> None:
        answer = {"re": sent["id"], "message": "m1", "conversation": "c1", "run": run}
        await self.send(type="accepted", **answer, duplicate=duplicate)

    async def close(self, code: int = 1012, reason: str = "") -> None:
        await self.socket.close(code, reason)


class ScriptedServer:
    """Welcomes each connection and hands it to the test; what GET is answered with stands in
    ``answers``, by path; otherwise it is 404.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, tuple[int, Frame]] = {}
        self.asked: list[str] = []
        self.welcome = {"type": "welcome", "v": 1, "user": "ana", "heartbeat_s": 25.0}
        self.upgrade_status: int | None = None
        self.refuse_with: int | None = None
        """Close code that the next connections get instead of a welcome."""
        self.holders: list[str | None] = []
        """As whom HTTP was asked."""
        self._arrive, self._arrivals = anyio.create_memory_object_stream[Peer](10)

    async def peer(self) -> Peer:
        """The next connection."""
        with anyio.fail_after(WITHIN_S):
            return await self._arrivals.receive()

    async def handle(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        peer.hello = await peer.receive()
        if self.refuse_with is not None:
            await peer.close(self.refuse_with)
            return
        await peer.send(**self.welcome)
        await self._arrive.send(peer)
        await socket.wait_closed()

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/ws":
            if self.upgrade_status is None:
                return None
            return connection.respond(http.HTTPStatus(self.upgrade_status), "no")
        self.asked.append(request.path)
        self.holders.append(request.headers.get("Authorization"))
        status, body = self.answers.get(request.path.partition("?")[0], (404, {}))
        return connection.respond(http.HTTPStatus(status), json.dumps(body))

    def close(self) -> None:
        self._arrive.close()
        self._arrivals.close()


@asynccontextmanager
async def opened(client: Client, server: ScriptedServer) -> AsyncIterator[Peer]:
    """*client* connected to *server*; the server's end of it."""
    async with client:
        yield await server.peer()


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """A scripted server on a free port."""
    scripted = ScriptedServer()
    async with serve(
        scripted.handle,
        "127.0.0.1",
        0,
        process_request=scripted.answer,
        subprotocols=[Subprotocol("tandem.v1")],
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        scripted.url = f"http://127.0.0.1:{port}"
        try:
            yield scripted
        finally:
            scripted.close()
