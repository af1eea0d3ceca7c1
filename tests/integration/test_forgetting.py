"""Forgetting a message, and undoing that, against the real server and its restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.bot import bot
from tests.integration.running_server import RunningServer, running_server

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

SAID = "The spare key lies under the blue flowerpot."
ASKED = "Where does the spare key lie?"


def search(server: RunningServer, token: str) -> list[str]:
    found = server.get(f"/api/search?plan=relevant&q={ASKED}", token).json()
    return [item["text"] for item in found["items"]]


def mark(server: RunningServer, token: str, memory: str, *, forgotten: bool) -> Any:
    answer = httpx.patch(
        f"{server.url}/api/memories/{memory}",
        headers={"Authorization": f"Bearer {token}"},
        json={"forgotten": forgotten},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["memory"]


async def test_what_is_forgotten_is_told_to_every_tab_and_lasts_until_it_is_undone(
    data_dir: Path, model_environment: dict[str, str]
) -> None:
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as teller, bot(server.url, token) as other:
            done = await teller.ask(SAID)
            said, talk = done["message"]["reply_to"], done["conversation"]
            assert SAID in search(server, token)
            told = mark(server, token, said, forgotten=True)
            assert told == {"id": said, "forgotten": True}
            assert SAID not in search(server, token)
            for tab in (teller, other):
                assert (await tab.until_type("memory.forgotten"))["memory"] == told
            await teller.ask(ASKED)
            memories = [it for it in teller.frames if it["type"] == "run.memories"][-1]
            assert SAID not in [item["text"] for item in memories["items"]]
        history = server.get(f"/api/conversations/{talk}/messages", token).json()["messages"]
        assert [it.get("forgotten") for it in history if it["id"] == said] == [True]
        assert server.stop() == 0
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        assert SAID not in search(server, token)
        server.kill_child("redis")
        mark(server, token, said, forgotten=False)
        assert SAID in search(server, token)
        assert b'"forgotten"' not in server.get("/api/export", token).content
        mark(server, token, said, forgotten=True)
        assert SAID not in search(server, token)
        assert server.get("/api/export", token).content.count(b'"forgotten":true') == 1
