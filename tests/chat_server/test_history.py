from __future__ import annotations

from typing import Any, cast

import anyio
import msgspec
import pytest

from chat_server import finish, late_replies
from chat_server.errors import ChatError
from chat_server.history import read_page, unanswered
from chat_server.state import State
from chat_server.switchboard import Switchboard
from memory.messages import ConversationId, Message, MessageId, Role, UserId, reply_id
from tests.chat_server.twin_world import TwinWorld, twin_world

TALK = ConversationId("talk")


def said(
    name: str, role: Role, *, reply_to: str | None = None, parent: str | None = None
) -> Message:
    return Message(
        id=MessageId(name),
        user=UserId("ana"),
        conversation=TALK,
        role=role,
        text=name,
        timestamp=1.0,
        depth=0,
        parent=MessageId(parent) if parent else None,
        reply_to=MessageId(reply_to) if reply_to else None,
    )


def question(name: str) -> Message:
    return said(name, "user")


def reply(to: str) -> Message:
    return said(reply_id(MessageId(to), 0), "assistant", reply_to=to)


def imported_reply(parent: str) -> Message:
    return said(f"m-after-{parent}", "assistant", parent=parent)


@pytest.mark.parametrize(
    ("page", "open_"),
    [
        ([], []),
        ([question("q1"), reply("q1")], []),
        ([question("q1")], ["q1"]),
        ([question("q1"), reply("q1"), question("q2")], ["q2"]),
        ([question("q1"), question("q2"), reply("q2")], ["q1"]),
        ([question("q1"), question("q2"), reply("q1"), reply("q2")], []),
        ([question("i1"), imported_reply("i1")], []),
        ([question("i1"), question("i2"), imported_reply("i2")], []),
        ([question("i1"), imported_reply("i1"), question("i2")], ["i2"]),
        ([question("n1"), question("n2"), question("n3")], ["n3"]),
        ([question("q1"), question("i1"), imported_reply("i1"), question("q2"), reply("q2")], []),
    ],
)
def test_questions_without_a_reply_on_the_page(page: list[Message], open_: list[str]) -> None:
    assert unanswered(page) == open_


async def page_of(world: TwinWorld, **more: Any) -> dict[str, Any]:
    desk = world.desk
    state = {
        "memory": desk.memory,
        "runs": desk.runs,
        "late": desk.late,
        "switchboard": Switchboard(world.turns, desk.runs, desk.memory),
    }
    more = {"limit": 50, "before": None, **more}
    body = await read_page(cast("State", state), world.user, TALK, **more)
    page: dict[str, Any] = msgspec.to_builtins(body)
    return page


async def test_a_question_reads_interrupted_once_nobody_is_answering_it() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        page = await page_of(world)
        assert "reply" not in page["messages"][0]
        assert [run["run"] for run in page["runs"]] == [accepted["run"]]
        run = world.desk.runs.find(world.user, accepted["run"])
        assert run is not None
        world.desk.runs.abandon(run)
        page = await page_of(world)
        assert page["messages"][0]["reply"] == "interrupted"
        assert page["runs"] == []


async def test_a_reply_that_stands_on_a_newer_page_is_a_reply() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        runs = [(await world.take(f"Q{n}", conversation="talk"))["run"] for n in range(3)]
        world.model.rest.set()
        for run in runs:
            await world.done(run)
        older = await page_of(world, before=MessageId(runs[0]))
        assert [message["text"] for message in older["messages"]] == ["Q0", "Q1", "Q2"]
        assert not any("reply" in message for message in older["messages"])


async def test_a_reply_that_waits_to_be_stored_is_shown_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finish, "STORE_WITHIN_S", 0.02)
    monkeypatch.setattr(late_replies, "FIRST_PAUSE_S", 60.0)
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        world.long_term.away = True
        world.model.gate.set()
        await world.done(accepted["run"])
        world.long_term.away = False
        question_shown, late = (await page_of(world))["messages"]
        assert "reply" not in question_shown
        assert (late["id"], late["stored"]) == (accepted["run"], False)
        assert late["text"] == "Well, hello."
        before = await page_of(world, before=MessageId(accepted["message"]))
        assert before["messages"] == []


async def test_a_question_whose_lost_reply_is_made_anew_is_not_interrupted() -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        lost = await world.take("Q1", conversation="talk")
        run = world.desk.runs.find(world.user, lost["run"])
        assert run is not None
        world.desk.runs.abandon(run)
        assert (await page_of(world))["messages"][0]["reply"] == "interrupted"
        anew = await world.regenerate(lost["message"])
        page = await page_of(world)
        assert "reply" not in page["messages"][0]
        assert [live["run"] for live in page["runs"]] == [anew["run"]]
        world.model.gate.set()
        await world.done(anew["run"])
        said = (await page_of(world))["messages"]
        assert [message["id"] for message in said] == [lost["message"], anew["run"]]
        assert "reply" not in said[0]


async def test_a_branch_is_read_a_page_at_a_time() -> None:
    async with twin_world() as world:
        first = await world.take("Q1", conversation="talk")
        await world.done(first["run"])
        await world.ask("Q2", conversation="talk")
        edit = await world.edit(first["message"], "Q1, in other words")
        await world.done(edit["run"])
        old = await page_of(world, head=MessageId(first["message"]), limit=2)
        assert [message["text"] for message in old["messages"]] == ["Q2", "Well, hello."]
        before = await page_of(world, before=MessageId(old["before"]))
        assert [message["text"] for message in before["messages"]] == ["Q1", "Well, hello."]
        assert before["messages"][0]["branches"] == (first["message"], edit["message"])
        assert before["before"] is None


async def test_an_unknown_conversation_is_told_as_such() -> None:
    async with twin_world() as world:
        with pytest.raises(ChatError) as refused:
            await page_of(world)
        assert refused.value.code == "unknown_conversation"
