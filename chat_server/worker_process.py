"""``python -m chat_server worker``: one of several processes that serve."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from chat_server.app import create_app
from chat_server.file_limit import raise_file_limit
from chat_server.log_config import Pseudonyms, configure_logging
from chat_server.server import TandemServer
from chat_server.services import open_services
from chat_server.settings import ConfigError, Settings
from chat_server.settings_file import load_settings
from chat_server.state import State
from chat_server.supervision import cancelled_at_end
from chat_server.worker_link import WorkerLink
from chat_server.worker_messages import Envelope, Welcome
from memory.data_folder import hold_slot
from memory.errors import LineBroken, MemoryFault

WELCOME_S = 30.0


def work_until_stopped(listener: int, line: int, config: Path | None) -> None:
    """Serve on the open socket *listener* until a signal, or until the supervisor at the other end
    of the socket *line* is gone; both are inherited descriptors.
    """
    try:
        settings = load_settings(config)
        ours = socket.socket(fileno=line)
        welcome = _welcome(ours)
        pseudonyms = Pseudonyms(bytes.fromhex(welcome.salt))
        configure_logging(pseudonyms, worker=welcome.slot)
        raise_file_limit(settings.server.max_connections)
        with hold_slot(settings.data_dir, welcome.slot), socket.socket(fileno=listener) as shared:
            link = WorkerLink(ours, welcome)
            opener = partial(_open_linked, pseudonyms=pseudonyms, link=link)
            server = TandemServer(create_app(settings, opener), settings, link)
            server.run(sockets=[shared])
    except (ConfigError, MemoryFault) as reason:
        raise SystemExit(f"tandem: {reason}") from reason
    if not server.started or server.failed:
        raise SystemExit("tandem: a worker could not start, or a fault ended it; the log says why")


@asynccontextmanager
async def _open_linked(
    settings: Settings, pseudonyms: Pseudonyms, link: WorkerLink
) -> AsyncIterator[State]:
    """The services of a worker, on its line for as long as they are open."""
    async with cancelled_at_end() as tasks:
        tasks.start_soon(link.run)
        async with open_services(settings, pseudonyms, link) as state:
            yield state


def _welcome(line: socket.socket) -> Welcome:
    """The first thing that is said on *line*; it was written before this process began.

    Raises:
        LineBroken: nothing was, or something else.
    """
    line.settimeout(WELCOME_S)
    said = b""
    try:
        while not said.endswith(b"\n"):
            byte = line.recv(1)  # what follows is read by others
            if not byte:
                raise LineBroken("the supervisor is gone")
            said += byte
        welcome = msgspec.json.decode(said, type=Envelope).body
    except (OSError, msgspec.MsgspecError) as fault:
        raise LineBroken(f"the supervisor did not say who this worker is: {fault}") from fault
    if not isinstance(welcome, Welcome):
        raise LineBroken("the supervisor did not say who this worker is")
    return welcome
