"""A model server that speaks OpenAI's chat completions over HTTP and misbehaves on request.

In a test: ``with StubModel().running() as base_url`` (its own thread), or
``base_url = await group.start(stub.serve)`` (a task of the caller's loop). On its own:
``python tests/stub_model.py --port 0 --tokens 50 --token-ms 20``; the first line on standard
output is its base URL.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, Literal

import anyio
import anyio.abc
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Kind = Literal[
    "ok", "401", "403", "429", "400", "500", "cut", "cut_clean", "hang", "garbage", "error_event"
]


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """How the next requests are answered.

    ``after_tokens``: how many tokens come before ``cut``, ``cut_clean``, ``hang``, ``garbage`` and
    ``error_event`` happen; with ``hang`` and 0 not even the headers are sent. ``echo``: the
    reply repeats the last user message and every line of the prompt that contains this text.
    ``usage`` ``None``: sent when the request asks for it; otherwise always or never.
    """

    kind: Kind = "ok"
    tokens: int = 10
    first_token_ms: float = 0.0
    token_ms: float = 0.0
    after_tokens: int = 3
    retry_after_s: float = 2.0
    text: str | None = None
    echo: str | None = None
    finish_reason: str = "stop"
    usage: bool | None = None
    done: bool = True


class Recorded(msgspec.Struct, kw_only=True):
    """One request, as it came in. Times are on the monotonic clock, in seconds."""

    path: str
    client_port: int
    headers: dict[str, str]
    body: dict[str, Any]
    received_s: float
    first_token_s: float | None = None
    ended_s: float | None = None
    tokens_sent: int = 0
    closed_early: bool = False

    @property
    def messages(self) -> list[dict[str, str]]:
        messages: list[dict[str, str]] = self.body["messages"]
        return messages


class _Cut(Exception):
    """The connection is to be closed in the middle of the response."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals belong to the program that runs this server


class StubModel:
    """The server; ``mode`` may be replaced at any time, ``requests`` are in order of arrival."""

    def __init__(self, mode: Mode | None = None) -> None:
        self.mode = mode or Mode()
        self.requests: list[Recorded] = []
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/requests", self._list_requests, methods=["GET"]),
                Route("/requests", self._forget_requests, methods=["DELETE"]),
                Route("/mode", self._set_mode, methods=["POST"]),
            ]
        )

    @contextlib.contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        """Serve in a thread of its own; yields the base URL, ending in ``/v1``."""
        listener, server = self._prepare(port)
        thread = threading.Thread(target=functools.partial(server.run, [listener]), daemon=True)
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join(timeout=10)

    async def serve(
        self,
        *,
        port: int = 0,
        task_status: anyio.abc.TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; reports the base URL, ending in ``/v1``."""
        listener, server = self._prepare(port)

        async def run() -> None:
            with anyio.CancelScope(shield=True):  # ends by should_exit, within its grace period
                await server.serve([listener])

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                task_status.started(_url(listener))
                await anyio.sleep_forever()
            finally:
                server.should_exit = True

    def _prepare(self, port: int) -> tuple[socket.socket, _Server]:
        listener = socket.create_server(("127.0.0.1", port))  # connections queue from here on
        config = uvicorn.Config(
            self.app,
            log_level=logging.CRITICAL + 1,
            lifespan="off",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,  # as the vendors' servers; uvicorn's 5 s end in a busy moment
        )
        return listener, _Server(config)

    async def _list_requests(self, _request: Request) -> Response:
        return JSONResponse(msgspec.to_builtins(self.requests))

    async def _forget_requests(self, _request: Request) -> Response:
        self.requests.clear()
        return Response(status_code=204)

    async def _set_mode(self, request: Request) -> Response:
        self.mode = msgspec.json.decode(await request.body(), type=Mode)
        return JSONResponse(msgspec.to_builtins(self.mode))

    async def _complete(self, request: Request) -> Response | _Reply:
        record = Recorded(
            path=request.url.path,
            client_port=request.scope["client"][1],
            headers=dict(request.headers),
            body=await request.json(),
            received_s=time.monotonic(),
        )
        self.requests.append(record)
        mode = self.mode
        if mode.kind in ("400", "401", "403", "429", "500"):
            return _refusal(mode)
        return _Reply(mode, record)


class _Reply:
    """One completion as an ASGI response: streamed if asked for, ended when the client goes."""

    def __init__(self, mode: Mode, record: Recorded) -> None:
        self.mode = mode
        self.record = record
        self.tokens = _tokens(mode, record.messages)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, receive, group.cancel_scope)
            # Returning with an unfinished response makes uvicorn close the connection.
            with contextlib.suppress(_Cut):
                await (self._stream if self.record.body.get("stream") else self._whole)(send)
            self.record.ended_s = time.monotonic()
            group.cancel_scope.cancel()

    async def _watch(self, receive: Receive, answer: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if self.record.ended_s is None:
            self.record.closed_early = True
            self.record.ended_s = time.monotonic()
        answer.cancel()

    async def _whole(self, send: Send) -> None:
        if self.mode.kind == "hang":
            await anyio.sleep_forever()
        await anyio.sleep((self.mode.first_token_ms + len(self.tokens) * self.mode.token_ms) / 1000)
        message = {"role": "assistant", "content": "".join(self.tokens)}
        choice = {"index": 0, "message": message, "finish_reason": self.mode.finish_reason}
        body = {**_envelope("chat.completion"), "choices": [choice], "usage": self._usage()}
        await _start(send, "application/json")
        await send({"type": "http.response.body", "body": msgspec.json.encode(body)})

    async def _stream(self, send: Send) -> None:
        if self.mode.kind == "hang" and self.mode.after_tokens == 0:
            await anyio.sleep_forever()
        await _start(send, "text/event-stream; charset=utf-8")
        async for event in self._events():
            data = event if isinstance(event, bytes) else msgspec.json.encode(event)
            body = b"data: " + data + b"\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncIterator[bytes | dict[str, Any]]:
        yield _chunk({"role": "assistant", "content": ""})
        await anyio.sleep(self.mode.first_token_ms / 1000)
        for index, token in enumerate(self.tokens):
            if self.mode.kind != "ok" and index == self.mode.after_tokens:
                async for event in self._misbehave():
                    yield event
                return
            if index and self.mode.token_ms:
                await anyio.sleep(self.mode.token_ms / 1000)
            self.record.first_token_s = self.record.first_token_s or time.monotonic()
            yield _chunk({"content": token})
            self.record.tokens_sent += 1
        yield _chunk({}, finish_reason=self.mode.finish_reason)
        options = self.record.body.get("stream_options") or {}
        if self.mode.usage or (self.mode.usage is None and options.get("include_usage")):
            yield {**_envelope("chat.completion.chunk"), "choices": [], "usage": self._usage()}
        if self.mode.done:
            yield b"[DONE]"

    async def _misbehave(self) -> AsyncIterator[bytes | dict[str, Any]]:
        match self.mode.kind:
            case "cut":
                raise _Cut
            case "hang":
                await anyio.sleep_forever()
            case "garbage":
                yield b'{"choices": [{"delta": {"content": '
            case "error_event":
                yield {"error": {"message": "vendor-internal detail", "type": "server_error"}}

    def _usage(self) -> dict[str, int]:
        words = sum(len(str(message["content"]).split()) for message in self.record.messages)
        count = len(self.tokens)
        total = words + count
        return {"prompt_tokens": words, "completion_tokens": count, "total_tokens": total}


def _tokens(mode: Mode, messages: list[dict[str, str]]) -> list[str]:
    if mode.echo is not None:
        said = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
        lines = [line for m in messages for line in m["content"].splitlines() if mode.echo in line]
        words = "\n".join([f"You said: {said}", "I was given:", *lines]).split(" ")
    elif mode.text is not None:
        words = mode.text.split(" ")
    else:
        words = [f"word{number}" for number in range(1, mode.tokens + 1)]
    return [word if index == 0 else " " + word for index, word in enumerate(words)]


def _refusal(mode: Mode) -> Response:
    headers = {"x-request-id": "stub-request"}
    if mode.kind == "429":
        headers["retry-after"] = f"{mode.retry_after_s:g}"
    error = {"message": "vendor-internal detail", "type": "stub", "code": f"stub_{mode.kind}"}
    return JSONResponse({"error": error}, status_code=int(mode.kind), headers=headers)


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-stub", "object": kind, "created": int(time.time()), "model": "stub"}


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {**_envelope("chat.completion.chunk"), "choices": [choice], "usage": None}


async def _start(send: Send, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"x-request-id", b"stub-request")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def main() -> None:
    parser = argparse.ArgumentParser(description="A stub of an OpenAI-compatible model server.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    for field in msgspec.structs.fields(Mode):
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=None)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    port = given.pop("port")
    listener, server = StubModel(msgspec.convert(given, Mode, strict=False))._prepare(port)
    sys.stdout.write(_url(listener) + "\n")
    sys.stdout.flush()
    # One SIGTERM or SIGINT ends the process; there is nothing to save.
    server.run([listener])


if __name__ == "__main__":
    main()
