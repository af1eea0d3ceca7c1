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

from tests.browser.fake_store import FakeRun, FakeUser, Json, Refusal, Reply, Script, page_of

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
        self.reads: list[str] = []
        """What was read: ``list``, or the id of a conversation."""
        self.users: dict[str, FakeUser] = {}
        self._connections: dict[WebSocket, FakeUser] = {}
        self._numbers = itertools.count(1)
        self._group: TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = anyio.Event()
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
        self._from_outside(self._drop(code))

    def say(self, frame: Json) -> None:
        """Sends *frame* on all connections."""
        self._from_outside(self._say(frame))

    def sent(self) -> list[Json]:
        """The ``send`` frames received so far."""
        return [frame for frame in self.frames if frame["type"] == "send"]

    def _from_outside(self, job: Coroutine[object, object, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(job, self._loop).result(STARTS_WITHIN_S)

    async def _release(self) -> None:
        self._released.set()
        self._released = anyio.Event()

    async def _drop(self, code: int) -> None:
        for connection in list(self._connections):
            self._connections.pop(connection, None)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await connection.close(code)

    async def _say(self, frame: Json) -> None:
        for user in list(self.users.values()):
            await self._tell(user, frame)

    def _app(self) -> Starlette:
        routes = [
            Route("/", self._index),
            Route("/api/session", self._session, methods=["POST"]),
            Route("/api/conversations", self._conversations),
            Route("/api/conversations/{id}/messages", self._messages),
            WebSocketRoute("/ws", self._socket_of),
            Mount("/", StaticFiles(directory=STATIC)),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        self._loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as self._group:
            yield
            self._group.cancel_scope.cancel()

    async def _index(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": POLICY})

    async def _session(self, request: Request) -> Response:
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
            await self._released.wait()
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
        held = user.conversations[id_].messages
        page, before = page_of(held, query.get("before"), int(query["limit"]))
        runs = [
            {"run": run.id, "message": run.question, "text": run.text}
            for run in user.runs.values()
            if run.conversation == id_
        ]
        return JSONResponse({"messages": page, "before": before, "runs": runs})

    async def _socket_of(self, websocket: WebSocket) -> None:
        if self.script.refuse_connections:
            await websocket.close()
            return
        await websocket.accept(subprotocol="tandem.v1")
        user = self.users.get(websocket.cookies.get(COOKIE, ""))
        try:
            await websocket.receive_text()
            if user is None or self.script.close_on_hello:
                code = self.script.close_on_hello.popleft() if user else 4501
                await websocket.close(code)
                return
            self._connections[websocket] = user
            await self._welcome(websocket, user)
            while True:
                frame: Json = json.loads(await websocket.receive_text())
                self.frames.append(frame)
                await self._handle(websocket, user, frame)
        except (WebSocketDisconnect, RuntimeError):
            self._connections.pop(websocket, None)

    async def _welcome(self, websocket: WebSocket, user: FakeUser) -> None:
        frame: Json = {"type": "welcome", "v": 1, "user": user.name, "connection": "c1"}
        frame |= {"resumed": False, "epoch": "e1", "seq": 0, "max_frame_bytes": 65_536}
        frame |= {"heartbeat_s": self.script.heartbeat_s, "limits": self.script.limits}
        await websocket.send_text(json.dumps(frame))

    async def _handle(self, websocket: WebSocket, user: FakeUser, frame: Json) -> None:
        if frame["type"] == "send" and not self.script.ignore_sends:
            await self._take(websocket, user, frame)
        elif frame["type"] == "stop" and (run := user.runs.get(str(frame["run"]))):
            run.stopped = True
            await self._release()

    async def _take(self, websocket: WebSocket, user: FakeUser, frame: Json) -> None:
        client_id, text = str(frame["id"]), str(frame["text"])
        if self.script.refusals:
            refused = _refusal(client_id, self.script.refusals.popleft())
            await websocket.send_text(json.dumps(refused))
            return
        conversation = user.conversation(str(frame["conversation"]), text[:40])
        known = any(held.get("client_id") == client_id for held in conversation.messages)
        id_, run_id = f"m-{client_id}", f"run-{client_id}"
        accepted: Json = {"type": "accepted", "re": client_id, "message": id_, "run": run_id}
        accepted |= {"conversation": conversation.id, "duplicate": known}
        await websocket.send_text(json.dumps(accepted))
        if known:
            return
        parent = conversation.messages[-1]["id"] if conversation.messages else None
        message: Json = {"id": id_, "client_id": client_id, "parent": parent, "role": "user"}
        message |= {"text": text, "timestamp": time.time(), "status": "completed"}
        conversation.add(message)
        created: Json = {"type": "message.created", "conversation": conversation.id}
        await self._tell(user, created | {"message": message})
        updated: Json = {"type": "conversation.updated", "conversation": conversation.view()}
        await self._tell(user, updated)
        reply = self.script.next_reply()
        run = FakeRun(id=run_id, conversation=conversation.id, question=id_, reply=reply)
        user.runs[run.id] = run
        assert self._group is not None
        self._group.start_soon(self._reply, user, run)

    async def _reply(self, user: FakeUser, run: FakeRun) -> None:
        reply = run.reply
        started: Json = {"type": "run.started", "run": run.id, "conversation": run.conversation}
        await self._tell(user, started | {"message": run.question, "model": reply.model})
        if reply.memories:
            memories: Json = {"type": "run.memories", "run": run.id, "items": reply.memories}
            await self._tell(user, memories)
        for number, piece in enumerate((*reply.pieces, ""), start=0):
            if number == reply.drop_after:
                await self._drop(1012)
            if number == reply.hold_after:
                await self._released.wait()
            if run.stopped or not piece:
                break
            delta: Json = {"type": "run.delta", "run": run.id, "offset": len(run.text)}
            run.text += piece
            await self._tell(user, delta | {"text": piece})
        await self._finish(user, run)

    async def _finish(self, user: FakeUser, run: FakeRun) -> None:
        conversation = user.conversations[run.conversation]
        status = "stopped" if run.stopped else run.reply.status
        parent = conversation.messages[-1]["id"]
        message: Json = {"id": f"r-{run.id}", "parent": parent, "role": "assistant"}
        message |= {"text": run.text, "timestamp": time.time(), "status": status}
        message |= {"model": run.reply.model, "reply_to": run.question}
        conversation.add(message)
        del user.runs[run.id]
        done: Json = {"type": "run.done", "run": run.id, "status": status, "message": message}
        done |= {"conversation": run.conversation, "model": run.reply.model}
        done |= {"chars": len(run.text), "finish_reason": run.reply.finish_reason}
        done |= {"stored": False, "kept": True} if run.reply.kept else {}
        await self._tell(user, done | ({"error": run.reply.error} if run.reply.error else {}))
        await self._tell(user, {"type": "limits"} | self.script.limits)

    async def _tell(self, user: FakeUser, frame: Json) -> None:
        for connection, owner in list(self._connections.items()):
            if owner is user:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await connection.send_text(json.dumps(frame))


def _unreadable() -> Response:
    error = {"code": "not_ready", "message": "away", "retryable": True, "retry_after_ms": 1000}
    return JSONResponse({"error": error}, status_code=503)


def _refusal(client_id: str, refusal: Refusal) -> Json:
    frame: Json = {"type": "error", "re": client_id, "code": refusal.code}
    frame |= {"message": refusal.message, "retryable": refusal.retryable}
    if refusal.retry_after_ms is not None:
        frame["retry_after_ms"] = refusal.retry_after_ms
    return frame


def scripted(*pieces: str) -> Reply:
    """A reply of these deltas that goes well."""
    return Reply(pieces=pieces)
