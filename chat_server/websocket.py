"""``/ws``: who is refused before the upgrade, then a session, then the close code."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, cast

import anyio
import structlog
from anyio import create_task_group
from starlette.websockets import WebSocket, WebSocketDisconnect

from chat_server.authentication import origin_allowed
from chat_server.errors import ERRORS, ChatError, unforeseen
from chat_server.events import error_event
from chat_server.frames import Frame, frame_of
from chat_server.http_routes import error_response
from chat_server.outbox import Outbox
from chat_server.patient_websocket import WIRE, PatientWebSocket
from chat_server.protocol import SUBPROTOCOL
from chat_server.session import ChatSession
from chat_server.state import State

log = structlog.get_logger(__name__)

WRITE_WITHIN_S: Final = 60.0
"""A frame that cannot be written for so long means that nobody reads."""
CLOSE_WITHIN_S: Final = 2.0
"""What still waits may take so long to leave before the connection is closed."""


async def chat_endpoint(socket: WebSocket) -> None:
    """Accept a connection and serve it to its end.

    A page of a foreign origin is refused before the upgrade (403): its user's cookie would come
    with it, and no CORS rule guards WebSockets (RFC 6455, section 10.2). So is whoever comes while
    there is no room, or while the server stops (503).
    """
    state = cast("State", socket.state)
    allowed = state["settings"].server.allowed_origins
    if not origin_allowed(socket.headers.get("origin"), socket.headers.get("host", ""), allowed):
        log.warning("connection.refused", reason="origin")
        await socket.close()
        return
    try:
        state["connections"].check_room()
    except ChatError as reason:
        log.warning("connection.refused", reason=reason.code)
        await socket.send_denial_response(error_response(reason))
        return
    wire = cast("PatientWebSocket | None", socket.scope.get("extensions", {}).get(WIRE))
    outbox = Outbox(wire=wire)
    with state["connections"].opened(outbox):
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if wire is not None:
            end = await _serve(socket, state, outbox)
            if end is not None:
                await _finish(outbox)
                wire.write_frame(_last_words(end, state))
                wire.hang_up(_close_code(end), end.message[:120])
        else:
            await _serve_by_asgi(socket, state, outbox)


async def _serve(socket: WebSocket, state: State, outbox: Outbox) -> ChatError | None:
    """The boundary of one connection: an error in it ends this connection only."""
    try:
        return await ChatSession(socket, state, outbox).run()
    except Exception:
        log.exception("connection.failed")
        return unforeseen()


async def _finish(outbox: Outbox) -> None:
    """Let what waits leave; who reads slowly is not waited for long."""
    if not outbox.is_empty:
        with anyio.move_on_after(CLOSE_WITHIN_S):
            await outbox.drained()


async def _serve_by_asgi(socket: WebSocket, state: State, outbox: Outbox) -> None:
    """Serve behind a server that offers no way to write but ASGI's: a task sends the frames."""
    async with create_task_group() as tasks:
        tasks.start_soon(_send_frames, socket, outbox)
        reason = await _serve(socket, state, outbox)
        if reason is not None:
            await _finish(outbox)
        tasks.cancel_scope.cancel()
    if reason is None:
        return
    with anyio.move_on_after(CLOSE_WITHIN_S), suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_text(_last_words(reason, state).payload.decode())
        await socket.close(_close_code(reason), reason.message[:120])


async def _send_frames(socket: WebSocket, outbox: Outbox) -> None:
    while True:
        frame = await outbox.take()
        try:
            with anyio.fail_after(WRITE_WITHIN_S):
                await socket.send_text(frame.payload.decode())
        except TimeoutError:
            outbox.close(ChatError("slow_client", "nothing was read; reconnect"))
            return
        except (WebSocketDisconnect, RuntimeError):
            outbox.close(None)  # it is closed already; which is raised depends on by whom
            return
        outbox.written()


def _last_words(reason: ChatError, state: State) -> Frame:
    """What is said before the connection is closed."""
    state["metrics"].error_told(reason.code)
    return frame_of(error_event(reason))


def _close_code(reason: ChatError) -> int:
    return ERRORS[reason.code].close or ERRORS["internal"].close or 1011
