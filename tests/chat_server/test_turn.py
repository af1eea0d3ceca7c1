"""What one message does to the stores and what becomes visible when; on twins."""

from __future__ import annotations

import anyio
import pytest

from chat_server.errors import ChatError
from chat_server.protocol import SendOptions
from memory.errors import StoreBusy, StoreError, StoreUnavailable, StoreUnknown
from memory.short_term import ShortTermPolicy
from tests.chat_server.twin_world import twin_world


async def test_nothing_is_visible_before_the_commit_while_the_model_is_asked_already() -> None:
    async with twin_world() as world:
        world.long_term.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.take, "Hello there.")
            await world.model.asked.wait()
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(TimeoutError), anyio.fail_after(0.05):
                await world.outbox.take()
            assert (await world.short_term.usage()).total_keys <= 3, "no window yet"
            world.long_term.gate.set()
            world.long_term.gate = None
        done = await world.until(lambda frame: frame["type"] == "run.done")
        assert done["message"]["text"] == "Well, hello."


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StoreUnavailable("away"), "not_stored"),
        (StoreUnknown("no answer"), "store_unknown"),
        (StoreBusy("full"), "store_busy"),
    ],
)
async def test_a_failed_commit_calls_the_model_off_and_shows_nothing(
    fault: StoreError, code: str
) -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        world.long_term.fail_next_append(fault)
        with pytest.raises(ChatError) as refused:
            await world.take("Lost?", id="again", conversation="talk")
        assert (refused.value.code, refused.value.retryable) == (code, True)
        with anyio.fail_after(5):
            await world.desk.runs.wait_idle()
        world.model.gate = None
        accepted = await world.take("Lost?", id="again", conversation="talk", retry=True)
        assert (await world.done(accepted["run"]))["status"] == "completed"
        assert [frame["type"] for frame in world.frames].count("run.done") == 1
        assert await world.stored("talk") == [
            ("user", "Lost?", "completed"),
            ("assistant", "Well, hello.", "completed"),
        ]


async def test_while_the_store_is_sick_no_model_is_asked_before_the_commit() -> None:
    async with twin_world() as world:
        world.long_term.fail_next_append(StoreUnavailable("away"))
        with pytest.raises(ChatError):
            await world.take("First.")
        asked_before = len(world.model.prompts)
        world.long_term.fail_next_append(StoreUnavailable("still away"))
        with pytest.raises(ChatError):
            await world.take("Second.")
        await anyio.wait_all_tasks_blocked()
        assert len(world.model.prompts) == asked_before


async def test_memories_that_cannot_be_loaded_for_an_unforeseen_reason_end_nobodys_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = anyio.Event()

    async def broken(*_user: object, **_page: object) -> None:
        asked.set()
        raise TypeError("nobody foresaw this")

    async with twin_world() as world:
        with monkeypatch.context() as patched:
            patched.setattr(world.long_term, "newest", broken)
            world.turns.warm(world.user)
            with anyio.fail_after(10):
                await asked.wait()
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert (await world.ask("Still here?"))["status"] == "completed"


async def test_a_hundred_retries_of_one_id_give_one_message_one_run_one_model_call() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        accepted = []

        async def send() -> None:
            accepted.append(await world.take("Once.", id="one", conversation="talk", retry=True))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(send)
        world.model.rest.set()
        await world.done(accepted[0]["run"])
        assert len({(answer["message"], answer["run"]) for answer in accepted}) == 1
        assert sum(not answer["duplicate"] for answer in accepted) == 1
        assert len(world.model.prompts) == 1
        assert len(await world.stored("talk")) == 2


async def test_another_text_under_a_known_id_is_a_conflict() -> None:
    async with twin_world() as world:
        await world.ask("One.", id="one", conversation="talk")
        for retry in (False, True):
            with pytest.raises(ChatError) as refused:
                await world.take("Two.", id="one", conversation="talk", retry=retry)
            assert (refused.value.code, refused.value.field) == ("id_conflict", "id")
        assert len(await world.stored("talk")) == 2


async def test_a_question_that_was_stored_but_never_answered_is_answered_on_retry() -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        accepted = await world.take("Anyone?", id="lonely", conversation="talk")
        world.desk.runs.find(world.user, accepted["run"]).end("abandoned")  # type: ignore[union-attr]  # it lives: the model waits
        await world.desk.runs.wait_idle()
        world.model.gate = None
        again = await world.take("Anyone?", id="lonely", conversation="talk", retry=True)
        assert (again["duplicate"], again["run"]) == (True, accepted["run"])
        assert (await world.done(again["run"]))["status"] == "completed"
        assert len(await world.stored("talk")) == 2


async def test_a_client_that_leaves_changes_nothing_about_what_it_sent() -> None:
    async with twin_world() as world:
        world.long_term.gate = anyio.Event()
        with anyio.move_on_after(0.05):
            await world.take("Bye.", conversation="talk")
        world.long_term.gate.set()
        await world.until(lambda frame: frame["type"] == "run.done")
        assert len(await world.stored("talk")) == 2


async def test_a_lost_short_term_memory_is_rebuilt_before_the_prompt_is_made() -> None:
    async with twin_world(ShortTermPolicy(user_limit=1000, window_messages=4)) as world:
        for n in range(4):
            await world.ask(f"Fact {n}.", conversation="talk")
        before = world.model.prompts[-1].window
        await world.short_term.drop(world.user, "talk")  # type: ignore[arg-type]  # a plain name
        await world.ask("And now?", conversation="talk")
        window = [message.text for message in world.model.prompts[-1].window]
        assert window == ["Fact 2.", "Well, hello.", "Fact 3.", "Well, hello."]
        assert len(before) == 4


async def test_memory_can_be_left_out() -> None:
    async with twin_world() as world:
        await world.ask("The blue door is locked.", conversation="one")
        await world.ask("The blue door?", conversation="two", options=SendOptions(memory=False))
        assert not world.model.prompts[-1].memories
        await world.ask("The blue door?", conversation="three")
        assert "The blue door is locked." in [
            memory.text for memory in world.model.prompts[-1].memories
        ]


async def test_a_spent_limit_is_counted_and_told_with_its_time() -> None:
    async with twin_world(ShortTermPolicy(user_limit=1)) as world:
        await world.ask("One.")
        with pytest.raises(ChatError) as refused:
            await world.take("Two.")
        assert refused.value.code == "rate_limited"
        assert refused.value.retry_after_ms is not None
        assert refused.value.retry_after_ms > 0
        body, _ = world.desk.metrics.render()
        assert b'tandem_rate_limit_rejections_total{scope="user"} 1.0' in body
