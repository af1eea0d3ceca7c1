"""One supervised child: started, watched, restarted, and stopped with the server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import anyio
import structlog

from memory.errors import ChildFailed
from memory.spawn import Launch, exited, outcome, signal_group, spawn

log = structlog.get_logger(__name__)

ChildState = Literal["starting", "ready", "restarting", "held", "failed", "stopped"]

STARTING_PROBE_S: Final = 0.02
LAST_WORDS_S: Final = 0.5
TAIL_LINES: Final = 20
LONGEST_LINE: Final = 500
ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\^_])")
"""What moves a terminal's cursor or colours its text (ECMA-48)."""
UNREADY_STARTS: Final = 3
"""After so many starts in a row that came to nothing a child has failed; trying goes on."""


class ChildSpec(Protocol):
    """What there is to know of one kind of child."""

    @property
    def name(self) -> str: ...

    async def prepare(self) -> Launch:
        """Make everything ready for a start; called before each one, no child is running.

        Raises:
            ChildFailed: it cannot be started now.
        """
        ...

    async def answers(self) -> bool:
        """Whether the child serves; the caller bounds the time and may cancel."""
        ...


@dataclass(frozen=True, kw_only=True)
class ChildTimes:
    """When a supervisor does what.

    A slow child is left alone: it is ended only after it has not answered once for
    ``hung_after_s``. The delay between restarts begins at ``first_delay_s``, doubles up to
    ``longest_delay_s``, and begins anew once the child was ready for ``steady_s``.
    """

    probe_every_s: float = 2.0
    probe_timeout_s: float = 10.0
    start_timeout_s: float = 60.0
    hung_after_s: float = 30.0
    stop_timeout_s: float = 5.0
    first_delay_s: float = 0.05
    longest_delay_s: float = 5.0
    steady_s: float = 2.0


class ChildProcess:
    """Keeps one child running for as long as ``run`` does.

    The child has a session of its own: Ctrl-C in the terminal reaches the server only, which
    stops its children in order. On Linux it gets SIGTERM when the thread that started it ends,
    so ``run`` belongs into the main thread. It inherits no descriptors and no secrets.
    """

    def __init__(
        self,
        spec: ChildSpec,
        times: ChildTimes | None = None,
        *,
        on_restart: Callable[[str], None] = lambda _name: None,
        on_exit: Callable[[int], None] = lambda _status: None,
    ) -> None:
        """*on_restart* is called with the child's name before each start but the first, *on_exit*
        with each ended process's status: negative, the signal that ended it.
        """
        self._spec = spec
        self._times = times or ChildTimes()
        self._state: ChildState = "starting"
        self._reason: str | None = "it has not answered yet"
        self._changed = anyio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._ready_at: float | None = None
        self._restarts = 0
        self._on_restart = on_restart
        self._on_exit = on_exit
        self._holds = 0
        self._life: anyio.CancelScope | None = None

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def state(self) -> ChildState:
        return self._state

    @property
    def reason(self) -> str | None:
        """Why the child is not ready; ``None`` while it is."""
        return self._reason

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        return self._process.pid if self._process else None

    async def changed(self) -> None:
        """Return once the state is another one."""
        await self._changed.wait()

    async def wait_ready(self, timeout_s: float) -> None:
        """Return once the child is ready.

        Raises:
            ChildFailed: it is not, after *timeout_s* or several vain starts; says why.
        """
        with anyio.move_on_after(timeout_s):
            while self._state in {"starting", "restarting", "held"}:
                await self._changed.wait()
        if self._state != "ready":
            said = f'; it said last: "{self._tail[-1]}"' if self._tail else ""
            raise ChildFailed(f"{self.name} is {self._state}: {self._reason}{said}")

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Within the block the child does not run: it was stopped in order and waits to be started.

        It is started again when the block ends, and not waited for. Blocks may overlap.
        """
        self._holds += 1
        try:
            if self._life is not None:
                self._life.cancel()
            while self._life is not None:
                await self._changed.wait()
            yield
        finally:
            self._holds -= 1
            self._tell()

    async def run(self) -> None:
        """Keep the child running until cancelled; then stop it and return with it reaped.

        Stopping is SIGTERM, up to ``stop_timeout_s``, SIGKILL; shielded and so bounded.
        """
        delay_s = self._times.first_delay_s
        unready_starts = 0
        try:
            while True:
                while self._holds:
                    await self._changed.wait()
                self._ready_at = None
                reason = await self._live_unless_held()
                if self._holds:
                    delay_s = self._times.first_delay_s
                    continue
                log.error(
                    "child.ended", child=self.name, outcome=reason, last_lines=list(self._tail)
                )
                if self._ready_at is None:
                    unready_starts += 1
                else:
                    unready_starts = 0
                    if anyio.current_time() - self._ready_at >= self._times.steady_s:
                        delay_s = self._times.first_delay_s
                self._become("failed" if unready_starts >= UNREADY_STARTS else "restarting", reason)
                await anyio.sleep(delay_s)
                delay_s = min(2 * delay_s, self._times.longest_delay_s)
                self._restarts += 1
                self._on_restart(self.name)
        finally:
            self._become("stopped", "the server is stopping")

    def _become(self, state: ChildState, reason: str | None) -> None:
        self._state, self._reason = state, reason
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _live_unless_held(self) -> str:
        """``_live``, which :meth:`stopped` may end."""
        reason = "it is held"
        try:
            with anyio.CancelScope() as self._life:
                reason = await self._live()
        finally:
            self._life = None
            if self._holds:
                self._become("held", "it is being looked after")
            self._tell()
        return reason

    async def _live(self) -> str:
        """Start the child and stay with it until it is gone; returns what became of it."""
        self._tail.clear()
        try:
            launch = await self._spec.prepare()
            process = spawn(launch)
        except (ChildFailed, OSError) as error:
            return str(error)
        self._process = process
        log.info("child.started", child=self.name, child_pid=process.pid)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, process, tasks.cancel_scope)
                await self._read_output(process, launch.greeting)
                await exited(process)  # usually at once: its output ends with it
                tasks.cancel_scope.cancel()
        finally:
            await self._stop(process)
            self._process = None
        return outcome(process)

    async def _watch(self, process: subprocess.Popen[bytes], life: anyio.CancelScope) -> None:
        """Note when the child is ready; end it when it has not answered for too long."""
        answered_at = anyio.current_time()
        while process.poll() is None:
            if await self._probe():
                answered_at = anyio.current_time()
                if process.poll() is None and self._ready_at is None:
                    self._ready_at = answered_at
                    self._become("ready", None)
                    log.info("child.became_ready", child=self.name, child_pid=process.pid)
            silent_s = anyio.current_time() - answered_at
            ready = self._ready_at is not None
            if silent_s > (self._times.hung_after_s if ready else self._times.start_timeout_s):
                log.error("child.hung", child=self.name, silent_s=round(silent_s, 1))
                signal_group(process, signal.SIGKILL)
            await anyio.sleep(self._times.probe_every_s if ready else STARTING_PROBE_S)
        await anyio.sleep(LAST_WORDS_S)
        life.cancel()  # a grandchild may hold the output open

    async def _probe(self) -> bool:
        with anyio.move_on_after(self._times.probe_timeout_s):
            return await self._spec.answers()
        return False

    async def _read_output(
        self, process: subprocess.Popen[bytes], greeting: tuple[str, ...]
    ) -> None:
        """Log what the child writes, line by line, until it closes its output; what it greets or
        draws with is not kept.
        """
        assert process.stdout is not None  # noqa: S101  # opened as a pipe by spawn
        pipe = process.stdout.fileno()
        os.set_blocking(pipe, False)
        rest = b""
        while True:
            await anyio.wait_readable(pipe)
            chunk = os.read(pipe, 65_536)
            *lines, rest = (rest + chunk).split(b"\n")
            if not chunk or len(rest) > LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                text = ESCAPES.sub("", line[:LONGEST_LINE].decode(errors="replace")).strip()
                if any(map(str.isalnum, text)) and not text.startswith(greeting):
                    self._tail.append(text)
                    log.debug("child.wrote", child=self.name, line=text)
            if not chunk:
                return

    async def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """End the child and reap it."""
        with anyio.CancelScope(shield=True):
            if process.poll() is None:
                signal_group(process, signal.SIGTERM)
                with anyio.move_on_after(self._times.stop_timeout_s):
                    await exited(process)
                if process.poll() is None:
                    signal_group(process, signal.SIGKILL)
                    await exited(process)  # the kernel ends it, however busy it is
                log.info("child.stopped", child=self.name, outcome=outcome(process))
            self._on_exit(int(process.returncode))
            if process.stdout is not None:
                process.stdout.close()
