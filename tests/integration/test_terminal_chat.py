"""A person at a terminal, and a script at a pipe, against the real server."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running_server import ROOT, RunningServer, running_server
from tests.integration.terminal import terminal
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

in_tmux = [
    pytest.mark.tmux,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]


def chat(server: RunningServer, *more: str) -> list[str]:
    return [sys.executable, "-m", "chat_server", "chat", "--url", server.url, *more]


def piped(
    server: RunningServer, lines: str, config: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return subprocess.run(
        chat(server, *more),
        cwd=ROOT,
        env={**clean, "XDG_CONFIG_HOME": str(config)},
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestAtATerminal:
    pytestmark = in_tmux

    def test_a_reply_streams_is_stopped_and_remembered_the_next_day(
        self, server: RunningServer, stub: StubModel, tmp_path: Path
    ) -> None:
        stub.mode = Mode(tokens=60, token_ms=30)
        home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        with terminal(tmp_path, chat(server), home) as shown:
            shown.wait_for("/help names the commands")
            shown.wait_prompt()
            shown.type("My boat is called Gaivota.")
            growing = shown.wait_for("word3")
            assert "word60" not in growing, "it streams"
            shown.wait_for("word60")
            shown.wait_prompt()

            stub.mode = Mode(tokens=10_000, token_ms=20)
            shown.type("Never end.")
            shown.wait_for("word3 word4")
            shown.wait(lambda screen: screen.count("word5 ") == 2)
            shown.keys("C-c")
            shown.wait_for("stopped")
            shown.wait_prompt()
            shown.type("And again.")
            shown.wait(lambda screen: screen.count("word5 ") == 3)
            shown.type("/stop")
            shown.wait(lambda screen: screen.count("stopped") == 2)
            shown.wait_prompt()
            shown.keys("C-c")
            shown.wait_for("ended with 0")
        with terminal(tmp_path, chat(server), home) as shown:
            greeting = shown.wait_prompt()
            assert "> Never end." in greeting, "the history of the last conversation"
            shown.type("/new")
            shown.wait_for("a new conversation")
            stub.mode = Mode(echo="Gaivota")
            shown.type("What is my boat called?")
            shown.wait_for("remembered: My boat is called Gaivota.")
            shown.wait_for("You said: What is my boat called?")
            shown.wait_prompt()
            shown.type("/search Gaivota")
            shown.wait_for("  My boat is called Gaivota.")
            shown.type("/list")
            shown.wait_for("*  1  ")
            shown.type("/open 2")
            shown.wait(lambda screen: screen.count("> And again.") == 2)
            shown.type("/me")
            shown.wait_for("messages left")
            shown.type("/nonsense")
            shown.wait_for("no command")
            shown.keys("C-d")
            shown.wait_for("ended with 0")

    def test_a_spent_limit_counts_down_and_a_restart_is_told(
        self, data_dir: Path, model_environment: dict[str, str], stub: StubModel, tmp_path: Path
    ) -> None:
        limits = {"TANDEM_LIMITS__PER_USER": "1", "TANDEM_LIMITS__WINDOW_S": "3"}
        home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        with running_server(data_dir, {**model_environment, **limits}) as server:
            server.wait_ready()
            port = server.url.rpartition(":")[2]
            with terminal(tmp_path, chat(server), home) as shown:
                shown.wait_prompt()
                stub.mode = Mode(text="First answer.")
                shown.type("One.")
                shown.wait_for("First answer.")
                shown.wait_prompt()
                stub.mode = Mode(text="Second answer.")
                shown.type("Two.")
                shown.wait_for("sending again in")
                shown.wait_for("Second answer.")
                shown.wait_prompt()
                server.stop()
                shown.wait_for("connection lost; trying again")
                with running_server(data_dir, model_environment, "--port", port) as again:
                    again.wait_ready()
                    shown.wait_for("connected again")
                    stub.mode = Mode(text="Third answer.")
                    shown.type("Three.")
                    everything = shown.wait_for("Third answer.")
                    assert "connection.lost" not in everything, "no log lines on the screen"


def test_through_a_pipe_lines_go_in_and_replies_come_out(
    server: RunningServer, stub: StubModel, tmp_path: Path
) -> None:
    stub.mode = Mode(echo="lighthouse")
    done = piped(server, "I keep a lighthouse.\n\nWhat do I keep?\n", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("You said: I keep a lighthouse.\n")
    assert "You said: What do I keep?\n" in done.stdout
    assert not done.stderr
    assert "\x1b" not in done.stdout
    (kept,) = tmp_path.rglob("session.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    token = json.loads(kept.read_text())[server.url]
    listed = server.get("/api/conversations", token).json()["conversations"]
    assert [found["title"] for found in listed] == ["I keep a lighthouse."]


def test_a_session_that_is_not_known_is_not_replaced_by_a_stranger(
    server: RunningServer, stub: StubModel, tmp_path: Path
) -> None:
    stub.mode = Mode(text="Welcome.")
    kept = tmp_path / "tandem" / "session.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({server.url: "forged.token"}))
    done = piped(server, "Hello.\n", tmp_path)
    assert done.returncode != 0
    assert "--new" in done.stderr
    assert "Traceback" not in done.stderr
    assert piped(server, "Hello.\n", tmp_path, "--new").stdout == "Welcome.\n"
    assert json.loads(kept.read_text())[server.url] != "forged.token"


def test_no_server_is_said_in_one_line(tmp_path: Path) -> None:
    nowhere = RunningServer.__new__(RunningServer)
    nowhere.url = "http://127.0.0.1:9"
    done = piped(nowhere, "Hello.\n", tmp_path)
    assert done.returncode != 0
    assert done.stderr.startswith("tandem: http://127.0.0.1:9")
    assert len(done.stderr.splitlines()) == 1


def test_a_token_made_offline_is_good_for_the_server(
    server: RunningServer, data_dir: Path, stub: StubModel, tmp_path: Path
) -> None:
    stub.mode = Mode(text="Hello, bot.")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    made = subprocess.run(
        [sys.executable, "-m", "chat_server", "token", "--user", "bot-1", "--days", "1"],
        cwd=ROOT,
        env={**clean, "TANDEM_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    token = made.stdout.strip()
    done = piped(server, "Hello.\n/me\n", tmp_path, "--token", token)
    assert done.stdout.startswith("Hello, bot.\nbot-1 at ")
    assert not list(tmp_path.rglob("session.json")), "a given token is not kept"
