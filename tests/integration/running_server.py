"""A real server with its real children, as users start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60.0


class NotReady(Exception):
    """The server did not become ready; the message holds its log."""


class RunningServer:
    """``python -m chat_server serve`` on a free port, with its log read as it is written."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.output: list[str] = []
        self.url = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.output.append(line)
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"event": line.strip()}
                self.log.append(event)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_logged(
        self, matches: Callable[[dict[str, Any]], bool], within_s: float = 20.0
    ) -> dict[str, Any]:
        """The first log line that *matches*, waiting for it."""
        deadline = time.monotonic() + within_s
        seen = 0
        with self._changed:
            while True:
                for event in self.log[seen:]:
                    if matches(event):
                        return event
                seen = len(self.log)
                left_s = deadline - time.monotonic()
                if left_s <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise NotReady("".join(self.output[-60:]))
                self._changed.wait(min(left_s, 0.5))

    def wait_ready(self) -> Self:
        self.url = self.wait_logged(
            lambda event: event.get("event") == "server.ready", READY_WITHIN_S
        )["address"]
        return self

    def child_pid(self, child: str) -> int:
        """The process id under which *child* was started last."""
        started = [
            event["child_pid"]
            for event in self.log
            if event.get("event") == "child.started" and event.get("child") == child
        ]
        return int(started[-1])

    def kill_child(self, child: str) -> None:
        os.kill(self.child_pid(child), signal.SIGKILL)

    def wait_readiness(self, *, ready: bool, within_s: float = 10.0) -> dict[str, Any]:
        """Poll ``/readyz`` until it says *ready*; its body."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            answer = httpx.get(f"{self.url}/readyz", timeout=5)
            if (answer.status_code == 200) == ready:
                body: dict[str, Any] = answer.json()
                return body
            time.sleep(0.02)
        raise NotReady(f"/readyz did not become {ready}: {answer.text}")

    def session(self) -> str:
        """A new guest's token."""
        token: str = httpx.post(f"{self.url}/api/session", timeout=10).json()["token"]
        return token

    def get(self, path: str, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=10)

    def stop(self, within_s: float = 20.0) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join(5)
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def running_server(
    data_dir: Path, environment: Mapping[str, str] | None = None, *arguments: str
) -> Iterator[RunningServer]:
    """Start a server on *data_dir*; it is stopped at the end. Not ready yet: ``wait_ready``."""
    settings = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("TANDEM_", "OPENAI_"))
    }
    settings |= {
        "TANDEM_DATA_DIR": str(data_dir),
        "LOG_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
        **(environment or {}),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "chat_server", "serve", "--port", "0", *arguments],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = RunningServer(process)
    try:
        yield server
    finally:
        server.stop()
