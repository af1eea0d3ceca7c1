from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
from starlette.applications import Starlette

from chat_server.server import TandemServer
from chat_server.settings import Settings
from chat_server.state import State


async def test_a_fault_that_ends_the_services_ends_the_server() -> None:
    broken = anyio.Event()

    @asynccontextmanager
    async def services(_app: Starlette) -> AsyncIterator[State]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(break_down)
            yield cast("State", {})

    async def break_down() -> None:
        await broken.wait()
        raise ZeroDivisionError

    class Server(TandemServer):
        async def _say_when_ready(self) -> None:
            broken.set()

        async def _drain(self, state: State) -> None:
            pass

    app = Starlette(lifespan=services)
    app.state.services = {}
    server = Server(app, Settings())
    listener = socket.create_server(("127.0.0.1", 0))
    with anyio.fail_after(20):
        await server.serve([listener])
    assert server.failed
