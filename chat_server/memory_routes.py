"""Single memories over HTTP: forgetting one, and undoing that."""

from __future__ import annotations

from typing import Any

import msgspec
from slowapi import Limiter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.errors import ChatError
from chat_server.http_routes import identify, json_response, state_of
from chat_server.memory_events import MemoryForgotten, MemoryState, MemoryUpdated
from chat_server.request_body import read_body
from memory.messages import MessageId


class PatchMemory(msgspec.Struct):
    """The body of ``PATCH /api/memories/{id}``."""

    forgotten: bool


class MemoryBody(msgspec.Struct):
    """What it answers."""

    memory: MemoryState


async def patch_memory(request: Request) -> Response:
    """Forget one message of the session's user, or undo that: it stays where it was said, and
    recall finds it no more, or again, from the next search on. The user's connections are told.
    """
    user = identify(request).user
    state = state_of(request)
    wanted = await read_body(request, PatchMemory)
    message = MessageId(request.path_params["memory"])
    found = await state["memory"].forgetting.mark(user, message, forgotten=wanted.forgotten)
    if found is None:
        raise ChatError("not_found", "no such message, or it is deleted")
    memory = MemoryState(id=found.id, forgotten=found.forgotten)
    changed = MemoryForgotten if found.forgotten else MemoryUpdated
    state["fanout"].publish(user, changed(memory=memory))
    return json_response(MemoryBody(memory))


def memory_routes(limiter: Limiter, limit: str) -> list[Route]:
    """The routes; they spend the same limit of requests as all others."""
    limited: Any = limiter.shared_limit(limit, scope="http")
    return [Route("/api/memories/{memory}", limited(patch_memory), methods=["PATCH"])]
