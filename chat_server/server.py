"""uvicorn with an orderly end: stop accepting, tell clients, let replies finish, then close."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from types import FrameType
from typing import cast

import anyio
import structlog
import uvicorn
from anyio import create_task_group
from starlette.applications import Starlette
from uvicorn.lifespan.on import LifespanOn

from chat_server.listener import address_of, ready_block
from chat_server.patient_http import PatientHttp
from chat_server.patient_websocket import PatientWebSocket
from chat_server.settings import Settings
from chat_server.state import State
from chat_server.worker_link import WorkerLink

log = structlog.get_logger(__name__)

INTERRUPT_WITHIN_S = 5.0
"""What interrupted replies may take to be stored, before the connections are closed."""
TELL_WITHIN_S = 1.0
"""What the last events may take on their way, before the connections are closed."""
CLOSE_WITHIN_S = 3.0
"""What connections may take to write what waits, and to close."""


class TandemServer(uvicorn.Server):
    """Serves *app*, says when it is ready, and drains before it stops.

    *link*: to the supervisor of this worker, who says when all are ready; without it the worker
    ends, and waits for nobody.
    """

    def __init__(self, app: Starlette, settings: Settings, link: WorkerLink | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=PatientHttp,
                ws=PatientWebSocket,
                ws_max_size=settings.server.max_frame_bytes,
                ws_per_message_deflate=False,  # 64 KiB a connection against 14 without
                ws_ping_interval=None,  # the protocol's own ping, which browsers can see
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
            )
        )
        self._app = app
        self._drain_s = settings.server.drain_s
        self._hurry = anyio.Event()
        self.failed = False
        """Whether a fault ended it."""
        self._link = link

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops the server in order; a second one ends the waiting, not the
        order.
        """
        if self.should_exit:
            self._hurry.set()
        else:
            super().handle_exit(sig, frame)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal; an orderly end is an end without a signal's exit code."""
        # uvicorn restores these handlers at its end and raises the signal once more.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        if self._link is not None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's matter
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as with nohup
            signal.signal(signal.SIGHUP, self.handle_exit)
        super().run(sockets)

    async def main_loop(self) -> None:
        async with create_task_group() as tasks:
            tasks.start_soon(self._say_when_ready)
            tasks.start_soon(self._end_with_services)
            if self._link is not None:
                tasks.start_soon(self._end_with, self._link)
            await super().main_loop()
            tasks.cancel_scope.cancel()

    async def _end_with_services(self) -> None:
        """Nothing can be served once a fault has ended the services: end, to be started anew."""
        lifespan = cast("LifespanOn", self.lifespan)
        await lifespan.shutdown_event.wait()
        if not self.should_exit:
            log.error("server.services_failed", effect="the server ends")
            self.should_exit = self.failed = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close as uvicorn does."""
        for listener in self.servers:
            listener.close()
        await self._drain(self._app.state.services)
        await super().shutdown(sockets)

    async def _say_when_ready(self) -> None:
        state: State = self._app.state.services
        address = address_of(self.servers[0].sockets[0])
        if self._link is None:
            log.info("server.listening", address=address)
        await state["readiness"].became_ready.wait()
        # What stands now stands for ever: going through all of it stops the event loop for up to
        # 0.2 s each time.
        gc.collect()
        gc.freeze()
        if self._link is not None:
            log.info("worker.ready")
            return
        log.info("server.ready", address=address)
        if sys.stderr.isatty():
            sys.stderr.write(ready_block(address, state["settings"].data_dir, state["model_name"]))
            sys.stderr.flush()

    async def _end_with(self, link: WorkerLink) -> None:
        await link.wait_broken()
        log.warning("worker.left_alone", hint="its supervisor is gone")
        self.should_exit = True
        self._hurry.set()

    async def _wait_hurry(self, waiting: anyio.CancelScope) -> None:
        await self._hurry.wait()
        waiting.cancel()

    async def _drain(self, state: State) -> None:
        """Let running replies end within ``drain_s``; the rest keeps what it has said."""
        state["readiness"].draining = True
        connections, runs = state["connections"], state["runs"]
        connections.announce_end(self._drain_s)
        log.info(
            "server.draining",
            connections=len(connections),
            running_replies=len(runs),
            within_s=self._drain_s if len(runs) else 0.0,
            hint="a second signal stops the waiting",
        )
        with anyio.move_on_after(self._drain_s):
            async with create_task_group() as tasks:
                tasks.start_soon(self._wait_hurry, tasks.cancel_scope)
                await runs.wait_idle()
                tasks.cancel_scope.cancel()
        if len(runs):
            log.warning("server.runs_interrupted", runs=len(runs))
            runs.interrupt_all()
            with anyio.move_on_after(INTERRUPT_WITHIN_S):
                await runs.wait_idle()
        with anyio.move_on_after(TELL_WITHIN_S):
            await state["fanout"].settled()
        connections.close_all()
        with anyio.move_on_after(CLOSE_WITHIN_S):
            await connections.wait_none()
