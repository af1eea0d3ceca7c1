"""The plain design, for comparison: the same frames, every step awaited in turn.

Rate limit with single commands, a collection for each user through Chroma's own client, the
window as one JSON value in Redis, torch for embedding, and openai's typed stream with a frame
for each token. Nothing is slower than it must be: embeddings are made once for each text, in a
thread; collections, clients and connections are kept. ``turns.py --against naive`` starts it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import chromadb
import httpx
import numpy as np
import openai
import torch
import uvicorn
from anyio.to_thread import run_sync
from chromadb.api.models.AsyncCollection import AsyncCollection
from numpy.typing import NDArray
from redis.asyncio import Redis
from sentence_transformers import SentenceTransformer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script

from memory.model_files import packaged_folder  # noqa: E402 - after the path is set

LIMIT = 10_000
LIMIT_WINDOW_S = 60
ACTIVE_S, INACTIVE_S = 86_400, 3_600
WINDOW_MESSAGES = 10
MEMORIES = 5
PERSONA = "You are a helpful assistant with a long memory."
READY_WITHIN_S = 60.0

Said = dict[str, str]
Vector = NDArray[np.float32]


class NaiveServer:
    """Takes a message through all steps, one after the other."""

    def __init__(self, chroma: Any, redis: Redis, model: openai.AsyncOpenAI) -> None:
        self._chroma = chroma
        self._redis = redis
        self._model = model
        self._embedder = SentenceTransformer(str(packaged_folder()), device="cpu")
        self._embedding = anyio.CapacityLimiter(1)
        self._collections: dict[str, AsyncCollection] = {}

    async def chat(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            user = json.loads(await socket.receive_text())["token"]
            await socket.send_json({"type": "welcome", "v": 1, "user": user})
            while True:
                frame = json.loads(await socket.receive_text())
                if frame["type"] == "send":
                    await self._turn(socket, user, frame)
        except WebSocketDisconnect:
            return

    async def _turn(self, socket: WebSocket, user: str, frame: dict[str, Any]) -> None:
        text, key = frame["text"], f"chat:{user}:window:{frame['conversation']}"
        if not await self._admit(user):
            error = {"type": "error", "code": "rate_limited", "re": frame["id"]}
            await socket.send_json(error)
            return
        active = await self._redis.get(f"chat:{user}:last_active") is not None
        await self._redis.set(f"chat:{user}:last_active", time.time(), ex=ACTIVE_S)
        life_s = ACTIVE_S if active else INACTIVE_S

        vector = await self._embed(text)
        question = await self._store(user, "user", text, vector)
        await socket.send_json({"type": "accepted", "re": frame["id"], "message": question})
        window = await self._remember(key, {"role": "user", "content": text}, life_s)

        memories = await self._recall(user, vector)
        reply = await self._stream(socket, memories, window)
        stored = await self._store(user, "assistant", reply, await self._embed(reply))
        await self._remember(key, {"role": "assistant", "content": reply}, life_s)
        done = {"type": "run.done", "run": stored, "status": "completed", "message": reply}
        await socket.send_json(done)

    async def _admit(self, user: str) -> bool:
        """Whether *user* and all together are below their limits."""
        for key in (f"chat:{user}:rate", "chat:global:rate"):
            count = await self._redis.incr(key)
            if count == 1:
                await self._redis.expire(key, LIMIT_WINDOW_S)
            if count > LIMIT:
                return False
        return True

    async def _embed(self, text: str) -> Vector:
        def encode() -> Vector:
            vector: Vector = self._embedder.encode(
                text, normalize_embeddings=True, show_progress_bar=False
            )
            return vector

        return await run_sync(encode, limiter=self._embedding)

    async def _collection(self, user: str) -> AsyncCollection:
        found = self._collections.get(user)
        if found is None:
            found = await self._chroma.get_or_create_collection(
                f"user_{user}", metadata={"hnsw:space": "cosine"}, embedding_function=None
            )
            self._collections[user] = found
        return found

    async def _store(self, user: str, role: str, text: str, vector: Vector) -> str:
        message = token_hex(12)
        collection = await self._collection(user)
        await collection.add(
            ids=[message],
            documents=[text],
            embeddings=vector[np.newaxis],
            metadatas=[{"role": role, "timestamp": time.time()}],
        )
        return message

    async def _remember(self, key: str, said: Said, life_s: int) -> list[Said]:
        """The window with *said* at its end."""
        held = await self._redis.get(key)
        window: list[Said] = [*(json.loads(held) if held else []), said][-WINDOW_MESSAGES:]
        await self._redis.set(key, json.dumps(window), ex=life_s)
        return window

    async def _recall(self, user: str, vector: Vector) -> list[str]:
        collection = await self._collection(user)
        found = await collection.query(query_embeddings=vector[np.newaxis], n_results=MEMORIES)
        documents = found["documents"]
        return documents[0] if documents else []

    async def _stream(self, socket: WebSocket, memories: list[str], window: list[Said]) -> str:
        """Each token goes out as it comes."""
        known = "What you remember:\n" + "\n".join(memories)
        messages: list[Any] = [
            {"role": "system", "content": PERSONA},
            {"role": "system", "content": known},
            *window,
        ]
        stream = await self._model.chat.completions.create(
            model="gpt-4o-mini", messages=messages, max_tokens=150, temperature=0.7, stream=True
        )
        pieces: list[str] = []
        async for chunk in stream:
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece:
                pieces.append(piece)
                await socket.send_json({"type": "run.delta", "text": piece})
        return "".join(pieces)


async def begin_session(_request: Request) -> JSONResponse:
    user = token_hex(12)
    return JSONResponse({"token": user, "user": user})


def application(chroma_port: int, redis_socket: Path) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        redis = Redis(unix_socket_path=str(redis_socket))
        chroma = await chromadb.AsyncHttpClient(host="127.0.0.1", port=chroma_port)
        async with redis, openai.AsyncOpenAI() as model:
            server = NaiveServer(chroma, redis, model)
            app.router.routes.append(WebSocketRoute("/ws", server.chat))
            yield

    routes = [Route("/api/session", begin_session, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


@contextmanager
def child(*argv: str) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_chroma(port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise SystemExit("naive: Chroma did not start")


class Announced(uvicorn.Server):
    """Says when it serves, in the words of the other server's log."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        ready = {"event": "server.ready", "address": f"http://127.0.0.1:{port}"}
        print(json.dumps(ready), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="an empty folder")
    data: Path = parser.parse_args().data
    torch.set_num_threads(1)
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    redis_socket = data / "redis.sock"
    chroma = Path(sys.executable).with_name("chroma")
    with ExitStack() as children:
        run = ("run", "--path", str(data / "chroma"), "--host", "127.0.0.1", "--port", str(port))
        children.enter_context(child(str(chroma), *run))
        listen = ("--port", "0", "--unixsocket", str(redis_socket), "--dir", str(data))
        children.enter_context(child("redis-server", *listen))
        wait_chroma(port)
        config = uvicorn.Config(
            application(port, redis_socket),
            port=0,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
        )
        Announced(config).run()


if __name__ == "__main__":
    main()
