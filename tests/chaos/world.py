"""A server that is killed and started again under the same address, and its model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from memory.model_files import NAME
from tests.integration.running_server import ROOT, RunningServer, running_server

LIMITS: Final = {
    "TANDEM_LIMITS__PER_USER": "10000",
    "TANDEM_LIMITS__GLOBAL": "1000000",
    "TANDEM_LIMITS__HTTP": "1000000/minute",
}
"""Nobody is to be held up by a limit."""
GONE_WITHIN_S: Final = 10.0
POLL_S: Final = 0.01

Wrap = Callable[[], AbstractContextManager[object]]


class World:
    """One data folder with its server, which ``start`` starts and ``kill`` ends at once."""

    def __init__(
        self, data_dir: Path, environment: Mapping[str, str], *, output: Path | None = None
    ) -> None:
        """*output*: where everything that the servers log is collected."""
        self.data_dir = data_dir
        self.environment = {**LIMITS, **environment}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self._output = output
        self._server: RunningServer | None = None
        self._running: AbstractContextManager[RunningServer] | None = None

    @property
    def server(self) -> RunningServer:
        """The server of the last start."""
        assert self._server is not None, "not started"
        return self._server

    def start(self, *, ready: bool = True) -> RunningServer:
        """Start a server; *ready*: and wait until it says so."""
        self.end()
        self.starts += 1
        running = running_server(self.data_dir, self.environment, "--port", str(self.port))
        self._server = running.__enter__()
        self._running = running
        if ready:
            self._server.wait_ready()
        return self._server

    def end(self) -> None:
        """Stop the server in order, if it runs still."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None
            if self._output is not None:
                with self._output.open("a") as file:
                    file.writelines(self.server.output)

    def abandon(self) -> None:
        """End the server whatever state it is in: it is killed, if it runs still."""
        if self._running is not None and self.server.process.poll() is None:
            self.kill_server(children=True)
        self.end()

    def kill_chroma(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill the Chroma child that runs now; its process id."""
        pid = self.server.child_pid("chroma")
        with suppress(ProcessLookupError):  # it died already
            os.kill(pid, number)
        return pid

    def kill_server(self, *, children: bool) -> None:
        """Kill the server; with its *children* at once, or they end by their own rule."""
        pids = [self.server.process.pid]
        if children:
            started = {event.get("child") for event in self.server.log}
            pids += [self.server.child_pid(it) for it in ("chroma", "redis") if it in started]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.process.wait(GONE_WITHIN_S)
        chroma = self.server.child_pid("chroma")
        wait_until(lambda: not alive(chroma), GONE_WITHIN_S, "the old Chroma did not end")

    def tokens(self, users: int) -> list[tuple[str, str]]:
        """New guests: their ids and tokens."""
        found = []
        for _ in range(users):
            body = httpx.post(f"{self.url}/api/session", timeout=10).json()
            found.append((body["user"], body["token"]))
        return found


@contextmanager
def stub_model(**mode: object) -> Iterator[str]:
    """The stub model as a process of its own; its base URL."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in mode.items()]
    stub = subprocess.Popen(
        [sys.executable, "-m", "tests.stub_model", "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert stub.stdout is not None
        yield stub.stdout.readline().strip()
    finally:
        stub.terminate()
        stub.wait(GONE_WITHIN_S)
        if stub.stdout is not None:
            stub.stdout.close()


def set_mode(base_url: str, **mode: object) -> None:
    """How the stub answers from now on; it forgets what it was asked."""
    address = base_url.removesuffix("/v1")
    httpx.post(f"{address}/mode", json=mode, timeout=10).raise_for_status()
    httpx.delete(f"{address}/requests", timeout=10)


def model_environment(base_url: str) -> dict[str, str]:
    """Environment of a server whose replies come from *base_url*."""
    return {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "test-key"}


def link_model(data_dir: Path, model_folder: Path) -> None:
    """Make *data_dir* with the prepared embedding model in it, without copying that."""
    models = data_dir / "models"
    models.mkdir(parents=True)
    (models / NAME).symlink_to(model_folder.resolve(), target_is_directory=True)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def wait_until(holds: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Poll until *holds*; ``AssertionError`` with *otherwise* when it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(POLL_S)
