"""Deleting one message over HTTP, where the user's tabs are connected to two processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import httpx
from slowapi import Limiter
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from chat_server.app import answer_chat_error, answer_memory_fault
from chat_server.authentication import Authenticator
from chat_server.erasing import erasing_routes
from chat_server.errors import ChatError
from chat_server.http_routes import limit_key
from chat_server.settings import Settings
from memory.errors import MemoryFault, StoreBusy
from memory.messages import MessageId, UserId
from memory.upkeep.ledger import Erasure
from tests.chat_server.two_worlds import Process, two_worlds

SAID = "The safe's code is 1234."
TOLD_OF = "message.deleted"


class Door:
    """Begins erasures: whatever was told until then is forgotten in every process."""

    scrubs = True

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self.is_busy = False

    async def delete_messages(self, user: UserId, ids: Sequence[MessageId]) -> Erasure | None:
        if self.is_busy:
            raise StoreBusy("too many erasures are not finished")
        found = await self._processes[0].world.long_term.by_ids(user, ids)
        if not found:
            return None
        for process in self._processes:
            process.world.desk.fanout.forget(user)
        return Erasure(id="e", user=user, messages=tuple(ids), requested_at=1.0)


def http(process: Process, door: Door) -> httpx.AsyncClient:
    """Asks *process* as its user."""
    authenticator = Authenticator("secret" * 8, guests=True)
    limiter = Limiter(key_func=limit_key)
    app = Starlette(
        routes=erasing_routes(limiter, "100/minute"),
        exception_handlers={ChatError: answer_chat_error, MemoryFault: answer_memory_fault},
    )
    app.state.limiter = limiter
    state = cast("dict[str, Any]", process.state) | {
        "settings": Settings(),
        "authenticator": authenticator,
        "fanout": process.world.desk.fanout,
        "erasures": door,
    }

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": state}, receive, send)

    token = authenticator.token(process.identity)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(with_state),
        base_url="http://twin",
        headers={"Authorization": f"Bearer {token}"},
    )


async def test_the_tabs_of_every_process_are_told_what_is_left_of_a_message() -> None:
    async with two_worlds() as (_, one, two), http(two, Door([one, two])) as client:
        said = await one.send(SAID, conversation="talk")
        for process in (one, two):
            await process.world.done(said["run"])
        answer = await client.delete(f"/api/messages/{said['message']}")
        assert answer.status_code == 202, answer.text
        for process in (one, two):
            told = await process.world.until(lambda frame: frame["type"] == TOLD_OF)
            assert told["conversation"] == "talk"
            left = told["message"]
            assert (left["id"], left["text"], left["status"]) == (said["message"], "", "deleted")
            assert "client_id" not in left
            places = [frame["seq"] for frame in process.world.frames if "seq" in frame]
            assert places == sorted(set(places))


async def test_nothing_is_told_of_what_was_not_deleted() -> None:
    async with two_worlds() as (_, one, two):
        door = Door([one, two])
        async with http(one, door) as client:
            said = await one.send(SAID, conversation="talk")
            assert (await client.delete("/api/messages/nothing")).status_code == 404
            door.is_busy = True
            assert (await client.delete(f"/api/messages/{said['message']}")).status_code == 503
            await one.world.done(said["run"])
            await one.world.desk.fanout.settled()
        assert TOLD_OF not in [frame["type"] for frame in one.world.frames]
