"""A conversation's title, what is shown of it, its branches, and its end; on twins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
from slowapi import Limiter
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chat_server.app import answer_chat_error, answer_memory_fault
from chat_server.authentication import Authenticator, Identity
from chat_server.conversation_routes import conversation_routes
from chat_server.errors import ChatError
from chat_server.http_routes import conversations, limit_key, messages
from chat_server.settings import Settings
from chat_server.switchboard import Switchboard
from memory.errors import MemoryFault
from memory.hidden_users import GuardedLongTermMemory
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import ConversationId
from memory.upkeep.erasure import Erasures, ErasureTimes
from memory.upkeep.ledger import SqliteLedger
from tests.chat_server.twin_world import TwinWorld, twin_world

TALK = ConversationId("talk")
Answer = dict[str, Any]


class Client:
    """Asks the routes as the world's user."""

    def __init__(self, world: TwinWorld, erasures: Erasures) -> None:
        self.world = world
        self.erasures = erasures
        authenticator = Authenticator("a secret of tests", guests=True)
        limiter = Limiter(key_func=limit_key)
        app = Starlette(
            routes=[
                *conversation_routes(limiter, "1000/minute"),
                Route("/api/conversations", conversations),
                Route("/api/conversations/{conversation}/messages", messages),
            ],
            exception_handlers={ChatError: answer_chat_error, MemoryFault: answer_memory_fault},
        )
        app.state.limiter = limiter
        state = {
            "settings": Settings(),
            "authenticator": authenticator,
            "memory": world.desk.memory,
            "fanout": world.desk.fanout,
            "runs": world.desk.runs,
            "late": world.desk.late,
            "erasures": erasures,
            "switchboard": Switchboard(world.turns, world.desk.runs, world.desk.memory),
        }

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": state}, receive, send)

        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(with_state),
            base_url="http://twin",
            headers={"Authorization": f"Bearer {authenticator.token(Identity(world.user, None))}"},
        )

    async def patch(self, body: object, conversation: str = "talk") -> tuple[int, Answer]:
        response = await self._http.patch(f"/api/conversations/{conversation}", json=body)
        return response.status_code, response.json()

    async def choose(self, head: str) -> None:
        status, body = await self.patch({"head": head})
        assert (status, body["conversation"]["head"]) == (200, head)

    async def delete(self) -> tuple[int, Answer]:
        response = await self._http.delete("/api/conversations/talk")
        return response.status_code, response.json()

    async def page(self, **query: str) -> Answer:
        answer: Answer = (
            await self._http.get("/api/conversations/talk/messages", params=query)
        ).json()
        return answer

    async def texts(self, **query: str) -> list[str]:
        return [message["text"] for message in (await self.page(**query))["messages"]]

    async def listed(self) -> list[Answer]:
        found: list[Answer] = (await self._http.get("/api/conversations")).json()["conversations"]
        return found

    async def ask(self, text: str) -> Answer:
        self.world.model.pieces = [f"To {text}"]
        accepted = await self.world.take(text, conversation="talk")
        await self.world.done(accepted["run"])
        return accepted


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with opened(tmp_path) as client:
        yield client


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Client]:
    guard = GuardedLongTermMemory(InProcessLongTermMemory())
    ledger = SqliteLedger.open(folder)
    async with (
        twin_world(long_term=cast("InProcessLongTermMemory", guard)) as world,
        anyio.create_task_group() as tasks,
    ):
        erasures = Erasures(
            ledger,
            world.desk.memory,
            guard,
            None,
            keepsakes=[world.desk.journal],
            times=ErasureTimes(gather_s=0.0, gather_at_most_s=0.1, retry_s=0.01),
        )
        tasks.start_soon(erasures.run)
        yield Client(world, erasures)
        tasks.cancel_scope.cancel()
    ledger.close()


async def test_a_conversation_is_renamed_and_all_tabs_are_told(client: Client) -> None:
    await client.ask("One")
    status, body = await client.patch({"title": "  About\n one "})
    assert (status, body["conversation"]["title"]) == (200, "About one")
    told = await client.world.until(
        lambda frame: (
            frame["type"] == "conversation.updated"
            and frame["conversation"]["title"] == "About one"
        )
    )
    assert told["conversation"] == body["conversation"]
    await client.ask("Two")
    assert [it["title"] for it in await client.listed()] == ["About one"]


@pytest.mark.parametrize("title", ["", " \u200b", "x" * 201, 7])
async def test_a_title_has_something_to_see_and_an_end(client: Client, title: object) -> None:
    await client.ask("One")
    status, body = await client.patch({"title": title})
    assert (status, body["error"]["code"]) == (400, "bad_request")
    if isinstance(title, str):
        assert body["error"]["field"] == "title"
    assert (await client.listed())[0]["title"] == "One"


async def test_nothing_to_change_is_told(client: Client) -> None:
    await client.ask("One")
    assert (await client.patch({}))[0] == 400


async def test_what_there_is_not_cannot_be_changed_or_deleted(client: Client) -> None:
    for body in ({"title": "x"}, {"head": "m"}):
        status, answer = await client.patch(body)
        assert (status, answer["error"]["code"]) == (404, "unknown_conversation")
    assert (await client.delete())[0] == 404
    await client.ask("One")
    elsewhere = await client.world.ask("Elsewhere", conversation="other")
    for head in ("unknown", elsewhere["message"]["id"]):
        status, answer = await client.patch({"head": head})
        assert (status, answer["error"]["code"]) == (404, "unknown_message")
        assert answer["error"]["field"] == "head"
        assert (await client.page(head=head))["error"]["field"] == "head"


async def test_the_branch_that_is_chosen_is_shown_and_goes_on(client: Client) -> None:
    first = await client.ask("One")
    second = await client.ask("Two")
    edit = await client.world.edit(second["message"], "Deux")
    await client.world.done(edit["run"])
    assert await client.texts() == ["One", "To One", "Deux", "To Two"]
    assert await client.texts(head=second["message"]) == ["One", "To One", "Two", "To Two"]
    await client.choose(second["message"])
    assert await client.texts() == ["One", "To One", "Two", "To Two"]
    await client.ask("Three")
    window = [message.text for message in client.world.model.prompts[-1].window]
    assert window == ["One", "To One", "Two", "To Two"]
    assert (await client.texts())[-2:] == ["Three", "To Three"]
    await client.choose(edit["message"])
    await client.ask("Trois")
    assert await client.texts() == ["One", "To One", "Deux", "To Two", "Trois", "To Trois"]
    await client.choose(first["message"])
    assert await client.texts() == ["One", "To One", "Deux", "To Two", "Trois", "To Trois"]


async def test_history_says_where_one_can_switch(client: Client) -> None:
    first = await client.ask("One")
    edit = await client.world.edit(first["message"], "Uno")
    await client.world.done(edit["run"])
    anew = await client.world.regenerate(edit["run"])
    await client.world.done(anew["run"])
    page = await client.page()
    assert [message.get("branches") for message in page["messages"]] == [
        [first["message"], edit["message"]],
        [edit["run"], anew["run"]],
    ]
    assert page["messages"][0]["parent"] is None
    old = await client.page(head=first["message"])
    assert [message["id"] for message in old["messages"]] == [first["message"], first["run"]]
    assert [message.get("branches") for message in old["messages"]] == [
        [first["message"], edit["message"]],
        None,
    ]


async def test_a_branch_is_chosen_while_a_reply_is_made_on_another(client: Client) -> None:
    first = await client.ask("One")
    edit = await client.world.edit(first["message"], "Uno")
    await client.world.done(edit["run"])
    client.world.model.rest = anyio.Event()
    client.world.model.pieces = ["A", "nswer", "."]
    live = await client.world.take("Due", conversation="talk")
    anew = await client.world.regenerate(edit["run"])
    await client.choose(first["message"])
    client.world.model.rest.set()
    for run in (live["run"], anew["run"]):
        await client.world.done(run)
    assert await client.texts() == ["One", "To One"], "the choice is the user's"
    await client.ask("Two")
    assert await client.texts() == ["One", "To One", "Two", "To Two"]
    assert await client.texts(head=live["message"]) == ["Uno", "To One", "Due", "Answer."]


async def test_a_deleted_conversation_is_gone_for_whoever_reads_or_writes(client: Client) -> None:
    first = await client.ask("One")
    await client.world.edit(first["message"], "Uno")
    status, receipt = await client.delete()
    assert (status, receipt["finished_at"]) == (202, None)
    gone = await client.world.until(lambda frame: frame["type"] == "conversation.deleted")
    assert gone["conversation"] == {"id": "talk"}
    await nothing_can_be_said_or_read(client, first)
    with anyio.fail_after(10):
        while (await client.erasures.find(receipt["erasure"])).finished_at is None:  # type: ignore[union-attr]  # it was begun
            await anyio.sleep(0.01)
    await nothing_can_be_said_or_read(client, first)
    assert (await client.world.ask("Elsewhere", conversation="other"))["status"] == "completed"


async def nothing_can_be_said_or_read(client: Client, first: Answer) -> None:
    assert await client.listed() == []
    assert (await client.page())["error"]["code"] == "unknown_conversation"
    assert (await client.delete())[0] == 404
    with pytest.raises(ChatError, match="unknown_conversation"):
        await client.world.take("Two", conversation="talk")
    with pytest.raises(ChatError, match="unknown_message"):
        await client.world.edit(first["message"], "Eins")
    with pytest.raises(ChatError, match="unknown_message"):
        await client.world.regenerate(first["run"])


async def test_a_reply_in_the_making_ends_with_its_conversation(client: Client) -> None:
    await client.ask("One")
    client.world.model.rest = anyio.Event()
    client.world.model.pieces = ["Half", " a", " word"]
    live = await client.world.take("Two", conversation="talk")
    await client.world.until(
        lambda frame: frame["type"] == "run.delta" and frame["run"] == live["run"]
    )
    assert (await client.delete())[0] == 202
    client.world.model.rest.set()
    with anyio.fail_after(10):
        await client.world.desk.runs.wait_idle()
    assert await client.world.long_term.by_ids(client.world.user, [live["run"]]) == []
    assert await client.listed() == []
