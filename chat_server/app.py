"""Routes, middleware, lifespan; nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, cast

from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles

from chat_server.admin import admin_routes
from chat_server.conversation_routes import conversation_routes
from chat_server.erasing import erasing_routes
from chat_server.errors import ChatError, told_of_reading, unforeseen
from chat_server.http_routes import error_response, http_routes, limit_key
from chat_server.memory_routes import memory_routes
from chat_server.security_headers import SecurityHeaders
from chat_server.settings import Settings
from chat_server.spec_routes import spec_routes
from chat_server.state import State
from chat_server.transfer import transfer_routes
from chat_server.websocket import chat_endpoint
from memory.errors import MemoryFault

STATIC: Final = Path(__file__).resolve().parent.parent / "static"

OpenServices = Callable[[Settings], AbstractAsyncContextManager[State]]


def create_app(settings: Settings, open_services: OpenServices) -> Starlette:
    """The application; *open_services* yields what its handlers work with."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with open_services(settings) as state:
            app.state.services = state
            yield state

    # slowapi is synchronous and knows no WebSockets: in memory, for plain HTTP.
    limiter = Limiter(key_func=limit_key)
    app = Starlette(
        routes=[
            WebSocketRoute("/ws", chat_endpoint),
            *transfer_routes(limiter, settings.limits.http),
            *erasing_routes(limiter, settings.limits.http),
            *conversation_routes(limiter, settings.limits.http),
            *memory_routes(limiter, settings.limits.http),
            *http_routes(limiter, settings.limits.http),
            *admin_routes(),
            *spec_routes(),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={
            ChatError: answer_chat_error,
            MemoryFault: answer_memory_fault,
            RateLimitExceeded: answer_rate_limit,
            Exception: answer_unexpected,
        },
        lifespan=lifespan,
    )
    app.state.limiter = limiter
    return app


def answer_chat_error(_request: Request, error: Exception) -> Response:
    """What a handler raised for the client."""
    return error_response(cast("ChatError", error))


def answer_memory_fault(_request: Request, fault: Exception) -> Response:
    """What storage did wrong, in the client's words."""
    return error_response(told_of_reading(cast("MemoryFault", fault)))


def answer_rate_limit(_request: Request, error: Exception) -> Response:
    """Too many HTTP requests, with the time after which there is room for certain."""
    window_s = cast("RateLimitExceeded", error).limit.limit.get_expiry()
    return error_response(
        ChatError("rate_limited", "too many requests", retry_after_ms=window_s * 1000)
    )


def answer_unexpected(_request: Request, _error: Exception) -> Response:
    """A fault of ours; Starlette raises it on, so that the log has it."""
    return error_response(unforeseen())
