"""uvicorn with an orderly end: stop accepting, tell clients, let replies finish, then close."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from types import FrameType

import anyio
import structlog
import uvicorn
from anyio import create_task_group
from starlette.applications import Starlette

from chat_server.patient_websocket import PatientWebSocket
from chat_server.secrets_file import secret_path
from chat_server.settings import Settings
from chat_server.state import State
from memory.messages import OFFLINE_MODEL

log = structlog.get_logger(__name__)

INTERRUPT_WITHIN_S = 5.0
"""What interrupted replies may take to be stored, before the connections are closed."""
CLOSE_WITHIN_S = 3.0
"""What connections may take to write what waits, and to close."""


class CannotListen(Exception):
    """The address cannot be listened on."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CannotListen: with the reason and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as fault:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {fault.strerror}; choose another with --port "
            "or TANDEM_SERVER__PORT"
        ) from fault


def ready_block(address: str, state: State) -> str:
    """What a person at a terminal wants to know once the server serves."""
    data_dir = state["settings"].data_dir
    model = state["model_name"]
    writer = "from memory (set OPENAI_API_KEY or OPENAI_BASE_URL for a language model)"
    return (
        f"\n  Tandem is ready:  {address.replace('//0.0.0.0', '//127.0.0.1')}\n"
        f"  Replies:          {writer if model == OFFLINE_MODEL else model}\n"
        f"  Data:             {data_dir}   admin token: {secret_path(data_dir, 'admin-token')}\n"
        f"  Stop with Ctrl-C.\n\n"
    )


class TandemServer(uvicorn.Server):
    """Serves *app*, says when it is ready, and drains before it stops."""

    def __init__(self, app: Starlette, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
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
        super().run(sockets)

    async def main_loop(self) -> None:
        async with create_task_group() as tasks:
            tasks.start_soon(self._say_when_ready)
            await super().main_loop()
            tasks.cancel_scope.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close as uvicorn does."""
        for listener in self.servers:
            listener.close()
        await self._drain(self._app.state.services)
        await super().shutdown(sockets)

    async def _say_when_ready(self) -> None:
        state: State = self._app.state.services
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("server.listening", address=address)
        await state["readiness"].became_ready.wait()
        # What stands now stands for ever: going through all of it stops the event loop for up to
        # 0.2 s each time.
        gc.collect()
        gc.freeze()
        log.info("server.ready", address=address)
        if sys.stderr.isatty():
            sys.stderr.write(ready_block(address, state))
            sys.stderr.flush()

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
        connections.close_all()
        with anyio.move_on_after(CLOSE_WITHIN_S):
            await connections.wait_none()
