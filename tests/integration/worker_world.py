"""A server of several workers, and clients that know which worker they speak to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.integration.running_server import RunningServer

T = TypeVar("T")

WITHIN_S = 20.0
TRIES = 200


def eventually(what: Callable[[], T | None], within_s: float = WITHIN_S) -> T:
    """What *what* returns, once that is something."""
    deadline = time.monotonic() + within_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Workers:
    """The workers of *server*, whose data are in *data_dir*."""

    def __init__(self, server: RunningServer, data_dir: Path) -> None:
        self.server = server
        self._data_dir = data_dir

    @property
    def admin(self) -> dict[str, str]:
        token = (self._data_dir / "secrets" / "admin-token").read_text().strip()
        return {"Authorization": f"Bearer {token}"}

    def figures(self, client: httpx.Client | None = None) -> dict[str, Any]:
        get = client.get if client is not None else httpx.get
        answer = get(f"{self.server.url}/admin/metrics", headers=self.admin, timeout=10)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def pids(self) -> dict[int, int]:
        return {worker["slot"]: worker["pid"] for worker in self.figures()["workers"]}

    def runs(self) -> dict[int, int]:
        return {worker["slot"]: worker["runs"] for worker in self.figures()["workers"]}

    def kill(self, slot: int) -> int:
        """Kill the worker in *slot*; what its process id was."""
        pid = self.pids()[slot]
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_back(self, slot: int, killed: int) -> None:
        """Return when another worker serves in *slot*."""
        self.server.wait_logged(
            lambda event: (
                event.get("event") == "child.started"
                and event.get("child") == f"worker-{slot}"
                and event["child_pid"] not in {killed, *self._started_before(slot, killed)}
            )
        )

        def serves() -> bool:
            return self.pids().get(slot, killed) != killed

        eventually(serves)

    def _started_before(self, slot: int, killed: int) -> list[int]:
        pids = [
            event["child_pid"]
            for event in self.server.log
            if event.get("event") == "child.started" and event.get("child") == f"worker-{slot}"
        ]
        return pids[: pids.index(killed) + 1]

    @contextmanager
    def clients(self) -> Iterator[list[httpx.Client]]:
        """One client for each worker, by slots; each keeps to its connection."""
        with ExitStack() as stack:
            found: dict[int, httpx.Client] = {}
            others: list[httpx.Client] = []
            for _ in range(TRIES):
                client = stack.enter_context(httpx.Client(base_url=self.server.url, timeout=20))
                slot = self.figures(client)["answeredBy"]
                if slot in found:
                    others.append(client)
                found.setdefault(slot, client)
                if len(found) == len(self.pids()):
                    break
            assert len(found) == len(self.pids()), "connections come to all workers"
            yield [found[slot] for slot in sorted(found)]


def is_gone(pid: int) -> bool:
    """Whether the process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
