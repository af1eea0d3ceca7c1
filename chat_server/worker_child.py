"""How one worker is started: a process of this server, with a line to the supervisor."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import anyio

from memory.child_process import ChildTimes
from memory.spawn import Launch

SILENT_S: Final = 5.0
"""A worker that has not said anything for so long does not answer."""
CLOSE_S: Final = 20.0
"""What a worker may take to close what it has open, after its replies have ended."""
START_S: Final = 60.0


def worker_times(drain_s: float) -> ChildTimes:
    """A worker drains before it ends, and may be busy for a while before it is hung."""
    return ChildTimes(stop_timeout_s=drain_s + CLOSE_S, start_timeout_s=START_S, hung_after_s=20.0)


class WorkerChild:
    """One slot's worker; a ``ChildSpec``.

    It inherits the *listener*, and one end of a pair of sockets; *on_start* gets the other. Its
    environment is ours, overlaid by *settings*: what all processes must agree on.
    """

    def __init__(
        self,
        slot: int,
        listener: socket.socket,
        *,
        settings: Mapping[str, str],
        config: Path | None,
        on_start: Callable[[socket.socket], None],
    ) -> None:
        self.name = f"worker-{slot}"
        self._slot = slot
        self._listener = listener
        self._settings = dict(settings)
        self._config = config
        self._on_start = on_start
        self._theirs: socket.socket | None = None
        self.heard_at = 0.0
        """When it said something last."""

    async def prepare(self) -> Launch:
        self._let_go()
        ours, self._theirs = socket.socketpair()
        self.heard_at = 0.0
        self._on_start(ours)
        argv = [sys.executable, "-m", "chat_server", "worker"]
        argv += ["--listener", str(self._listener.fileno()), "--line", str(self._theirs.fileno())]
        argv += ["--config", str(self._config)] if self._config is not None else []
        return Launch(
            argv=argv,
            folder=Path.cwd(),
            environment={**os.environ, **self._settings},
            descriptors=(self._listener.fileno(), self._theirs.fileno()),
            logs=True,
        )

    async def answers(self) -> bool:
        self._let_go()  # it has its own by now: ours would hide that it ended
        return self.heard_at > anyio.current_time() - SILENT_S

    def heard(self) -> None:
        """It said something just now."""
        self.heard_at = anyio.current_time()

    def _let_go(self) -> None:
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
