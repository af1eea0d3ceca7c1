from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_server.worker_child import WorkerChild, worker_times


class Started:
    """Keeps the supervisor's ends of the lines."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []

    def __call__(self, end: socket.socket) -> None:
        self.ends.append(end)


@pytest.fixture
def started() -> Iterator[Started]:
    ends = Started()
    yield ends
    for end in ends.ends:
        end.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as it:
        yield it


def child(listener: socket.socket, started: Started, config: Path | None = None) -> WorkerChild:
    return WorkerChild(
        3, listener, settings={"TANDEM_DATA_DIR": "/there"}, config=config, on_start=started
    )


async def test_it_inherits_the_listener_and_a_line_and_what_all_agree_on(
    listener: socket.socket, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_DATA_DIR", "/here")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    spec = child(listener, started, Path("other.toml"))
    launch = await spec.prepare()
    line = launch.descriptors[1]
    assert launch.descriptors == (listener.fileno(), line)
    assert launch.argv[1:] == [
        *("-m", "chat_server", "worker", "--listener", str(listener.fileno())),
        *("--line", str(line), "--config", "other.toml"),
    ]
    assert launch.environment["TANDEM_DATA_DIR"] == "/there"
    assert launch.environment["OPENAI_API_KEY"] == "key"
    assert launch.logs
    started.ends[0].sendall(b"welcome")
    assert os.read(line, 100) == b"welcome"
    await spec.answers()


async def test_when_it_was_started_its_end_of_the_line_is_its_alone(
    listener: socket.socket, started: Started
) -> None:
    spec = child(listener, started)
    launch = await spec.prepare()
    await spec.answers()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(launch.descriptors[1])
    assert started.ends[0].recv(1) == b"", "it would have ended"


async def test_what_was_never_started_leaves_nothing_open(
    listener: socket.socket, started: Started
) -> None:
    spec = child(listener, started)
    await spec.prepare()
    await spec.prepare()
    assert started.ends[0].recv(1) == b""
    await spec.answers()


async def test_it_answers_while_it_is_heard(listener: socket.socket, started: Started) -> None:
    spec = child(listener, started)
    await spec.prepare()
    assert not await spec.answers()
    spec.heard()
    assert await spec.answers()
    spec.heard_at -= 6.0
    assert not await spec.answers()
    spec.heard()
    await spec.prepare()
    assert not await spec.answers(), "that was the one before"


def test_it_may_drain_before_it_is_ended() -> None:
    assert worker_times(600.0).stop_timeout_s > 600.0
