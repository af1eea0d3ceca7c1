"""Ways in which a promise was broken; each was found by an attack."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest
from websockets.sync.client import connect

from chat_server.errors import ChatError
from memory.errors import StoreUnavailable, StoreUnknown
from memory.messages import ConversationId
from memory.short_term import Window
from memory.window_trust import WindowTrust
from tests.chat_server.twin_world import TwinWorld, twin_world
from tests.integration.running_server import RunningServer


async def lose_reply(world: TwinWorld, text: str, **more: str) -> None:
    """Have *text* stored and its run vanish, as when the server is killed meanwhile."""
    world.model.gate = anyio.Event()
    accepted = await world.take(text, **more)
    run = world.desk.runs.find(world.user, accepted["run"])
    assert run is not None
    world.desk.runs.abandon(run)
    with anyio.fail_after(5):
        await world.desk.runs.wait_idle()
    world.model.gate = None


async def test_a_run_stopped_before_its_question_is_stored_ends_with_run_done() -> None:
    async with twin_world() as world, anyio.create_task_group() as tasks:
        world.long_term.gate = anyio.Event()
        tasks.start_soon(world.take, "Stop me early.")
        await world.model.asked.wait()
        await anyio.wait_all_tasks_blocked()
        (run,) = world.desk.runs._runs.values()  # its id is not told yet
        run.end("stopped")
        await anyio.wait_all_tasks_blocked()
        world.long_term.gate.set()
        await world.until(lambda frame: frame["type"] == "message.created")
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(1):
            await world.until(lambda frame: frame["type"] == "run.done")
        assert [frame["type"] for frame in world.frames].count("run.done") == 1


async def test_an_old_question_answered_at_last_hides_nothing() -> None:
    async with twin_world() as world:
        await lose_reply(world, "Old question.", id="old", conversation="talk")
        await world.ask("Later one.", conversation="talk")
        await world.ask("Later two.", conversation="talk")
        world.model.rest = anyio.Event()
        old = await world.take("Old question.", id="old", conversation="talk", retry=True)
        meanwhile = await world.take("Meanwhile.", conversation="talk")
        world.model.rest.set()
        await world.done(old["run"])
        await world.done(meanwhile["run"])
        said = [text for role, text, _ in await world.stored("talk") if role == "user"]
        assert said == ["Old question.", "Later one.", "Later two.", "Meanwhile."]
        assert len(await world.stored("talk")) == 8


async def test_after_an_unknown_outcome_the_next_message_hides_nothing() -> None:
    async with twin_world() as world:
        await world.ask("Begin.", conversation="talk")
        world.long_term.fail_next_append(StoreUnknown("no answer"))
        with pytest.raises(ChatError, match="not known"):
            await world.take("Perhaps.", id="perhaps", conversation="talk")
        await world.ask("From another tab.", conversation="talk")
        again = await world.take("Perhaps.", id="perhaps", conversation="talk", retry=True)
        await world.done(again["run"])
        said = {text for role, text, _ in await world.stored("talk") if role == "user"}
        assert said == {"Begin.", "Perhaps.", "From another tab."}


async def test_a_waiting_run_is_answered_although_the_window_cannot_be_read() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        first = await world.take("First.", conversation="talk")
        queued = await world.take("Queued.", conversation="talk")
        await world.until(lambda frame: frame["type"] == "run.delta")
        world.desk.memory.rebuild_window = _away  # type: ignore[method-assign,assignment]  # a vendor fails
        world.model.rest.set()
        await world.done(first["run"])
        done = await world.done(queued["run"])
        assert (done["status"], done["chars"] > 0) == ("completed", True)


async def _away(*_arguments: object, **_options: object) -> None:
    raise StoreUnavailable("Chroma is restarting")


async def test_a_window_that_a_killed_server_left_behind_hides_nothing() -> None:
    async with twin_world() as world:
        first = await world.ask("Known to both.", conversation="talk")
        lost = await world.take("Stored, then the server was killed.", conversation="talk")
        await world.done(lost["run"])
        whole = await world.long_term.latest(world.user, "talk", limit=10)  # type: ignore[arg-type]  # a plain name
        await world.short_term.replace(world.user, "talk", whole[:2], active=True)  # type: ignore[arg-type]  # likewise
        world.desk.memory._trust = WindowTrust()  # another server, with the same Redis
        await world.ask("And now?", conversation="talk")
        assert [text for _, text, _ in await world.stored("talk")][2] == (
            "Stored, then the server was killed."
        )
        assert len(await world.stored("talk")) == 6
        assert first["status"] == "completed"


@pytest.mark.chroma
@pytest.mark.redis
@pytest.mark.model_files
@pytest.mark.parametrize("limit", ["000000001" + "9" * 20, "000000001" + "9" * 5000])
def test_a_page_size_is_checked_to_its_last_digit(server: RunningServer, limit: str) -> None:
    answer = server.get(f"/api/conversations?limit={limit}", server.session())
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "limit")


async def test_a_branch_chosen_elsewhere_while_a_message_is_placed_hinders_nobody() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        begun = await world.take("Begin.", conversation="talk")
        await world.until(lambda frame: frame["type"] == "run.delta")
        memory, lane = world.desk.memory, world.desk.runs.find(world.user, begun["run"]).lane  # type: ignore[union-attr]  # it runs
        memory.conversations.shared = True
        read = memory.rebuild_window

        async def read_while_rearranged(*args: Any, **more: Any) -> Window:
            lane.rearranged()
            return await read(*args, **more)

        memory.rebuild_window = read_while_rearranged  # type: ignore[method-assign]  # at that moment
        await world.take("And then?", conversation="talk")
        world.model.rest.set()
        said = [text for role, text, _ in await world.stored("talk") if role == "user"]
        assert said == ["Begin.", "And then?"]


async def test_of_a_reply_that_ends_while_its_conversation_is_deleted_nothing_is_told() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        begun = await world.take("Begin.", conversation="talk")
        await world.until(lambda frame: frame["type"] == "run.delta")
        runs = world.desk.runs
        async with runs.lane(world.user, ConversationId("talk")) as lane:
            world.model.rest.set()
            await anyio.wait_all_tasks_blocked()
            assert runs.abandon_lane(lane) == [begun["run"]]
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.2):
            await world.done(begun["run"])
        assert "run.done" not in {frame["type"] for frame in world.frames}


@pytest.mark.chroma
@pytest.mark.redis
@pytest.mark.model_files
def test_what_was_erased_comes_to_nobody_who_resumes(server: RunningServer) -> None:
    token = server.session()
    with connect(server.url.replace("http", "ws", 1) + "/ws") as tab:
        tab.send(json.dumps({"type": "hello", "v": 1, "token": token}))
        welcome = json.loads(tab.recv(10))
        tab.send(json.dumps({"type": "send", "id": "a", "text": "A secret word: xylophone."}))
        frames = [welcome]
        while frames[-1]["type"] != "run.done":
            frames.append(json.loads(tab.recv(10)))
        (message,) = [it["message"]["id"] for it in frames if it["type"] == "message.created"]
        headers = {"Authorization": f"Bearer {token}"}
        httpx.delete(f"{server.url}/api/messages/{message}", headers=headers, timeout=10)
    with connect(server.url.replace("http", "ws", 1) + "/ws") as tab:
        place = {"epoch": welcome["epoch"], "seq": welcome["seq"]}
        tab.send(json.dumps({"type": "hello", "v": 1, "token": token, "resume": place}))
        assert json.loads(tab.recv(10))["resumed"] is False
