"""What stands in the way of a start is said in one clear line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.integration.bot import bot
from tests.integration.running_server import ROOT, running_server

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


def refusal(data_dir: Path, *arguments: str, **environment: str) -> str:
    """What a server that cannot start says last."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
    done = subprocess.run(
        [sys.executable, "-m", "chat_server", "serve", *(arguments or ("--port", "0"))],
        cwd=ROOT,
        env={**clean, "TANDEM_DATA_DIR": str(data_dir), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr.strip().splitlines()[-1]


def test_a_port_in_use_is_named(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(data_dir, "--port", str(port))
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


def test_a_second_server_on_the_same_data_is_refused(data_dir: Path) -> None:
    with running_server(data_dir) as first:
        first.wait_ready()
        said = refusal(data_dir)
        assert str(data_dir) in said
        assert str(first.process.pid) in said


def test_a_missing_model_file_is_named(data_dir: Path) -> None:
    missing = data_dir / "models" / "all-MiniLM-L6-v2" / "tokenizer.json"
    missing.unlink()
    said = refusal(data_dir)
    assert str(missing) in said
    assert "prepare" in said


def test_an_altered_model_file_is_named(data_dir: Path) -> None:
    (model,) = (data_dir / "models" / "all-MiniLM-L6-v2").glob("*.onnx")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    said = refusal(data_dir)
    assert str(model) in said


def test_a_wrong_setting_is_named(data_dir: Path) -> None:
    assert refusal(data_dir, OPENAI_BASE_URL="nonsense").startswith("tandem: OPENAI_BASE_URL: ")
    assert "server.prot" in refusal(data_dir, TANDEM_SERVER__PROT="1")
    assert "TANDEM_LIMITS__PER_USER" in refusal(data_dir, TANDEM_LIMITS__PER_USER="many")


@pytest.mark.parametrize(
    ("variable", "address", "part"),
    [
        ("TANDEM_REDIS__URL", "redis://127.0.0.1:{port}/0", "redis"),
        ("TANDEM_CHROMA__URL", "http://127.0.0.1:{port}", "chroma"),
    ],
)
async def test_an_unreachable_server_is_said_and_tried_again(
    data_dir: Path, variable: str, address: str, part: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_server(data_dir, {variable: address.format(port=port)}) as server:
        server.wait_logged(
            lambda event: event.get("event") == "part.not_ready" and event.get("part") == part
        )
        listening = server.wait_logged(lambda event: event.get("event") == "server.listening")
        server.url = listening["address"]
        answer = httpx.get(f"{server.url}/readyz", timeout=10)
        assert answer.status_code == 503
        assert answer.json()["parts"][part]["state"] == "starting"
        assert answer.json()["parts"][part]["reason"]
        assert httpx.get(f"{server.url}/healthz", timeout=10).status_code == 200
        async with bot(server.url, server.session()) as client:
            answered = await client.say("Hello?")
            if part == "chroma":
                assert (answered["code"], answered["retryable"]) == ("not_stored", True)
            else:
                assert answered["type"] == "accepted", "chat goes on without Redis"


def test_a_closed_terminal_ends_a_server_in_order(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        server.wait_ready()
        server.process.send_signal(signal.SIGHUP)
        server.wait_logged(lambda event: event.get("event") == "server.draining")
        assert server.process.wait(20) == 0


def test_children_end_with_a_killed_server(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        server.wait_ready()
        children = [server.child_pid("chroma"), server.child_pid("redis")]
        server.process.kill()
        server.process.wait()
        for pid in children:
            gone = _wait_gone(pid)
            assert gone, f"child {pid} outlived its server"
    with running_server(data_dir) as again:
        again.wait_ready()


def _wait_gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
