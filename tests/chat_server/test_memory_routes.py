from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from slowapi import Limiter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from chat_server.app import answer_chat_error, answer_memory_fault
from chat_server.authentication import Authenticator, Identity
from chat_server.errors import ChatError
from chat_server.http_routes import limit_key, search
from chat_server.memory_routes import memory_routes
from chat_server.settings import Settings
from memory.errors import MemoryFault
from memory.messages import UserId
from tests.chat_server.twin_world import TwinWorld, twin_world

SAID = "The spare key lies under the blue flowerpot."
ASKED = "Where does the spare key lie?"
Answer = dict[str, Any]


class Client:
    """Asks the routes as *user*."""

    def __init__(self, world: TwinWorld, user: UserId) -> None:
        authenticator = Authenticator("secret" * 8, guests=True)
        limiter = Limiter(key_func=limit_key)
        app = Starlette(
            routes=memory_routes(limiter, "100/minute"),
            exception_handlers={ChatError: answer_chat_error, MemoryFault: answer_memory_fault},
        )
        app.state.limiter = limiter
        self._state = {
            "settings": Settings(),
            "authenticator": authenticator,
            "memory": world.desk.memory,
            "fanout": world.desk.fanout,
        }

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": self._state}, receive, send)

        token = authenticator.token(Identity(user, None))
        self._headers = [(b"authorization", f"Bearer {token}".encode())]
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(with_state),
            base_url="http://twin",
            headers={"Authorization": f"Bearer {token}"},
        )

    async def patch(self, memory: str, body: object) -> tuple[int, Answer]:
        response = await self._http.patch(f"/api/memories/{memory}", json=body)
        return response.status_code, response.json()

    async def search(self) -> list[str]:
        scope = {
            "type": "http",
            "method": "GET",
            "headers": self._headers,
            "query_string": f"q={ASKED}&plan=relevant".encode(),
            "state": self._state,
        }
        response = await search(Request(scope))
        body = cast("Answer", httpx.Response(200, content=bytes(response.body)).json())
        return [item["id"] for item in body["items"]]


@asynccontextmanager
async def remembering() -> AsyncIterator[tuple[TwinWorld, Client, str]]:
    """A world in which something was said, and its id."""
    async with twin_world() as world:
        done = await world.ask(SAID)
        yield world, Client(world, world.user), done["message"]["reply_to"]


async def recalled(world: TwinWorld) -> list[str]:
    """What the socket says is remembered in another conversation."""
    run = (await world.take(ASKED))["run"]
    event = await world.until(lambda frame: frame["type"] == "run.memories" and frame["run"] == run)
    await world.done(run)
    return [item["id"] for item in event["items"]]


async def test_the_next_search_and_the_next_reply_go_without_what_is_forgotten() -> None:
    async with remembering() as (world, client, said):
        assert said in await client.search()
        answer = await client.patch(said, {"forgotten": True})
        assert answer == (200, {"memory": {"id": said, "forgotten": True}})
        assert said not in await client.search()
        assert said not in await recalled(world)
        assert await client.patch(said, {"forgotten": False}) == (
            200,
            {"memory": {"id": said, "forgotten": False}},
        )
        assert said in await client.search()
        assert said in await recalled(world)


async def test_all_of_the_user_s_connections_are_told() -> None:
    async with remembering() as (world, client, said):
        for forgotten, kind in ((True, "memory.forgotten"), (False, "memory.updated")):
            await client.patch(said, {"forgotten": forgotten})
            event = await world.until(lambda frame: frame["type"].startswith("memory."))
            assert event["type"] == kind
            assert event["memory"] == {"id": said, "forgotten": forgotten}
            assert event["seq"]


async def test_the_message_stays_where_it_was_said() -> None:
    async with remembering() as (world, client, said):
        await client.patch(said, {"forgotten": True})
        (message,) = await world.long_term.by_ids(world.user, [said])  # type: ignore[list-item]  # tests name messages plainly
        assert (message.text, message.forgotten) == (SAID, True)


async def test_a_message_of_somebody_else_is_not_there() -> None:
    async with remembering() as (world, client, said):
        status, answer = await Client(world, UserId("eve")).patch(said, {"forgotten": True})
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert said in await client.search()


@pytest.mark.parametrize("body", [{}, {"forgotten": 1}, [], {"forgotten": None}])
async def test_a_wish_that_is_none_is_refused(body: object) -> None:
    async with remembering() as (_, client, said):
        status, answer = await client.patch(said, body)
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert said in await client.search()


async def test_a_store_that_is_away_is_told_as_such() -> None:
    async with remembering() as (world, client, said):
        world.long_term.away = True
        status, answer = await client.patch(said, {"forgotten": True})
        assert (status, answer["error"]["code"]) == (503, "not_ready")
