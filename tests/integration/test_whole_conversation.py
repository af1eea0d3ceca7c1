"""One conversation from the first frame to the next day."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import anyio
import httpx
import pytest

from tests.integration.bot import Bot, bot
from tests.integration.running_server import RunningServer, running_server
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


async def test_a_message_is_accepted_streamed_and_kept(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=40, token_ms=2)
    token = server.session()
    async with bot(server.url, token) as client:
        accepted = await client.say("I keep bees on the roof.", id="first-1")
        done = await client.done(accepted["run"])

    kinds = [frame["type"] for frame in client.frames]
    assert kinds.index("accepted") < kinds.index("message.created") < kinds.index("run.started")
    assert kinds.index("run.memories") < kinds.index("run.delta") < kinds.index("run.done")
    text = done["message"]["text"]
    assert client.streamed(accepted["run"]) == text
    assert done["chars"] == len(text)
    assert done["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert done["status"] == "completed"
    assert done["message"]["parent"] == accepted["message"]
    assert kinds.count("run.delta") < 40, "deltas travel in company"

    listed = server.get("/api/conversations", token).json()["conversations"]
    assert [found["title"] for found in listed] == ["I keep bees on the roof."]
    page = server.get(f"/api/conversations/{accepted['conversation']}/messages", token).json()
    assert [(said["role"], said["text"]) for said in page["messages"]] == [
        ("user", "I keep bees on the roof."),
        ("assistant", text),
    ]
    assert page["messages"][0]["client_id"] == "first-1"


async def test_the_model_is_given_persona_memories_window_and_message(
    server: RunningServer, stub: StubModel
) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        first = await client.ask("My sister Ana lives in Porto.")
        await client.ask("Where does my sister Ana live?", conversation="another-chat")
        await client.ask("And what is her name?", conversation="another-chat")

    other_chat, same_chat = (request.messages for request in stub.requests[-2:])
    assert other_chat[0]["role"] == "system"
    remembered = [said for said in other_chat if said["role"] == "system"]
    assert any("My sister Ana lives in Porto." in said["content"] for said in remembered)
    assert other_chat[-1] == {"role": "user", "content": "Where does my sister Ana live?"}
    assert [said["content"] for said in same_chat if said["role"] == "user"] == [
        "Where does my sister Ana live?",
        "And what is her name?",
    ]
    memories = [frame for frame in client.frames if frame["type"] == "run.memories"]
    assert memories[0]["items"] == []
    found = memories[1]["items"][0]
    assert found["text"] == "My sister Ana lives in Porto."
    assert found["conversation"] == first["conversation"]
    assert found["why"]


async def test_a_draft_is_prepared_and_used_and_stored_nowhere(
    server: RunningServer, stub: StubModel
) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        await client.ask("My sister Ana lives in Porto.", conversation="one")
        await client.send(type="draft", text="Where does my sister Ana", conversation="two")
        await client.send(type="draft", text="Where does my sister Ana live", conversation="two")
        await prepared(server, 2)
        await client.ask("Where does my sister Ana live?", conversation="two")
    shown = httpx.get(f"{server.url}/metrics", timeout=10).text
    assert 'tandem_speculation_sends_total{outcome="hit"} 1.0' in shown
    memories = [frame for frame in client.frames if frame["type"] == "run.memories"][-1]
    assert memories["plan"] == "relevant"
    found = server.get("/api/search?q=Where+does+my+sister+Ana+live%3F", token).json()
    assert (found["plan"], found["reason"]) == (memories["plan"], memories["reason"])
    assert found["items"]
    said = [item["text"] for item in found["items"]]
    assert "Where does my sister Ana live" not in said
    assert server.get("/api/search?q=thank+you", token).json()["plan"] == "none"
    forced = server.get("/api/search?q=thank+you&plan=relevant", token).json()
    assert (forced["plan"], forced["reason"], bool(forced["items"])) == (
        "relevant",
        "asked_for",
        True,
    )


async def prepared(server: RunningServer, drafts: int) -> None:
    """Wait until so many drafts are prepared or replaced."""
    with anyio.fail_after(20):
        while True:
            lines = httpx.get(f"{server.url}/metrics", timeout=10).text.splitlines()
            ends = [line for line in lines if line.startswith("tandem_speculation_drafts_total")]
            if sum(float(line.split()[-1]) for line in ends if "dropped" not in line) >= drafts:
                return
            await anyio.sleep(0.05)


async def test_a_restarted_server_remembers(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            first = await client.ask("My favourite number is 4711.", conversation="numbers")
        assert server.stop() == 0
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        assert server.get("/api/conversations", token).json()["conversations"][0]["id"] == "numbers"
        async with bot(server.url, token) as client:
            await client.ask("Say it again.", conversation="numbers")
            await client.ask("What is my favourite number?", conversation="elsewhere")

    again, elsewhere = (request.messages for request in stub.requests[-2:])
    assert [said["content"] for said in again[-3:]] == [
        "My favourite number is 4711.",
        first["message"]["text"],
        "Say it again.",
    ]
    assert any("4711" in said["content"] for said in elsewhere[:-1])


async def test_every_tab_of_a_user_sees_the_same_and_no_other_user_sees_it(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=30, token_ms=2)
    token = server.session()
    async with (
        bot(server.url, token) as one,
        bot(server.url, token) as two,
        bot(server.url, server.session()) as stranger,
    ):
        done = await one.ask("Which tab am I?")
        assert await two.done(done["run"]) == done
        assert two.streamed(done["run"]) == one.streamed(done["run"]) == done["message"]["text"]
        await stranger.ask("Hello?")
    durable = {"message.created", "run.started", "run.done", "conversation.updated"}
    seen = [
        [(frame["seq"], frame["type"]) for frame in tab.frames if frame["type"] in durable]
        for tab in (one, two)
    ]
    last = min(len(events) for events in seen)
    assert seen[0][:last] == seen[1][:last]
    assert [seq for seq, _ in seen[0]] == list(range(1, len(seen[0]) + 1))
    assert "Which tab am I?" not in str(stranger.frames)


async def test_a_reply_goes_on_when_its_client_leaves(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=40, token_ms=10)
    token = server.session()
    async with bot(server.url, token) as client:
        accepted = await client.say("Tell me a long story.", conversation="story")
        await client.until_type("run.delta")
    path = "/api/conversations/story/messages"
    page = server.get(path, token).json()
    assert [run["run"] for run in page["runs"]] == [accepted["run"]]
    with anyio.fail_after(15):
        while server.get(path, token).json()["runs"]:
            await anyio.sleep(0.05)
    reply = server.get(path, token).json()["messages"][-1]
    assert (reply["id"], reply["status"]) == (accepted["run"], "completed")
    assert len(reply["text"].split()) == 40


async def test_stop_ends_a_reply_and_keeps_what_it_said(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=500, token_ms=10)
    token = server.session()
    async with bot(server.url, token) as client, bot(server.url, token) as other_tab:
        accepted = await client.say("Count to a million.", conversation="counting")
        await client.until_type("run.delta")
        await other_tab.send(type="stop", id="stop-1", run=accepted["run"])
        assert (await other_tab.until_type("ok"))["re"] == "stop-1"
        done = await client.done(accepted["run"])
        assert done["status"] == "stopped"
        assert done["message"]["text"].startswith(client.streamed(accepted["run"]))
        await other_tab.send(type="stop", id="stop-2", run=accepted["run"])
        assert (await other_tab.until(lambda frame: frame.get("re") == "stop-2"))["type"] == "ok"
        await other_tab.send(type="stop", id="stop-3", run="never-was")
        refused = await other_tab.until(lambda frame: frame.get("re") == "stop-3")
        assert (refused["code"], refused["field"]) == ("unknown_run", "run")
    stored = server.get("/api/conversations/counting/messages", token).json()["messages"][-1]
    assert stored["status"] == "stopped"
    assert stored["text"] == done["message"]["text"]
    with anyio.fail_after(10):
        while not stub.requests[-1].closed_early:
            await anyio.sleep(0.01)


async def test_messages_sent_during_a_reply_wait_their_turn_and_four_may_wait(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=60, token_ms=10)
    token = server.session()
    async with bot(server.url, token) as client:
        answers = [await client.say(f"Question {n}", conversation="queue") for n in range(6)]
        assert [answer["type"] for answer in answers] == ["accepted"] * 5 + ["error"]
        assert (answers[5]["code"], answers[5]["retryable"]) == ("busy", True)
        stub.mode = Mode(tokens=3)
        done = [await client.done(answer["run"]) for answer in answers[:5]]
    assert [event["status"] for event in done] == ["completed"] * 5
    stored = server.get("/api/conversations/queue/messages", token).json()["messages"]
    assert len(stored) == 10
    for before, after in pairwise(stored):
        assert after["parent"] == before["id"], "the conversation stays one line"
    assert len({said["id"] for said in stored}) == 10
    assert [request.messages[-1]["content"] for request in stub.requests] == [
        f"Question {n}" for n in range(5)
    ]


async def test_a_send_repeated_with_the_same_id_stores_nothing_twice(
    server: RunningServer, stub: StubModel
) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        first = await client.say("Only once.", id="once")
        await client.done(first["run"])
        for more in ({}, {"retry": True}, {"retry": True, "conversation": first["conversation"]}):
            again = await client.say("Only once.", id="once", **more)
            assert again["duplicate"] is True
            assert {key: again[key] for key in ("message", "conversation", "run")} == {
                key: first[key] for key in ("message", "conversation", "run")
            }
        other = await client.say("Something else.", id="once", retry=True)
        assert (other["code"], other["field"], other["retryable"]) == ("id_conflict", "id", False)
    path = f"/api/conversations/{first['conversation']}/messages"
    assert len(server.get(path, token).json()["messages"]) == 2
    async with bot(server.url, server.session()) as stranger:
        theirs = await stranger.say("Only once.", id="once")
        assert theirs["duplicate"] is False
        assert theirs["message"] != first["message"]


async def test_twenty_users_talk_at_once_and_nobody_is_mixed_up(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=10, token_ms=3, echo="secret")
    tokens = [server.session() for _ in range(20)]

    async def talk(number: int) -> None:
        async with bot(server.url, tokens[number]) as client:
            await client.ask(f"My secret is canary-{number:03}.", conversation="mine")
            answer = await client.ask("What is my secret?", conversation="other")
            assert f"canary-{number:03}" in answer["message"]["text"]
            assert answer["message"]["text"].count("canary-") == answer["message"]["text"].count(
                f"canary-{number:03}"
            )
            assert str(client.frames).count("canary-") == str(client.frames).count(
                f"canary-{number:03}"
            )

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(talk, number)
    for number, token in enumerate(tokens):
        found = server.get("/api/search?q=secret&k=50", token).text
        assert found.count("canary-") == found.count(f"canary-{number:03}") > 0
        page = server.get("/api/conversations/mine/messages", token).json()["messages"]
        assert page[0]["text"] == f"My secret is canary-{number:03}."


async def test_without_a_key_the_server_answers_from_memory_and_says_so(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        server.wait_ready()
        async with bot(server.url, server.session()) as client:
            await client.ask("My dog is called Biscuit.")
            done = await client.ask("What is my dog called?", conversation="later")
            assert done["model"] == "offline" == done["message"]["model"]
            assert "Biscuit" in done["message"]["text"]
            assert client.streamed(done["run"]) == done["message"]["text"]


async def ask_twice(client: Bot) -> None:
    await client.ask("My car is red.", conversation="car")
    await client.ask("Is it fast?", conversation="car")


async def test_the_parent_of_a_message_may_be_chosen(
    server: RunningServer, stub: StubModel
) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        await ask_twice(client)
        first_reply = next(frame for frame in client.frames if frame["type"] == "run.done")
        await client.ask("Is it cheap?", conversation="car", parent=first_reply["message"]["id"])
        await client.ask("Thanks.", conversation="car")
        refused = await client.say("Lost?", conversation="car", parent="nowhere")
        assert (refused["code"], refused["field"]) == ("unknown_parent", "parent")
    said = server.get("/api/conversations/car/messages", token).json()["messages"]
    assert [message["text"] for message in said if message["role"] == "user"] == [
        "My car is red.",
        "Is it cheap?",
        "Thanks.",
    ]
    window = [said for said in stub.requests[-1].messages if said["role"] != "system"]
    assert "Is it fast?" not in str(window), "another branch is no part of this one"
