"""A real server on a free port, in the test's own loop, with twins for all that is stored."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chat_server.authentication import Authenticator, Identity
from chat_server.connections import Connections
from chat_server.patient_websocket import PatientWebSocket
from chat_server.rate_limit import RateLimiter
from chat_server.settings import Settings
from chat_server.state import State
from chat_server.switchboard import Switchboard
from chat_server.websocket import chat_endpoint
from memory.messages import UserId
from memory.short_term import ShortTermPolicy
from tests.chat_server.twin_world import TwinWorld, twin_world

Frame = dict[str, Any]
WITHIN_S = 10.0


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class TwinServer:
    """The server; ``world`` is its inside."""

    def __init__(self, world: TwinWorld, connections: Connections, port: int) -> None:
        self.world = world
        self.connections = connections
        self.port = port
        self.authenticator = Authenticator("a secret of tests", guests=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def token(self, user: str = "ana", expires_at: int | None = None) -> str:
        return self.authenticator.token(Identity(UserId(user), None, expires_at))

    @asynccontextmanager
    async def client(self, user: str = "ana", **hello: Any) -> AsyncIterator[Client]:
        """A connection that has said hello and was welcomed."""
        async with connect(self.url, max_size=None, ping_interval=None) as connection:
            client = Client(connection)
            await client.send(**{"type": "hello", "v": 1, "token": self.token(user), **hello})
            client.welcome = await client.receive()
            assert client.welcome["type"] == "welcome", client.welcome
            yield client


class Client:
    """A connection that speaks raw JSON frames."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.welcome: Frame = {}

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def receive(self) -> Frame:
        with anyio.fail_after(WITHIN_S):
            frame: Frame = json.loads(await self.connection.recv())
        return frame

    async def until(self, kind: str) -> Frame:
        """Receive until a frame of that type."""
        while True:
            frame = await self.receive()
            if frame["type"] == kind:
                return frame

    async def closed(self) -> int | None:
        """The close code, once it is there; what still comes is skipped."""
        with anyio.fail_after(WITHIN_S), suppress(ConnectionClosed):
            while True:
                await self.connection.recv()
        return self.connection.close_code


@asynccontextmanager
async def twin_server(
    protocol: type[WebSocketsSansIOProtocol] = PatientWebSocket, **limits: int
) -> AsyncIterator[TwinServer]:
    """Serve ``/ws`` by *protocol*; *limits* are those of ``Connections``."""
    async with twin_world() as world, anyio.create_task_group() as tasks:
        connections = Connections(world.desk.metrics, **limits)
        listener = socket.create_server(("127.0.0.1", 0))
        served = TwinServer(world, connections, listener.getsockname()[1])
        state = {
            "settings": Settings(),
            "authenticator": served.authenticator,
            "limiter": RateLimiter(world.short_term, ShortTermPolicy(user_limit=1000)),
            "turns": world.turns,
            "switchboard": Switchboard(world.turns, world.desk.runs, world.desk.memory, None),
            "runs": world.desk.runs,
            "late": world.desk.late,
            "fanout": world.desk.fanout,
            "memory": world.desk.memory,
            "metrics": world.desk.metrics,
            "connections": connections,
        }

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[State]:
            yield cast("State", state)

        app = Starlette(routes=[WebSocketRoute("/ws", chat_endpoint)], lifespan=lifespan)
        server = _Server(
            uvicorn.Config(
                app,
                ws=protocol,
                ws_max_size=65_536,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                log_config=None,
                timeout_graceful_shutdown=5,
            )
        )
        tasks.start_soon(server.serve, [listener])
        tasks.start_soon(connections.clock.run)
        try:
            yield served
        finally:
            connections.close_all()
            with anyio.CancelScope(shield=True), anyio.move_on_after(WITHIN_S):
                await connections.wait_none()
            server.should_exit = True
            with anyio.CancelScope(shield=True), anyio.move_on_after(WITHIN_S):
                while server.servers and any(it.is_serving() for it in server.servers):
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
