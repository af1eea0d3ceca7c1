"""Import and export against the real server, over HTTP and from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chat_server.transfer_world import line, without_ids
from tests.integration.bot import bot
from tests.integration.running_server import ROOT, RunningServer

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

CHATGPT = ROOT / "tests" / "fixtures" / "conversations.json"
Fields = dict[str, Any]


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ndjson(lines: list[Fields]) -> bytes:
    return b"".join(json.dumps(it).encode() + b"\n" for it in lines)


def import_(server: RunningServer, token: str, content: Any) -> list[Fields]:
    answer = httpx.post(
        f"{server.url}/api/import", headers=headers(token), content=content, timeout=60
    )
    assert answer.status_code == 200
    return [json.loads(row) for row in answer.text.splitlines()]


def export(server: RunningServer, token: str) -> bytes:
    return server.get("/api/export", token).content


def parsed(content: bytes) -> list[Fields]:
    return [json.loads(row) for row in content.splitlines()]


def command(server: RunningServer, token: str, *arguments: str, **more: Any) -> Any:
    environment = {key: it for key, it in os.environ.items() if not key.startswith("TANDEM_")}
    return subprocess.run(
        [sys.executable, "-m", "chat_server", *arguments, "--url", server.url],
        cwd=ROOT,
        env={**environment, "TANDEM_TOKEN": token},
        capture_output=True,
        check=False,
        timeout=60,
        **more,
    )


async def test_what_was_said_is_taken_along_by_somebody_else(server: RunningServer) -> None:
    first, second = server.session(), server.session()
    async with bot(server.url, first) as client:
        opened = await client.say("My dog is called Biscuit.", author="Ana")
        await client.done(opened["run"])
        for text in ("She is a beagle.", "She likes cheese."):
            await client.ask(text, conversation=opened["conversation"])
        await client.ask("Instead: he is a cat.", parent=opened["message"],
                         conversation=opened["conversation"])  # fmt: skip
        await client.ask("Something else.")
    whole = export(server, first)
    assert len(parsed(whole)) == 10
    assert import_(server, first, whole)[-1]["duplicates"] == 10
    summary = import_(server, second, whole)[-1]
    assert (summary["done"], summary["stored"], summary["errors"]) == (True, 10, 0)
    assert without_ids(parsed(export(server, second))) == without_ids(parsed(whole))
    shown = f"/api/conversations/{opened['conversation']}/messages"
    texts = [
        [it["text"] for it in server.get(shown, token).json()["messages"]]
        for token in (first, second)
    ]
    assert texts[0] == texts[1]
    assert "Instead: he is a cat." in texts[0]
    listed = [server.get("/api/conversations", it).json() for it in (first, second)]
    assert [it["title"] for it in listed[0]["conversations"]] == [
        it["title"] for it in listed[1]["conversations"]
    ]
    assert export(server, server.session()) == b""


async def test_an_import_is_shown_and_goes_on_as_a_conversation(server: RunningServer) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        await client.ask("Hello before.", conversation="c")
        lines = [line(n, text=f"On day {n} we walked to the lake again.") for n in range(30)]
        lines[0] = line(0, text="Gertrude the sourdough lives in a blue jar beside the oven.")
        summary = import_(server, token, ndjson(lines))[-1]
        assert (summary["stored"], summary["errors"]) == (30, 0)
        done = await client.ask("Where does Gertrude the sourdough live?", conversation="c")
        assert done["status"] == "completed"
        prompt = [it for it in client.frames if it["type"] == "run.memories"][-1]
        assert any("Gertrude" in it["text"] for it in prompt["items"])
    shown = server.get("/api/conversations/c/messages?limit=4", token).json()["messages"]
    assert [it["text"] for it in shown[:2]] == [it["text"] for it in lines[-2:]]
    assert shown[2]["text"] == "Where does Gertrude the sourdough live?"


def test_bad_lines_are_told_by_number_and_a_second_time_nothing_is_stored(
    server: RunningServer,
) -> None:
    token = server.session()
    rows = ndjson([line(n) for n in range(200)]).splitlines()
    rows[10] = b"nonsense"
    rows[150] = json.dumps(line(150, role="system")).encode()
    rows.insert(20, b"")
    rows.append(b'{"text": "' + b"x" * 600_000 + b'"}')
    answer = import_(server, token, b"\n".join(rows))
    told = {it["line"]: it["error"].get("field") for it in answer if "line" in it}
    assert told == {11: None, 152: "role", 202: None}
    assert (answer[-1]["stored"], answer[-1]["errors"], answer[-1]["done"]) == (198, 3, True)
    again = import_(server, token, b"\n".join(rows))[-1]
    assert (again["stored"], again["duplicates"], again["errors"]) == (0, 198, 3)
    assert len(parsed(export(server, token))) == 198


def test_a_connection_that_broke_in_the_middle_loses_nothing(server: RunningServer) -> None:
    token = server.session()
    lines = [line(n, conversation=f"c{n // 50}") for n in range(400)]

    def half() -> Any:
        yield ndjson(lines[:250])
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        import_(server, token, half())
    server.wait_logged(lambda event: event.get("event") == "import.ended")
    stored = len(parsed(export(server, token)))
    assert 0 < stored <= 250
    summary = import_(server, token, ndjson(lines))[-1]
    assert (summary["stored"], summary["duplicates"]) == (400 - stored, stored)
    assert [it["text"] for it in parsed(export(server, token)) if it["conversation"] == "c7"] == [
        it["text"] for it in lines[350:]
    ]


def test_strangers_are_not_let_in(server: RunningServer) -> None:
    for answer in (
        httpx.get(f"{server.url}/api/export"),
        httpx.post(f"{server.url}/api/import", content=b""),
        httpx.post(f"{server.url}/api/import", content=b"", headers=headers("forged")),
    ):
        assert answer.status_code == 401


def test_the_commands_import_chatgpts_export_and_export_to_a_file(
    server: RunningServer, tmp_path: Path
) -> None:
    token = server.session()
    done = command(server, token, "import", str(CHATGPT))
    assert done.stdout == b"6 stored, 0 known, 1 not imported\n", done.stderr
    assert b"conversation 3: not a conversation of ChatGPT" in done.stderr
    assert done.returncode == 1
    items = server.get("/api/search?q=sourdough%20starter%20name", token).json()["items"]
    assert "Gertrude" in items[0]["text"]
    file = tmp_path / "all.ndjson"
    exported = command(server, token, "export", str(file))
    assert exported.returncode == 0, exported.stderr
    assert len(file.read_bytes().splitlines()) == 6
    assert not list(tmp_path.glob("*.part"))
    again = command(server, token, "import", "-", input=file.read_bytes())
    assert (again.returncode, again.stdout) == (0, b"0 stored, 6 known, 0 not imported\n")


def test_the_commands_say_what_is_wrong_in_one_line(server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "odd.json"
    file.write_text('{"a": 1}')
    missing = str(tmp_path / "missing")
    for token, arguments, told in [
        ("forged", ["export", "-"], b"the session is not valid"),
        ("", ["export", "-"], b"give --token"),
        ("x", ["import", str(file)], b"neither lines of an export"),
        ("x", ["import", missing], b"No such file"),
    ]:
        home = {"HOME": str(tmp_path)}
        environment = {**os.environ, **home, "TANDEM_TOKEN": token}
        failed = subprocess.run(
            [sys.executable, "-m", "chat_server", *arguments, "--url", server.url],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert failed.returncode == 1
        assert told in failed.stderr
        assert failed.stderr.count(b"\n") == 1
