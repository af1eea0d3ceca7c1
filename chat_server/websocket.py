"""``/ws``: the Origin check before the upgrade, then a session."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import structlog
from starlette.websockets import WebSocket

from chat_server.authentication import origin_allowed
from chat_server.protocol import SUBPROTOCOL
from chat_server.session import ChatSession
from chat_server.state import State

log = structlog.get_logger(__name__)


async def chat_endpoint(socket: WebSocket) -> None:
    """Accept a connection and serve it to its end.

    A page of a foreign origin is refused before the upgrade (403): its user's cookie would come
    with it, and no CORS rule guards WebSockets (RFC 6455, section 10.2). The boundary of one
    connection: an error in it ends this connection only.
    """
    state = cast("State", socket.state)
    allowed = state["settings"].server.allowed_origins
    if not origin_allowed(socket.headers.get("origin"), socket.headers.get("host", ""), allowed):
        log.warning("connection.refused", reason="origin")
        await socket.close()
        return
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    structlog.contextvars.clear_contextvars()
    try:
        await ChatSession(socket, state).run()
    except Exception:
        log.exception("connection.failed")
        with suppress(RuntimeError):  # it is closed already
            await socket.close(4411, "something went wrong on the server; reconnect")
