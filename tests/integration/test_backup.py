"""Backup, restore and migration as an operator does them, around a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import anyio.to_thread
import httpx
import pytest

from tests.integration.bot import bot
from tests.integration.running_server import ROOT, RunningServer, running_server
from tests.integration.test_erasure import holders
from tests.integration.test_starting import refusal

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

GAIVOTA = "My boat is called Gaivota."
TURTLE = "My turtle is called Cassandra."


def memory(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m memory`` with *arguments*, on *data_dir*."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
    return subprocess.run(
        [sys.executable, "-m", "memory", *arguments],
        cwd=ROOT,
        env={**clean, "TANDEM_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def done(data_dir: Path, *arguments: str) -> str:
    """What the command said, which went well."""
    found = await anyio.to_thread.run_sync(memory, data_dir, *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def said(server: RunningServer, token: str) -> list[str]:
    """What the user of *token* has said."""
    rows = [json.loads(row) for row in server.get("/api/export", token).text.splitlines()]
    return [row["text"] for row in rows if row["role"] == "user"]


def found_by_meaning(server: RunningServer, token: str, query: str, text: str) -> bool:
    """Whether *text* is found, complete, once the vectors are there; waits for them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = server.get(f"/api/search?q={query}", token).json()
        if not answer.get("partial"):
            return text in [item["text"] for item in answer["items"]]
        time.sleep(0.1)
    return False


async def erase(server: RunningServer, token: str, user: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    asked = httpx.request(
        "DELETE", f"{server.url}/api/me", headers=headers, json={"confirm": user}, timeout=30
    )
    assert asked.status_code == 202
    with anyio.fail_after(60):
        path = f"/api/erasures/{asked.json()['erasure']}"
        while True:
            answer = await anyio.to_thread.run_sync(server.get, path, token)
            if answer.json().get("finished_at") is not None:
                return
            await anyio.sleep(0.1)


async def test_a_running_server_is_backed_up_and_what_was_erased_since_does_not_come_back(
    data_dir: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    with running_server(data_dir) as server:
        server.wait_ready()
        ann, bob = server.session(), server.session()
        async with bot(server.url, ann) as client:
            await client.ask(GAIVOTA)
        async with bot(server.url, bob) as client:
            user = client.welcome["user"]
            await client.ask(TURTLE)
        assert "of 2 users" in await done(data_dir, "backup", str(backup))
        await done(data_dir, "verify", str(backup), "--against", str(data_dir))
        assert holders(backup, [b"Cassandra"])
        async with bot(server.url, ann) as client:
            await client.ask("This is said after the backup.")
        await erase(server, bob, user)
        compared = await done(data_dir, "verify", str(backup), "--against", str(data_dir))
        assert "0 missing, 0 changed, 2 deleted since" in compared
        refused = await anyio.to_thread.run_sync(memory, data_dir, "restore", str(backup))
        assert refused.returncode == 1
        assert str(server.process.pid) in refused.stderr

    told = await done(data_dir, "restore", str(backup), "--replace")
    assert "because erased since: 1 user," in told
    assert holders(data_dir, [b"Cassandra"]) == []
    with running_server(data_dir) as server:
        server.wait_ready()
        assert said(server, ann) == [GAIVOTA]
        assert said(server, bob) == []
        assert found_by_meaning(server, ann, "the+name+of+the+vessel", GAIVOTA)
        async with bot(server.url, ann) as client:
            await client.ask("I am back.")
        assert said(server, ann) == [GAIVOTA, "I am back."]


async def test_a_store_is_laid_out_anew_and_served_with_the_new_placement_only(
    data_dir: Path,
) -> None:
    per_user = {"TANDEM_CHROMA__PLACEMENT": "per_user"}
    with running_server(data_dir) as server:
        token = server.wait_ready().session()
        async with bot(server.url, token) as client:
            await client.ask(GAIVOTA)
        running = await anyio.to_thread.run_sync(memory, data_dir, "migrate", "--to", "per_user")
        assert running.returncode == 1
        assert "is in use by another server" in running.stderr
    told = await done(data_dir, "migrate", "--to", "per_user")
    assert 'now set in config.toml, [chroma]: placement = "per_user"' in told
    with running_server(data_dir, per_user) as server:
        server.wait_ready()
        assert said(server, token) == [GAIVOTA]
        assert found_by_meaning(server, token, "the+name+of+the+vessel", GAIVOTA)
    refused = refusal(data_dir)
    assert 'is laid out with placement = "per_user"' in refused
    assert "python -m memory migrate" in refused
