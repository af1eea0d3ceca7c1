"""A chat server in memory that speaks the protocol and fails on command, for the page's tests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path

import anyio
import uvicorn
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.browser.fake_store import FakeUser, Json, Reply, Script, page_of
from tests.browser.fake_turns import FakeTurns, refusal

STATIC = Path(__file__).parents[2] / "static"
COOKIE = "fake_session"
STARTS_WITHIN_S = 10.0
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' ws: wss:"
)


class FakeServer:
    """Runs in its own thread on a free port; ``url`` is where. A test scripts and inspects it."""

    def __init__(self) -> None:
        self.script = Script()
        self.frames: list[Json] = []
        self.hellos: list[Json] = []
        self.reads: list[str] = []
        """What was asked for over HTTP: ``session``, ``list``, or the id of a conversation."""
        self.users: dict[str, FakeUser] = {}
        self._connections: dict[WebSocket, FakeUser] = {}
        self._numbers = itertools.count(1)
        self._turns = FakeTurns(self)
        self.group: TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.released = anyio.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        config = uvicorn.Config(
            self._app(), log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._server.started:
            if time.monotonic() > deadline:
                raise TimeoutError("the fake server did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(STARTS_WITHIN_S)
        self._socket.close()

    def release(self) -> None:
        """Lets held replies go on."""
        self._from_outside(self._release())

    def drop(self, code: int = 1012) -> None:
        """Closes all connections."""
        self._from_outside(self.drop_all(code))

    def say(self, frame: Json) -> None:
        """Sends *frame* on all connections; a lasting event gets its place, unless it has one."""
        self._from_outside(self._say(frame))

    def erase(self, user: FakeUser, message: object) -> None:
        """Erases a message of *user*, and tells of it."""
        self._from_outside(self.tell(user, user.erase(message)))

    def miss(self, frame: Json) -> None:
        """A lasting event happens and is never sent: whoever is connected has a gap."""
        self._from_outside(self._miss(frame))

    def sent(self, kind: str = "send") -> list[Json]:
        """The frames of *kind* received so far."""
        return [frame for frame in self.frames if frame["type"] == kind]

    def _from_outside(self, job: Coroutine[object, object, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(job, self._loop).result(STARTS_WITHIN_S)

    async def _release(self) -> None:
        self.let_go()

    def let_go(self) -> None:
        self.released.set()
        self.released = anyio.Event()

    async def drop_all(self, code: int) -> None:
        for connection in list(self._connections):
            self._connections.pop(connection, None)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await connection.close(code)

    async def _say(self, frame: Json) -> None:
        for user in list(self.users.values()):
            await self.tell(user, frame)

    async def _miss(self, frame: Json) -> None:
        for user in list(self.users.values()):
            user.place(frame)

    async def tell(self, user: FakeUser, frame: Json) -> None:
        """Sends *frame* to all of *user*'s connections."""
        placed = user.place(frame)
        for connection, owner in list(self._connections.items()):
            if owner is user:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await connection.send_text(json.dumps(placed))

    def _app(self) -> Starlette:
        routes = [
            Route("/", self._index),
            Route("/api/session", self._session, methods=["POST"]),
            Route("/api/conversations", self._conversations),
            Route("/api/conversations/{id}", self._choose, methods=["PATCH"]),
            Route("/api/conversations/{id}/messages", self._messages),
            WebSocketRoute("/ws", self._socket_of),
            Mount("/", StaticFiles(directory=STATIC)),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        self._loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as self.group:
            yield
            self.group.cancel_scope.cancel()

    async def _index(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": POLICY})

    async def _session(self, request: Request) -> Response:
        self.reads.append("session")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = bearer or request.cookies.get(COOKIE, "")
        if not token:
            token = f"guest-{next(self._numbers)}"
            self.users[token] = FakeUser(token)
        if token not in self.users:
            error = {"code": "not_authenticated", "message": "whose?", "retryable": False}
            return JSONResponse({"error": error}, status_code=401)
        response = JSONResponse({"token": token, "user": token})
        response.set_cookie(COOKIE, token, httponly=True)
        return response

    async def _conversations(self, request: Request) -> Response:
        if self.script.hold_list:
            await self.released.wait()
        self.reads.append("list")
        if self.script.unreadable:
            return _unreadable()
        known = self.users[request.cookies[COOKIE]].conversations.values()
        listed = [entry.view() for entry in sorted(known, key=lambda entry: -entry.updated_at)]
        return JSONResponse({"conversations": listed, "before": None})

    async def _messages(self, request: Request) -> Response:
        user = self.users[request.cookies[COOKIE]]
        id_ = request.path_params["id"]
        self.reads.append(id_)
        if self.script.unreadable:
            return _unreadable()
        if id_ not in user.conversations:
            error = {"code": "unknown_conversation", "message": "no such", "retryable": False}
            return JSONResponse({"error": error}, status_code=404)
        query = request.query_params
        held = user.conversations[id_].line()
        page, before = page_of(held, query.get("before"), int(query["limit"]))
        runs = [
            {"run": run.id, "message": run.question, "text": run.text}
            for run in user.runs.values()
            if run.conversation == id_
        ]
        return JSONResponse({"messages": page, "before": before, "runs": runs})

    async def _choose(self, request: Request) -> Response:
        user = self.users[request.cookies[COOKIE]]
        if self.script.refuse_heads:
            error = refusal(self.script.refuse_heads.popleft())
            return JSONResponse({"error": error}, status_code=409)
        conversation = user.conversations[request.path_params["id"]]
        conversation.head = str((await request.json())["head"])
        updated: Json = {"type": "conversation.updated", "conversation": conversation.view()}
        await self.tell(user, updated)
        return JSONResponse({"conversation": conversation.view()})

    async def _socket_of(self, websocket: WebSocket) -> None:
        if self.script.refuse_connections:
            await websocket.close()
            return
        await websocket.accept(subprotocol="tandem.v1")
        user = self.users.get(websocket.cookies.get(COOKIE, ""))
        try:
            hello: Json = json.loads(await websocket.receive_text())
            self.hellos.append(hello)
            if user is None or self.script.close_on_hello:
                code = self.script.close_on_hello.popleft() if user else 4501
                await websocket.close(code)
                return
            await self._welcome(websocket, user, hello)
            while True:
                frame: Json = json.loads(await websocket.receive_text())
                self.frames.append(frame)
                await self._turns.handle(websocket, user, frame)
        except (WebSocketDisconnect, RuntimeError):
            self._connections.pop(websocket, None)

    async def _welcome(self, websocket: WebSocket, user: FakeUser, hello: Json) -> None:
        missed = user.missed(hello.get("resume"))
        told = len(user.events) - len(missed or ())
        frame: Json = {"type": "welcome", "v": 1, "user": user.name, "connection": "c1"}
        frame |= {"resumed": missed is not None, "epoch": f"e{user.epoch}"}
        frame |= {"seq": len(user.events), "max_frame_bytes": 65_536}
        frame |= {"heartbeat_s": self.script.heartbeat_s, "limits": self.script.limits}
        await websocket.send_text(json.dumps(frame))
        while told < len(user.events):
            await websocket.send_text(json.dumps(user.events[told]))
            told += 1
        self._connections[websocket] = user
        for point in hello.get("runs") or ():  # type: ignore[attr-defined]  # as the page has it
            attach: Json = {"id": f"attach-{point['run']}", **point}
            await self._turns.attach(websocket, user, attach)


def _unreadable() -> Response:
    error = {"code": "not_ready", "message": "away", "retryable": True, "retry_after_ms": 1000}
    return JSONResponse({"error": error}, status_code=503)


def scripted(*pieces: str) -> Reply:
    """A reply of these deltas that goes well."""
    return Reply(pieces=pieces)
