"""What a real server says over the socket and over HTTP is what its own documents say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.integration.bot import Bot, bot
from tests.integration.running_server import RunningServer

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

UNSEEN = {"ping", "goaway", "reset"}
"""What a short conversation gives no reason for."""


class Documents:
    """Both documents, as the server serves them."""

    def __init__(self, url: str) -> None:
        self.asyncapi: Any = httpx.get(f"{url}/asyncapi.json", timeout=10).json()
        self.openapi: Any = httpx.get(f"{url}/openapi.json", timeout=10).json()

    def check_event(self, event: dict[str, Any]) -> None:
        schemas = self.asyncapi["components"]["schemas"]
        schema = schemas[self.events()[event["type"]]]
        self._check(event, schema, self.asyncapi)
        assert set(event) <= set(schema["properties"]), event["type"]

    def events(self) -> dict[str, str]:
        """The schema of each type that the server sends."""
        names = [
            sent["$ref"].rpartition("/")[2]
            for sent in self.asyncapi["operations"]["events"]["messages"]
        ]
        return {self.asyncapi["components"]["messages"][name]["name"]: name for name in names}

    def check_answer(self, path: str, answer: httpx.Response) -> None:
        method = answer.request.method.lower()
        told = self.openapi["paths"][path][method]["responses"]
        response = told.get(str(answer.status_code), told["default"])
        media = answer.headers["content-type"].partition(";")[0]
        schema = response["content"][media]["schema"]
        if media == "application/json":
            self._check(answer.json(), schema, self.openapi)

    @staticmethod
    def _check(said: Any, schema: Any, document: Any) -> None:
        whole = {**schema, "components": document["components"]}
        jsonschema.Draft202012Validator(whole).validate(said)


async def converse(client: Bot, documents: Documents, http: httpx.AsyncClient) -> str:
    """Say and ask for one of everything; the id of the conversation."""
    done = await client.ask("My dog is called Biscuit.", conversation="talk")
    question, reply = done["message"]["parent"], done["run"]
    await client.ask("What is my dog called?")
    await client.send(type="attach", id="a1", run=reply, offset=2)
    await client.until_type("run.done")
    await client.send(type="stop", id="s1", run=reply)
    await client.send(type="stop", id="s2", run="none")
    await client.send(type="edit", id="e1", message=question, text="My cat is called Biscuit.")
    await client.until_type("run.done")
    await client.send(type="regenerate", id="r1", message=question)
    await client.until_type("run.done")
    await client.send(type="auth", id="t1", token="forged")
    await client.send(type="ping")
    await client.until_type("pong")
    for forgotten in (True, False):
        answer = await http.patch(f"/api/memories/{question}", json={"forgotten": forgotten})
        documents.check_answer("/api/memories/{memory}", answer)
    answer = await http.patch("/api/conversations/talk", json={"title": "Pets", "head": reply})
    documents.check_answer("/api/conversations/{conversation}", answer)
    assert answer.json()["conversation"]["title"] == "Pets"
    await client.until(
        lambda frame: (
            frame["type"] == "conversation.updated" and frame["conversation"]["title"] == "Pets"
        )
    )
    return "talk"


async def test_what_the_server_says_is_what_its_documents_say(
    server: RunningServer, data_dir: Path
) -> None:
    documents, token = Documents(server.url), server.session()
    session = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=server.url, headers=session, timeout=10) as http,
        bot(server.url, token) as client,
    ):
        client.frames.append(client.welcome)
        conversation = await converse(client, documents, http)
        for path, query in {
            "/healthz": "",
            "/readyz": "",
            "/api/conversations": "?limit=1",
            "/api/conversations/{conversation}/messages": "?limit=3",
            "/api/search": "?q=Biscuit&plan=deep",
            "/api/export": "",
            "/admin/metrics": "",
            "/metrics": "",
        }.items():
            asked = path.replace("{conversation}", conversation) + query
            documents.check_answer(path, await http.get(asked))
        admin = (data_dir / "secrets" / "admin-token").read_text().strip()
        for path in ("/admin/metrics", "/admin/erasures"):
            answer = await http.get(path, headers={"Authorization": f"Bearer {admin}"})
            assert answer.status_code == 200
            documents.check_answer(path, answer)
        documents.check_answer("/api/session", await http.post("/api/session"))
        listed = (await http.get(f"/api/conversations/{conversation}/messages")).json()
        erased = await http.delete(f"/api/messages/{listed['messages'][-1]['id']}")
        assert erased.status_code == 202
        documents.check_answer("/api/messages/{message}", erased)
        gone = await http.delete(f"/api/conversations/{conversation}")
        documents.check_answer("/api/conversations/{conversation}", gone)
        receipt = await http.get(f"/api/erasures/{gone.json()['erasure']}")
        documents.check_answer("/api/erasures/{erasure}", receipt)
        await client.until_type("conversation.deleted")
        for event in client.frames:
            documents.check_event(event)
    assert {event["type"] for event in client.frames} == set(documents.events()) - UNSEEN
