"""Replies that outlive the store's absence, and the server; on twins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from chat_server import finish, late_replies
from chat_server.errors import ChatError
from chat_server.late_replies import Late
from memory.errors import StoreRefused, StoreUnavailable, StoreUnknown, UserBeingErased
from memory.in_process_long_term import InProcessLongTermMemory
from memory.journal import Journal
from memory.messages import ConversationId, Message, MessageId, UserId, reply_id
from tests.chat_server.twin_world import Frame, TwinWorld, twin_world


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "STORE_WITHIN_S", 0.02)
    monkeypatch.setattr(late_replies, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(late_replies, "LONGEST_PAUSE_S", 0.005)


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():
            await anyio.sleep(0.002)


async def kept_reply(world: TwinWorld, text: str = "Q1", **more: object) -> Frame:
    """Ask; the store goes away before the reply can be stored. The ``run.done``."""
    world.model.gate = anyio.Event()
    accepted = await world.take(text, conversation="talk", **more)
    world.long_term.away = True
    world.model.gate.set()
    world.model.gate = None
    return await world.done(accepted["run"])


async def line(world: TwinWorld) -> list[str]:
    """The conversation as it is stored, each message behind its parent."""
    found = await world.long_term.latest(world.user, ConversationId("talk"), limit=100)
    for before, message in pairwise(found):
        assert message.parent == before.id
        assert message.depth == before.depth + 1
    assert len({message.id for message in found}) == len(found)
    return [f"{message.role[0]}:{message.text}" for message in found]


def killed(world_folder: Path, copies: Path) -> Path:
    """What a server that is killed at this moment leaves of its journal."""
    copy = copies / "left"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(world_folder, copy)
    return copy


async def test_nothing_is_said_in_a_conversation_before_its_late_reply_is_stored() -> None:
    async with twin_world() as world:
        await kept_reply(world)
        with pytest.raises(ChatError) as refused:
            await world.take("Q2", conversation="talk")
        assert (refused.value.code, refused.value.retryable) == ("not_stored", True)
        world.long_term.away = False
        await world.ask("Q2", conversation="talk")
        assert await line(world) == ["u:Q1", "a:Well, hello.", "u:Q2", "a:Well, hello."]
        asked = world.model.prompts[-1]
        assert "Well, hello." in [said.text for said in asked.window], "its window holds the reply"


async def test_a_question_repeated_meanwhile_is_not_answered_twice() -> None:
    async with twin_world() as world:
        done = await kept_reply(world, id="q1")
        with pytest.raises(ChatError):
            await world.take("Q1", conversation="talk", id="q1", retry=True)
        world.long_term.away = False
        again = await world.take("Q1", conversation="talk", id="q1", retry=True)
        assert (again["duplicate"], again["run"]) == (True, done["run"])
        assert len(world.model.prompts) == 1
        assert await line(world) == ["u:Q1", "a:Well, hello."]


async def test_replies_of_questions_that_waited_are_stored_in_their_order() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        runs = [(await world.take(f"Q{n}", conversation="talk"))["run"] for n in range(3)]
        world.long_term.away = True
        world.model.rest.set()
        for run in runs:
            assert (await world.done(run))["kept"] is True
        world.long_term.away = False
        await until(lambda: not world.desk.late)
        last = [said.text for said in world.model.prompts[-1].window]
        assert last.count("Well, hello.") == 2, "each reply knows those before it"
        assert await line(world) == ["u:Q0", "u:Q1", "u:Q2", *["a:Well, hello."] * 3]
        found = await world.long_term.latest(world.user, ConversationId("talk"), limit=3)
        assert [message.id for message in found] == runs


async def test_an_unknown_outcome_is_settled_and_nothing_is_doubled() -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        world.long_term.fail_next_append(StoreUnknown("stored all the same"))
        world.model.gate.set()
        done = await world.done(accepted["run"])
        assert "stored" not in done
        assert await line(world) == ["u:Q1", "a:Well, hello."]


async def test_a_reply_that_the_store_refuses_hinders_nobody() -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        world.long_term.fail_next_append(StoreRefused("not like this"))
        world.long_term.fail_next_append(StoreRefused("nor now"))
        world.model.gate.set()
        world.model.gate = None
        assert (await world.done(accepted["run"]))["kept"] is True
        await world.ask("Q2", conversation="talk")
        assert (await line(world))[-2:] == ["u:Q2", "a:Well, hello."]


async def test_a_killed_server_finds_what_was_shown_and_stores_it_once(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store, journal_folder=journal) as world:
        world.model.rest = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        await until(lambda: len(Journal.open(journal).kept) == 1)
        left = killed(journal, tmp_path)
        store_then = await world.stored("talk")
        assert store_then == [("user", "Q1", "completed")]
        world.desk.runs.abandon(next(iter(world.desk.runs._runs.values())))
    for time in ("once", "twice"):
        again = tmp_path / time
        shutil.copytree(left, again)
        async with twin_world(long_term=store, journal_folder=again) as world:
            await until(lambda: not world.desk.late)
            assert await world.stored("talk") == [
                ("user", "Q1", "completed"),
                ("assistant", "Well, ", "interrupted"),
            ]
            [stored] = await store.by_ids(world.user, [accepted["run"]])
            assert stored.reply_to == accepted["message"]
            assert stored.parent == accepted["message"]


async def test_what_a_killed_server_had_stored_already_stays_as_it_is(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store, journal_folder=journal) as world:
        world.model.rest = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        await until(lambda: len(Journal.open(journal).kept) == 1)
        left = killed(journal, tmp_path)
        world.model.rest.set()
        await world.done(accepted["run"])
    async with twin_world(long_term=store, journal_folder=left) as world:
        await until(lambda: not world.desk.late)
        assert await line(world) == ["u:Q1", "a:Well, hello."]
        assert world.desk.journal.kept == ()


async def test_a_server_that_starts_while_the_store_is_away_keeps_the_order(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal"
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store, journal_folder=journal) as world:
        await kept_reply(world)
        left = killed(journal, tmp_path)
    async with twin_world(long_term=store, journal_folder=left) as world:
        with pytest.raises(ChatError):
            await world.take("Q2", conversation="talk")
        assert len(world.desk.late) == 1
        store.away = False
        await world.ask("Q2", conversation="talk")
        assert await line(world) == ["u:Q1", "a:Well, hello.", "u:Q2", "a:Well, hello."]


async def test_a_recovered_reply_that_was_stored_already_hides_nothing_said_after_it(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal"
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store, journal_folder=journal) as world:
        await kept_reply(world)
        left = killed(journal, tmp_path)
        store.away = False
        await world.ask("Q2", conversation="talk")
    store.away = True
    async with twin_world(long_term=store, journal_folder=left) as world:
        with pytest.raises(ChatError):
            await world.take("Q3", conversation="talk")
        store.away = False
        await world.ask("Q3", conversation="talk")
        said = [f"u:Q{n}" for n in (1, 2, 3)]
        assert await line(world) == [it for q in said for it in (q, "a:Well, hello.")]


async def test_a_recovered_reply_is_put_on_the_branch_of_its_question(tmp_path: Path) -> None:
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store) as world:
        first = await world.ask("Q1", conversation="talk")
        world.model.gate = anyio.Event()
        old = await world.take("Old branch", conversation="talk")
        world.desk.runs.find(world.user, old["run"]).end("abandoned")  # type: ignore[union-attr]  # it lives: the model waits
        await world.desk.runs.wait_idle()
        world.model.gate = None
        last = await world.ask("It went on.", conversation="talk")
        await world.ask("New branch", conversation="talk", parent=first["message"]["id"])
        before = await line(world)
        reply = Message(
            id=reply_id(MessageId(old["message"]), 0),
            user=world.user,
            conversation=ConversationId("talk"),
            role="assistant",
            text="Late.",
            timestamp=2.0,
            depth=0,
            reply_to=MessageId(old["message"]),
        )
        world.desk.late.take_over([reply])
        await until(lambda: not world.desk.late)
        [stored] = await store.by_ids(world.user, [reply.id])
        assert stored.parent == last["run"], "behind what was said last there"
        assert await line(world) == before, "what is shown stays what is shown"


async def test_a_reply_whose_question_is_gone_is_dropped(tmp_path: Path) -> None:
    async with twin_world(journal_folder=tmp_path) as world:
        await world.ask("Q1", conversation="talk")
        orphan = Message(
            id=MessageId("rorphan"),
            user=world.user,
            conversation=ConversationId("talk"),
            role="assistant",
            text="To whom?",
            timestamp=2.0,
            depth=0,
            reply_to=MessageId("munknown"),
        )
        assert await world.desk.journal.keep(orphan)
        world.desk.late.take_over([orphan])
        await until(lambda: not world.desk.late)
        assert await world.long_term.by_ids(world.user, [orphan.id]) == []
        assert len(await line(world)) == 2
        await until(lambda: not list(tmp_path.iterdir()))


async def test_what_waits_of_a_forgotten_user_is_not_stored() -> None:
    async with twin_world() as world:
        done = await kept_reply(world)
        assert world.desk.late.is_waiting(world.user, done["run"])
        world.desk.late.forget_user(UserId("somebody else"))
        assert len(world.desk.late) == 1
        world.desk.late.forget_user(world.user)
        await world.desk.journal.forget_user(world.user)
        world.long_term.away = False
        assert not world.desk.late.is_waiting(world.user, done["run"])
        await anyio.wait_all_tasks_blocked()
        assert await line(world) == ["u:Q1"]


async def test_what_is_refused_because_its_user_is_being_erased_leaves_the_journal(
    tmp_path: Path,
) -> None:
    async with twin_world(journal_folder=tmp_path) as world:
        await kept_reply(world)
        assert [message.user for message in Journal.open(tmp_path).kept] == [world.user]
        world.long_term.away = False
        world.long_term.fail_next_append(UserBeingErased())
        await until(lambda: not world.desk.late)
        await until(lambda: not list(tmp_path.iterdir()))
        assert await line(world) == ["u:Q1"]


async def test_there_is_a_bound_on_late_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_replies, "MAX_WAITING", 1)
    async with twin_world() as world:
        await kept_reply(world)
        [waiting] = world.desk.late.of_conversation(world.user, ConversationId("talk"))
        one_more = Late(replace(waiting, id=MessageId("r2"), conversation=ConversationId("else")))
        await world.desk.late.store(one_more)
        assert one_more.settled.is_set()
        assert one_more.stored is None
        assert len(world.desk.late) == 1


async def test_a_store_that_fails_for_one_write_costs_no_client_a_warning() -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        accepted = await world.take("Q1", conversation="talk")
        world.long_term.fail_next_append(StoreUnavailable("for a moment"))
        world.model.gate.set()
        assert "stored" not in await world.done(accepted["run"])


@pytest.mark.parametrize("then", ["repeated later", "repeated at once", "given up"])
async def test_replies_follow_a_question_that_was_stored_although_nobody_was_told(
    then: str,
) -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        runs = [(await world.take(f"Q{n}", conversation="talk"))["run"] for n in range(2)]
        world.long_term.fail_next_append(StoreUnknown("stored all the same"))
        with pytest.raises(ChatError):
            await world.take("Q2", conversation="talk", id="q2")
        if then == "repeated at once":
            again = await world.take("Q2", conversation="talk", id="q2", retry=True)
            runs.append(again["run"])
        if then == "given up":
            runs.append((await world.take("Q3", conversation="talk"))["run"])
        world.model.rest.set()
        for run in runs:
            await world.done(run)
        if then == "repeated later":
            again = await world.take("Q2", conversation="talk", id="q2", retry=True)
            await world.done(again["run"])
        said = ["u:Q0", "u:Q1", "u:Q2", *(["u:Q3"] if then == "given up" else [])]
        assert await line(world) == [*said, *["a:Well, hello."] * 3]
