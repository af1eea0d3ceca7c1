"""``/api/import`` and ``/api/export``: lines in, lines out, both as a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from functools import partial
from typing import Any, Final

import anyio
import structlog
from slowapi import Limiter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from chat_server.errors import ChatError, told, unforeseen
from chat_server.http_routes import error_response, identify, state_of
from chat_server.state import State
from chat_server.transfer_export import export_lines
from chat_server.transfer_import import Import
from chat_server.transfer_lines import Lines
from chat_server.transfer_report import Report
from memory.errors import MemoryFault
from memory.messages import UserId

log = structlog.get_logger(__name__)

AT_ONCE: Final = 3
"""Imports, and exports, of the whole server at a time."""
BODY_IDLE_S: Final = 60.0
"""How long a client may send nothing in the middle of a body."""
LOOK_UP_S: Final = 1.0
"""How often a wait for a client is left for a look at whether the server stops."""
READ_WITHIN_S: Final = 60.0
"""How long a part of an answer may wait for its reader."""
CLOSE_WITHIN_S: Final = 10.0

Serve = Callable[[Receive, Send], Awaitable[None]]
Stopping = Callable[[], bool]


class Slots:
    """Who is at it: each user once, and ``AT_ONCE`` together."""

    def __init__(self) -> None:
        self._users: set[UserId] = set()

    @contextmanager
    def taken(self, user: UserId) -> Iterator[None]:
        """A place for *user* within the context.

        Raises:
            ChatError: ``busy``.
        """
        if user in self._users:
            raise ChatError("busy", "you have one running already", retry_after_ms=5000)
        if len(self._users) >= AT_ONCE:
            raise ChatError("busy", "others are at it; try again later", retry_after_ms=5000)
        self._users.add(user)
        try:
            yield
        finally:
            self._users.remove(user)


class Streamed(Response):
    """An answer that *serve* writes, while it may still be reading the request's body."""

    def __init__(self, slots: Slots, user: UserId, serve: Serve) -> None:
        super().__init__()
        self._slots = slots
        self._user = user
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._slots.taken(self._user))
            except ChatError as busy:
                await error_response(busy)(scope, receive, send)
                return
            await self._serve(receive, send)


class ClientLeft(Exception):
    """The client closed the connection in the middle of its body."""


async def chunks(receive: Receive, stopping: Stopping) -> AsyncIterator[bytes]:
    """The body of a request as it comes.

    Raises:
        ClientLeft: it was not sent to its end.
        ChatError: ``slow_client``, or ``shutting_down`` once *stopping* says so.
    """
    while True:
        message = await _next(receive, stopping)
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def _next(receive: Receive, stopping: Stopping) -> AsgiMessage:
    deadline = anyio.current_time() + BODY_IDLE_S
    while True:
        if stopping():
            raise ChatError("shutting_down", "the server restarts; import the file again then")
        if anyio.current_time() >= deadline:
            raise ChatError("slow_client", f"nothing was sent for {BODY_IDLE_S:.0f} s")
        with anyio.move_on_after(LOOK_UP_S):
            return await receive()


async def take_all(work: Import, receive: Receive, stopping: Stopping) -> ChatError | None:
    """Give the body's lines to *work*; why that ended before their end, if it did."""
    lines = Lines()
    try:
        async for chunk in chunks(receive, stopping):
            for line in lines.feed(chunk):
                await work.take(line)
        for line in lines.end():
            await work.take(line)
        await work.flush()
    except ChatError as reason:
        return reason
    except MemoryFault as fault:
        log.warning("import.refused", fault=type(fault).__name__, reason=str(fault))
        return told(fault)
    except ClientLeft:
        return ChatError("slow_client", "the connection ended before the body did")
    return None


async def take_and_close(work: Import, receive: Receive, stopping: Stopping) -> ChatError | None:
    """As :func:`take_all`, and recall sees what was stored. A fault of ours is told as a reason:
    the client has an answer already, and is owed its end.
    """
    try:
        try:
            return await take_all(work, receive, stopping)
        finally:
            with anyio.move_on_after(CLOSE_WITHIN_S, shield=True):
                await work.close()
    except Exception:
        log.exception("import.failed", read=work.counts.read, stored=work.counts.stored)
        return unforeseen()


async def serve_import(state: State, user: UserId, receive: Receive, send: Send) -> None:
    """Store the body's lines, and answer with what became of them, while they come."""
    report, started = Report(), time.monotonic()
    work = Import(state["memory"], user, report.error)

    async def part(body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def write() -> None:
        await send(_start())
        await report.write(part, work.counts)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, name="import answer")
        reason = await take_and_close(work, receive, lambda: state["readiness"].draining)
        report.end(work.counts, time.monotonic() - started, reason)
        tasks.cancel_scope.deadline = anyio.current_time() + READ_WITHIN_S
    await send({"type": "http.response.body", "body": b""})
    log.info(
        "import.ended",
        user=user,
        reason=reason.code if reason else "done",
        read=work.counts.read,
        stored=work.counts.stored,
        duplicates=work.counts.duplicates,
        errors=work.counts.errors,
        took_s=round(time.monotonic() - started, 1),
    )


async def serve_export(state: State, user: UserId, receive: Receive, send: Send) -> None:
    """Answer with all lines. What breaks off is broken off: its body never ends."""
    sent_bytes, complete = 0, False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_left, receive, tasks.cancel_scope)
        await send(_start(b'attachment; filename="tandem-export.ndjson"'))
        try:
            async with aclosing(export_lines(state["memory"], user)) as parts:
                async for part in parts:
                    if state["readiness"].draining:
                        break
                    with anyio.fail_after(READ_WITHIN_S):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                    sent_bytes += len(part)
                else:
                    await send({"type": "http.response.body", "body": b""})
                    complete = True
        except (MemoryFault, TimeoutError) as fault:
            log.warning("export.broken_off", fault=type(fault).__name__, reason=str(fault))
        tasks.cancel_scope.cancel()
    log.info("export.ended", user=user, complete=complete, sent_bytes=sent_bytes)


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _start(disposition: bytes | None = None) -> AsgiMessage:
    headers = [(b"content-type", b"application/x-ndjson")]
    if disposition:
        headers.append((b"content-disposition", disposition))
    return {"type": "http.response.start", "status": 200, "headers": headers}


def transfer_routes(limiter: Limiter, limit: str) -> list[Route]:
    """The routes; they spend the same limit of requests as all of ``/api``."""
    imports, exports = Slots(), Slots()
    limited: Any = limiter.shared_limit(limit, scope="http")

    async def import_(request: Request) -> Response:
        """Store lines."""
        user = identify(request).user
        return Streamed(imports, user, partial(serve_import, state_of(request), user))

    async def export(request: Request) -> Response:
        """All lines."""
        user = identify(request).user
        return Streamed(exports, user, partial(serve_export, state_of(request), user))

    return [
        Route("/api/import", limited(import_), methods=["POST"]),
        Route("/api/export", limited(export)),
    ]
