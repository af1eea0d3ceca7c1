"""Edit, regenerate, choose, delete: on a real server, over its death."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.integration.bot import Bot, Frame, bot
from tests.integration.running_server import RunningServer, running_server
from tests.integration.test_journal import ON_DISK_WITHIN_S, killed, shown_for
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


async def command(client: Bot, **frame: Any) -> Frame:
    """Send a command; its answer."""
    await client.send(**frame)
    return await client.until(
        lambda answer: answer["type"] in {"accepted", "error"} and answer.get("re") == frame["id"]
    )


def asked_last(stub: StubModel) -> list[str]:
    """What the model was given of the conversation, last."""
    given = stub.requests[-1].body["messages"]
    return [message["content"] for message in given if message["role"] != "system"]


class Over:
    """What HTTP says of one user's conversation ``talk``."""

    def __init__(self, server: RunningServer, token: str) -> None:
        self._url = server.url
        self._headers = {"Authorization": f"Bearer {token}"}

    def page(self, **query: str) -> Any:
        """The history, once the store can be read."""
        deadline = time.monotonic() + 30
        while (answer := self._read(**query)).status_code >= 500:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)
        return answer.json()

    def line(self, **query: str) -> list[str]:
        return [message["text"] for message in self.page(**query)["messages"]]

    def choose(self, head: str) -> None:
        answer = self._ask("PATCH", "conversations/talk", json={"head": head})
        assert answer.json()["conversation"]["head"] == head

    def delete(self) -> str:
        answer = self._ask("DELETE", "conversations/talk")
        assert answer.status_code == 202
        erasure: str = answer.json()["erasure"]
        return erasure

    def finished(self, erasure: str) -> bool:
        return self._ask("GET", f"erasures/{erasure}").json()["finished_at"] is not None

    def _read(self, **query: str) -> httpx.Response:
        return self._ask("GET", "conversations/talk/messages", params=query)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = f"{self._url}/api/{path}"
        return httpx.request(method, url, headers=self._headers, timeout=10, **more)


async def test_branches_are_made_read_and_chosen(server: RunningServer, stub: StubModel) -> None:
    token = server.session()
    http = Over(server, token)
    async with bot(server.url, token) as client, bot(server.url, token) as other:
        stub.mode = Mode(text="Hello.")
        first = await client.say("One", conversation="talk")
        await client.done(first["run"])
        stub.mode = Mode(text="And?")
        second = await client.say("Two", conversation="talk")
        await client.done(second["run"])

        stub.mode = Mode(text="Ciao.")
        uno = await command(client, type="edit", id="e1", message=first["message"], text="Uno")
        await client.done(uno["run"])
        assert http.line() == ["Uno", "Ciao."]
        assert asked_last(stub) == ["Uno"]
        heard = await other.until(
            lambda frame: (
                frame["type"] == "message.created" and frame["message"]["id"] == uno["message"]
            )
        )
        assert heard["message"]["text"] == "Uno"

        http.choose(second["message"])
        assert http.line() == ["One", "Hello.", "Two", "And?"]
        stub.mode = Mode(text="E poi?")
        due = await command(client, type="edit", id="e2", message=second["message"], text="Due")
        await client.done(due["run"])
        assert asked_last(stub) == ["One", "Hello.", "Due"]

        stub.mode = Mode(text="Again.")
        asked = len(stub.requests)
        again = [
            await command(client, type="regenerate", id="r1", message=due["run"]) for _ in range(2)
        ]
        await client.done(again[0]["run"])
        again.append(await command(client, type="regenerate", id="r1", message=due["message"]))
        assert [answer["duplicate"] for answer in again] == [False, True, True]
        assert len({answer["run"] for answer in again}) == 1
        assert len(stub.requests) == asked + 1
        assert http.line() == ["One", "Hello.", "Due", "Again."]

        page = http.page()
        assert [message.get("branches") for message in page["messages"]] == [
            [first["message"], uno["message"]],
            None,
            [second["message"], due["message"]],
            [due["run"], again[0]["run"]],
        ]
        assert http.line(head=due["run"])[-1] == "E poi?"
        assert http.line(head=uno["message"]) == ["Uno", "Ciao."]

        erasure = http.delete()
        gone = await other.until_type("conversation.deleted")
        assert gone["conversation"] == {"id": "talk"}
        refused = await client.say("Three", conversation="talk")
        assert (refused["code"], refused["field"]) == ("unknown_conversation", "conversation")
        assert http.page()["error"]["code"] == "unknown_conversation"
        deadline = time.monotonic() + 30
        while not http.finished(erasure):
            assert time.monotonic() < deadline
            await anyio.sleep(0.1)
        assert http.page()["error"]["code"] == "unknown_conversation"


async def test_a_reply_that_died_while_it_was_made_anew_stands_beside_the_first(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            stub.mode = Mode(text="Hello.")
            first = await client.say("One", conversation="talk")
            await client.done(first["run"])
            await client.ask("Two", conversation="talk")
            stub.mode = Mode(tokens=10_000, token_ms=5)
            anew = await command(client, type="regenerate", id="r1", message=first["run"])
            shown = await shown_for(client, anew["run"], ON_DISK_WITHIN_S + 1.0)
            killed_at = time.monotonic()
            killed(server)
    safe = "".join(text for at, text in shown if at < killed_at - ON_DISK_WITHIN_S)
    assert safe
    stub.mode = Mode(text="Go on.")
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        http = Over(server, token)
        deadline = time.monotonic() + 30
        while len(found := http.page()["messages"]) != 2:
            assert time.monotonic() < deadline, found
            await anyio.sleep(0.05)
        question, reply = found
        assert (reply["id"], reply["parent"]) == (anew["run"], question["id"])
        assert (reply["status"], reply["reply_to"]) == ("interrupted", question["id"])
        assert reply["text"].startswith(safe)
        assert reply["branches"] == [first["run"], anew["run"]]
        async with bot(server.url, token) as client:
            asked = len(stub.requests)
            again = await command(client, type="regenerate", id="r1", message=first["run"])
            assert (again["duplicate"], again["run"]) == (True, anew["run"])
            assert len(stub.requests) == asked
            await client.ask("And then?", conversation="talk")
        assert http.line() == ["One", reply["text"], "And then?", "Go on."]
        assert http.line(head=first["run"]) == ["One", "Hello.", "Two", "Hello."]
