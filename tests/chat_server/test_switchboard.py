from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from chat_server.commands import Commands
from chat_server.errors import ChatError
from chat_server.events import ServerEvent
from chat_server.protocol import Attach, Regenerate, Stop
from memory.errors import ShortTermUnavailable
from memory.live.broker import DEAD_AFTER_S, Inheritance
from memory.messages import ConversationId, MessageId, UserId, reply_id
from tests.chat_server.two_worlds import Process, two_worlds


async def until_done(process: Process, run: str) -> dict[str, object]:
    done: dict[str, object] = await process.world.done(run)
    return done


async def test_a_message_goes_to_the_process_that_has_its_conversation_in_hand() -> None:
    async with two_worlds() as (_, one, two):
        one.world.model.gate = anyio.Event()
        first = await one.send("first", conversation="c")
        second = await two.send("second", conversation="c")
        assert len(one.world.desk.runs) == 2
        assert len(two.world.desk.runs) == 0
        one.world.model.gate.set()
        for process in (one, two):
            for accepted in (first, second):
                done = await until_done(process, accepted["run"])
                assert done["status"] == "completed"
        found = await one.world.stored("c")
        assert [text for role, text, _ in found if role == "user"] == ["first", "second"]
        assert not two.world.model.prompts


async def test_repeats_at_every_process_are_one_message_and_one_call_of_the_model() -> None:
    async with two_worlds() as (_, one, two):
        accepted: list[dict[str, object]] = []

        async def ask(process: Process) -> None:
            accepted.append(await process.send("Hello", id="the-same", conversation="c"))

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, (one, two)[number % 2])
        assert len({frame["run"] for frame in accepted}) == 1
        assert sum(not frame["duplicate"] for frame in accepted) == 1
        await until_done(one, str(accepted[0]["run"]))
        for process in (two, one):
            again = await process.send("Hello", id="the-same", conversation="c")
            assert again["duplicate"]
        assert len(one.world.model.prompts) + len(two.world.model.prompts) == 1
        with pytest.raises(ChatError) as refused:
            await two.send("Other words", id="the-same", conversation="c")
        assert refused.value.code == "id_conflict"


async def test_a_conversation_in_which_nothing_goes_on_is_let_go() -> None:
    async with two_worlds() as (hub, one, two):
        done = await until_done(one, (await one.send("first", conversation="c"))["run"])
        assert done["status"] == "completed"
        with anyio.move_on_after(1.5):
            await one.switchboard.release_unused()
        assert not hub.lanes
        await two.send("second", conversation="c")
        assert len(two.world.desk.runs) == 1


async def test_a_reply_is_stopped_and_attached_to_from_another_process() -> None:
    async with two_worlds() as (_, one, two):
        one.world.model.rest = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        await one.world.until(lambda frame: frame["type"] == "run.delta")
        await one.neighbourhood.checkpoints.keep()
        answers: list[ServerEvent] = []
        commands = Commands(two.state, two.identity)
        await commands.attach(Attach(id="a", run=run, offset=2), answers.append)
        told = [msgspec.to_builtins(answer) for answer in answers]
        assert [frame["type"] for frame in told] == ["ok", "run.memories", "run.delta"]
        assert told[2]["offset"] == 2
        await commands.stop(Stop(id="s", run=run), answers.append)
        assert msgspec.to_builtins(answers[-1]) == {"type": "ok", "re": "s"}
        for process in (one, two):
            assert (await until_done(process, run))["status"] == "stopped"
        with pytest.raises(ChatError) as refused:
            await commands.stop(Stop(id="t", run="rnothing"), answers.append)
        assert refused.value.code == "unknown_run"


async def test_of_a_process_that_says_nothing_the_text_so_far_is_told() -> None:
    async with two_worlds() as (hub, one, two):
        one.world.model.rest = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        await one.world.until(lambda frame: frame["type"] == "run.delta")
        await one.neighbourhood.checkpoints.keep()
        hub.loses = lambda node: node == "0"
        answers: list[ServerEvent] = []
        await Commands(two.state, two.identity).attach(Attach(id="a", run=run), answers.append)
        told = [msgspec.to_builtins(answer) for answer in answers]
        assert [frame["type"] for frame in told] == ["ok", "run.delta"]
        assert "Well".startswith(told[1]["text"][:4])
        with pytest.raises(ChatError) as refused:
            await Commands(two.state, two.identity).stop(Stop(id="s", run=run), answers.append)
        assert refused.value.retryable


async def test_what_is_done_to_a_conversation_elsewhere_is_known_where_it_is_in_hand() -> None:
    async with two_worlds() as (_, one, two):
        one.world.model.gate = anyio.Event()
        await one.send("first", conversation="c")
        user, conversation = one.world.user, ConversationId("c")
        lane = one.world.desk.runs.known_lane(user, conversation)
        assert lane is not None
        two.switchboard.tell_rearranged(user, conversation)
        await anyio.wait_all_tasks_blocked()
        assert lane.head is None
        assert all(run.overtaken for run in lane.runs)
        assert len(one.world.desk.runs) == 1
        two.switchboard.tell_rearranged(user, conversation, gone=True)
        await anyio.wait_all_tasks_blocked()
        assert len(one.world.desk.runs) == 0


async def test_a_claim_that_fails_once_is_made_again_before_a_process_acts_alone() -> None:
    async with two_worlds() as (_, one, two):
        one.world.model.gate = anyio.Event()
        await one.send("first", conversation="c")
        broker, failures = two.neighbourhood.broker, [1, 2]
        claim = broker.claim

        async def fails_at_first(*key: Any, **more: Any) -> Any:
            if failures:
                failures.pop()
                raise ShortTermUnavailable("busy")
            return await claim(*key, **more)

        two.neighbourhood.broker.claim = fails_at_first  # type: ignore[method-assign]  # a busy moment
        await two.send("second", conversation="c")
        assert len(one.world.desk.runs) == 2
        assert len(two.world.desk.runs) == 0
        one.world.model.gate.set()


async def test_without_the_broker_each_process_takes_what_comes() -> None:
    async with two_worlds() as (hub, one, two):
        hub.away = True
        for process in (one, two):
            process.neighbourhood.node._beaten_at -= DEAD_AFTER_S
            accepted = await process.send("hello")
            assert (await until_done(process, accepted["run"]))["status"] == "completed"


async def test_the_end_of_a_dead_processs_reply_is_told_by_another_once() -> None:
    async with two_worlds() as (hub, one, two):
        one.world.model.rest = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        await one.world.until(lambda frame: frame["type"] == "run.delta")
        await one.neighbourhood.checkpoints.keep()
        left = await two.neighbourhood.broker.runs(two.world.user)
        two.heir.take_over(left)
        for process in (one, two):
            done = await until_done(process, run)
            assert done["status"] == "interrupted"
            assert done["chars"]
        stored = await two.world.stored("c")
        assert [(role, status) for role, _, status in stored] == [
            ("user", "completed"),
            ("assistant", "interrupted"),
        ]
        await anyio.wait_all_tasks_blocked()
        assert not hub.running
        # It was not dead: it ends the same reply as it stands.
        one.world.model.rest.set()
        with anyio.fail_after(5):
            await one.world.desk.runs.wait_idle()
        assert await one.world.stored("c") == stored


async def test_a_reply_without_a_word_is_not_stored_and_its_question_can_be_asked_again() -> None:
    async with two_worlds() as (_, one, two):
        one.world.model.gate = anyio.Event()
        accepted = await one.send("first", id="x", conversation="c")
        await one.neighbourhood.checkpoints.keep()
        one.world.desk.runs.abandon_user(one.world.user)
        two.heir.take_over(await two.neighbourhood.broker.runs(two.world.user))
        done = await until_done(two, accepted["run"])
        assert (done["status"], done["stored"]) == ("interrupted", False)
        again = await two.send("first", id="x", conversation="c", retry=True)
        assert again["run"] == accepted["run"]


async def test_the_end_of_a_reply_that_was_told_is_told_no_other_when_its_process_dies() -> None:
    async with two_worlds() as (hub, one, two):
        one.world.model.pieces = ["Short."]
        one.world.model.gate = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        await one.neighbourhood.checkpoints.keep()
        left = await two.neighbourhood.broker.runs(two.world.user)
        assert [it.text for it in left] == [""]
        one.world.model.gate.set()
        assert (await until_done(one, run))["status"] == "completed"
        await until_done(two, run)
        two.heir.take_over(left)
        two.world.frames.clear()
        again = await until_done(two, run)
        assert (again["status"], again["message"]["text"]) == ("completed", "Short.")  # type: ignore[index]  # a frame
        await anyio.wait_all_tasks_blocked()
        assert not hub.running


async def test_who_inherits_beats_on_while_the_store_takes_its_time() -> None:
    async with two_worlds() as (hub, one, two):
        one.world.model.rest = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        await one.world.until(lambda frame: frame["type"] == "run.delta")
        await one.neighbourhood.checkpoints.keep()
        node = two.neighbourhood.node
        node._steady_since -= DEAD_AFTER_S + 1
        node.on_inherited = lambda left: two.heir.take_over(left.runs)
        hub.beats[one.neighbourhood.node.id] -= DEAD_AFTER_S + 1
        two.world.long_term.gate = anyio.Event()
        with anyio.fail_after(10):
            for _ in range(2):
                await node._beat()
        assert one.neighbourhood.node.id not in hub.beats
        two.world.long_term.gate.set()
        assert (await until_done(two, run))["status"] == "interrupted"


async def test_a_reply_that_has_just_begun_is_known_at_every_process() -> None:
    async with two_worlds() as (_, one, two):
        one.world.model.gate = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        answers: list[ServerEvent] = []
        commands = Commands(two.state, two.identity)
        await commands.attach(Attach(id="a", run=run), answers.append)
        anew = Regenerate(id="again", message=run)
        await two.switchboard.take(anew, two.identity, answers.append)
        await commands.stop(Stop(id="s", run=run), answers.append)
        told = [msgspec.to_builtins(answer) for answer in answers]
        assert [frame["type"] for frame in told] == ["ok", "accepted", "ok"]
        assert (await until_done(two, run))["status"] == "stopped"
        one.world.model.gate.set()
        assert (await until_done(two, told[1]["run"]))["status"] == "completed"


async def test_of_a_reply_that_nobody_makes_every_process_says_so() -> None:
    async with two_worlds() as (_, _one, two):
        nothing = reply_id(MessageId("m"), 0)
        commands = Commands(two.state, two.identity)
        answers: list[ServerEvent] = []
        with pytest.raises(ChatError) as of_stop:
            await commands.stop(Stop(id="s", run=nothing), answers.append)
        with pytest.raises(ChatError) as of_attach:
            await commands.attach(Attach(id="a", run=nothing), answers.append)
        with pytest.raises(ChatError) as of_regenerate:
            anew = Regenerate(id="again", message=nothing)
            await two.switchboard.take(anew, two.identity, answers.append)
        assert [it.value.code for it in (of_stop, of_attach, of_regenerate)] == [
            "unknown_run",
            "unknown_run",
            "unknown_message",
        ]
        assert not answers


async def test_what_a_dead_process_may_not_have_told_is_read_anew_by_all_who_spoke_to_it() -> None:
    async with two_worlds() as (_, one, two):
        await one.send("first", conversation="c")
        await two.world.until(lambda frame: frame["type"] == "message.created")
        left = Inheritance((), (two.world.user, UserId("nobody-here")))
        two.neighbourhood._inherited(two.heir, left)
        for process in (one, two):
            anew = await process.world.until(lambda frame: frame["type"] == "reset")
            assert anew["seq"] == 0


async def test_while_nobody_can_say_who_makes_a_reply_it_is_not_called_unknown() -> None:
    async with two_worlds() as (hub, one, two):
        one.world.model.gate = anyio.Event()
        run = (await one.send("first", conversation="c"))["run"]
        hub.away = True
        for process in (one, two):
            process.neighbourhood.node._beaten_at -= DEAD_AFTER_S
        commands = Commands(two.state, two.identity)
        answers: list[ServerEvent] = []
        for work in (
            commands.attach(Attach(id="a", run=run), answers.append),
            commands.stop(Stop(id="s", run=run), answers.append),
        ):
            with pytest.raises(ChatError) as told:
                await work
            assert (told.value.code, told.value.retryable) == ("not_ready", True)
        assert not answers


async def test_what_another_process_stored_of_a_reply_holds_and_not_what_is_left_here() -> None:
    async with two_worlds() as (_, one, two):
        run = (await one.send("first", conversation="c"))["run"]
        await until_done(one, run)
        (stored,) = await one.world.long_term.by_ids(one.world.user, [MessageId(run)])
        two.world.desk.late.take_over([replace(stored, text="Well, hel", status="interrupted")])
        answers: list[ServerEvent] = []
        await Commands(two.state, two.identity).attach(Attach(id="a", run=run), answers.append)
        ok, done = [msgspec.to_builtins(answer) for answer in answers]
        assert ok["type"] == "ok"
        assert (done["message"]["text"], done["status"]) == (stored.text, "completed")
        assert done.get("stored", True)
