"""A real server for all tests of a module, its log, and a client that behaves well meanwhile."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import httpx

from tests.integration.raw_socket import ASK, RawSocket, json_frame, raw_socket
from tests.integration.running_server import RunningServer, running_server

SERVED_WITHIN_S: Final = 30.0
PAUSE_S: Final = 0.06
CHECK_EVERY_S: Final = 1.0
SAYS_EVERY: Final = 20
"""Every so many questions whether the server is there, it says something and reads the reply."""

ENVIRONMENT: Final = {
    "TANDEM_LIMITS__PER_USER": "10000",
    "TANDEM_LIMITS__GLOBAL": "1000000",
    "TANDEM_LIMITS__HTTP": "100000/minute",
}


class WellBehaved:
    """Asks and is answered, again and again, in a thread of its own."""

    def __init__(self, url: str, token: str) -> None:
        self.served = 0
        self.failure: Exception | None = None
        self._url = url
        self._token = token
        self._changed = threading.Condition()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def leave(self) -> None:
        self._left.set()
        self._thread.join(2 * SERVED_WITHIN_S)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def wait_served(self, times: int = 1) -> None:
        """Wait until it was answered so many times more."""
        with self._changed:
            goal = self.served + times
            assert self._changed.wait_for(
                lambda: self.served >= goal or self.failure is not None, SERVED_WITHIN_S
            )
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            with raw_socket(self._url, self._token) as raw:
                while not self._left.wait(PAUSE_S):
                    self._ask(raw)
                    with self._changed:
                        self.served += 1
                        self._changed.notify_all()
        except (AssertionError, OSError, EOFError, ValueError, KeyError) as failure:
            with self._changed:
                self.failure = failure
                self._changed.notify_all()

    def _ask(self, raw: RawSocket) -> None:
        if self.served % SAYS_EVERY == 0:
            self._say(raw, f"Number {self.served}.")
        raw.send(ASK)
        assert raw.answer(until=is_pong).alive

    def _say(self, raw: RawSocket, text: str) -> None:
        """Have a message answered; while it is worth sending again, that is done (the machine may
        be busy with other things, and the store slow).
        """
        message, deadline = token_hex(8), time.monotonic() + SERVED_WITHIN_S
        while True:
            raw.send(json_frame(type="send", id=message, text=text, retry=True))
            answer = raw.answer(until=lambda event: event["type"] in {"run.done", "error"})
            assert answer.alive
            last = answer.events[-1]
            if last["type"] == "run.done":
                return
            assert last["retryable"], last
            assert time.monotonic() < deadline, last
            time.sleep(PAUSE_S)


def is_pong(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "pong")


class RawWorld:
    """The server, tokens of several users, and what is asked of it after each test."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.url = server.url
        self.tokens = [server.session() for _ in range(4)]
        self.well_behaved = WellBehaved(server.url, server.session())
        self._read = 0
        self._checked_at = 0.0

    def connected(self, user: int = 0) -> Any:
        return raw_socket(self.url, self.tokens[user % len(self.tokens)])

    def check(self) -> None:
        """Nothing was complained of; and, asked again after a second, that somebody is served."""
        assert self.complaints() == []
        if time.monotonic() - self._checked_at >= CHECK_EVERY_S:
            self.well_behaved.wait_served()
            self._checked_at = time.monotonic()

    def complaints(self) -> list[str]:
        """What the log says since the last time that no client may cause."""
        events = self.server.log[self._read :]  # a line is there before what was read in it
        lines = self.server.output[self._read : self._read + len(events)]
        self._read += len(events)
        return [
            line
            for line, event in zip(lines, events, strict=True)
            if event.get("level") in {"error", "critical"}
            or "exception" in event
            or "Traceback" in line
        ]

    def rss_bytes(self) -> int:
        """What the server's own process holds in RAM."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def wait_connections(self, count: int, within_s: float = 10.0) -> int:
        """How many connections the server counts, once it is *count* or the time is over."""
        deadline = time.monotonic() + within_s
        while True:
            answer = httpx.get(f"{self.url}/metrics", timeout=5).text
            (line,) = (row for row in answer.splitlines() if row.startswith("tandem_connections "))
            found = int(float(line.split()[1]))
            if found == count or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.server.process.pid}/fd").iterdir()))


@contextmanager
def raw_world(data_dir: Path, model_folder: Path) -> Iterator[RawWorld]:
    """Start it; at its end nothing may have been complained of."""
    models = data_dir / "models"
    models.mkdir(parents=True)
    shutil.copytree(model_folder, models / model_folder.name)
    with running_server(data_dir, ENVIRONMENT) as server:
        world = RawWorld(server.wait_ready())
        try:
            yield world
        finally:
            world.well_behaved.leave()
        server.stop()
        assert world.complaints() == []
