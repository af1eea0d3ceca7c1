"""How replies are made, stopped, queued and ended; on twins."""

from __future__ import annotations

import hashlib
from typing import Any

import anyio
import pytest

from chat_server.errors import ChatError, ModelFailed
from memory.errors import StoreUnavailable
from memory.recalled import Recall
from tests.chat_server.twin_world import Frame, twin_world


def streamed(frames: list[Frame], run: str) -> str:
    text = ""
    for frame in frames:
        if frame["type"] == "run.delta" and frame["run"] == run:
            assert frame["offset"] == len(text)
            text += frame["text"]
    return text


async def test_a_reply_comes_as_started_memories_deltas_done() -> None:
    async with twin_world() as world:
        world.model.pieces = ["Grüße ", "👩‍🚀", "!", " Ende."]
        done = await world.ask("Wo liegt mein Boot?")
        kinds = [frame["type"] for frame in world.frames if frame["type"].startswith("run.")]
        assert kinds[:2] == ["run.started", "run.memories"]
        assert set(kinds[2:-1]) == {"run.delta"}
        text = "Grüße 👩‍🚀! Ende."
        assert streamed(world.frames, done["run"]) == text == done["message"]["text"]
        assert done["chars"] == len(text)
        assert done["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert done["usage"] == {"input_tokens": 7, "output_tokens": 4}
        assert set(done["timings_ms"]) == {
            *("admit", "embed", "window", "commit", "plan", "recall", "model_request"),
            *("first_token", "delta_wait", "first_delta", "reply", "commit_reply", "total"),
        }
        assert done["timings_ms"]["delta_wait"] <= done["timings_ms"]["first_delta"]


async def test_small_talk_is_answered_without_a_search_and_says_so() -> None:
    async with twin_world() as world:
        await world.ask("Hello is what I call my boat.", conversation="before")
        done = await world.ask("Hello there!")
        plans = [frame for frame in world.frames if frame["type"] == "run.memories"]
        assert (plans[0]["plan"], plans[0]["reason"]) == ("relevant", "statement")
        assert (plans[1]["plan"], plans[1]["reason"]) == ("none", "greeting")
        assert plans[1]["items"] == []
        assert "recall" not in done["timings_ms"]


async def test_a_request_for_everything_is_given_more_memories(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with twin_world() as world:
        asked, recall = list[int](), world.desk.memory.recall

        async def counting(*given: Any, limit: int, **more: Any) -> Recall:
            asked.append(limit)
            return await recall(*given, limit=limit, **more)

        monkeypatch.setattr(world.desk.memory, "recall", counting)
        await world.ask("What fault has my boat Gaivota?")
        await world.ask("Tell me everything about my boat Gaivota.")
        assert asked[1] > asked[0]
        plans = [frame["plan"] for frame in world.frames if frame["type"] == "run.memories"]
        assert plans == ["relevant", "deep"]


async def test_stop_keeps_what_was_said_and_closes_the_model_request() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        accepted = await world.take("Talk.", conversation="talk")
        await world.until(lambda frame: frame["type"] == "run.delta")
        await anyio.wait_all_tasks_blocked()
        run = world.desk.runs.find(world.user, accepted["run"])
        assert run is not None
        run.end("stopped")
        run.end("interrupted")
        done = await world.done(accepted["run"])
        assert (done["status"], done["message"]["text"]) == ("stopped", "Well, ")
        assert world.model.ended_early == 1
        assert await world.stored("talk") == [
            ("user", "Talk.", "completed"),
            ("assistant", "Well, ", "stopped"),
        ]


async def test_replies_of_one_conversation_are_made_in_turn_and_form_one_line() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        accepted = [await world.take(f"Q{n}", conversation="talk") for n in range(5)]
        with pytest.raises(ChatError) as refused:
            await world.take("Q5", conversation="talk")
        assert refused.value.code == "busy"
        assert len(world.model.prompts) == 1
        await world.take("Elsewhere.", conversation="other")
        assert len(world.model.prompts) <= 2
        world.model.rest.set()
        for answer in accepted:
            assert (await world.done(answer["run"]))["status"] == "completed"
        found = await world.long_term.latest(world.user, "talk", limit=100)  # type: ignore[arg-type]  # a plain name
        assert len(found) == 10
        assert [message.depth for message in found] == list(range(10))
        questions = [prompt.question for prompt in world.model.prompts]
        assert [text for text in questions if text.startswith("Q")] == [f"Q{n}" for n in range(5)]
        last = next(prompt for prompt in world.model.prompts if prompt.question == "Q4")
        assert "Q4" not in [message.text for message in last.window]
        assert "Q3" in [message.text for message in last.window]


async def test_a_model_that_fails_at_once_is_told_and_memory_answers() -> None:
    async with twin_world() as world:
        world.model.failure = ModelFailed("model_unavailable", "the model is down")
        done = await world.ask("Hello?", id="q", conversation="talk")
        error = next(frame for frame in world.frames if frame["type"] == "error")
        assert (error["code"], error["re"], error["run"]) == ("model_unavailable", "q", done["run"])
        assert (done["status"], done["model"]) == ("failed", "offline")
        assert done["error"]["code"] == "model_unavailable"
        assert streamed(world.frames, done["run"]) == done["message"]["text"] != ""


async def test_a_model_that_breaks_off_leaves_what_it_said() -> None:
    async with twin_world() as world:
        world.model.failure = ModelFailed("model_interrupted", "it broke off")
        world.model.fails_after = 2
        done = await world.ask("Hello?", conversation="talk")
        assert (done["status"], done["message"]["text"]) == ("failed", "Well, ")
        assert done["model"] == "scripted"
        assert (await world.stored("talk"))[-1] == ("assistant", "Well, ", "failed")


async def test_an_empty_reply_is_a_failure_not_silence() -> None:
    async with twin_world() as world:
        world.model.pieces = []
        done = await world.ask("Hello?")
        assert (done["status"], done["error"]["code"]) == ("failed", "model_interrupted")
        assert done["message"]["text"]


async def test_a_reply_outlives_a_store_that_is_away_for_a_while() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        accepted = await world.take("Hello?", conversation="talk")
        world.long_term.fail_next_append(StoreUnavailable("away"))
        world.model.rest.set()
        done = await world.done(accepted["run"])
        assert done["status"] == "completed"
        assert done.get("stored", True) is True
        assert len(await world.stored("talk")) == 2


async def test_a_fault_of_ours_ends_the_run_and_no_other() -> None:
    async with twin_world() as world:
        world.model.fault = RuntimeError("planted")
        done = await world.ask("Hello?", conversation="talk")
        assert (done["status"], done["error"]["code"]) == ("failed", "internal")
        world.model.fault = None
        assert (await world.ask("Again?", conversation="talk"))["status"] == "completed"


async def test_interrupting_all_ends_every_run_with_its_text_kept() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        runs = [(await world.take("Talk.", conversation=f"c{n}"))["run"] for n in range(3)]
        await anyio.wait_all_tasks_blocked()
        world.desk.runs.interrupt_all()
        with anyio.fail_after(5):
            await world.desk.runs.wait_idle()
        for run in runs:
            done = await world.done(run)
            assert (done["status"], done["message"]["text"]) == ("interrupted", "Well, ")
        assert not world.desk.runs


async def test_offline_replies_stand_in_history_but_are_not_recalled() -> None:
    async with twin_world() as world:
        await world.ask("My bicycle is green.", conversation="one")
        world.model.failure = ModelFailed("model_unavailable", "down")
        await world.ask("My bicycle?", conversation="two")
        await world.ask("What colour is my bicycle?", conversation="three")
        remembered = world.model.prompts[-1].memories
        assert remembered
        assert all("green" not in item.text or item.role == "user" for item in remembered)
