"""``python -m chat_server serve``: from the settings to a serving process."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from chat_server.embedders import model_folder
from chat_server.file_limit import raise_file_limit
from chat_server.listener import CannotListen, bind
from chat_server.log_config import Pseudonyms, configure_logging
from chat_server.model_server import model_server
from chat_server.secrets_file import load_or_make
from chat_server.settings import ConfigError, Settings
from chat_server.settings_file import load_settings
from chat_server.stores import placement
from memory.data_folder import hold
from memory.errors import MemoryFault
from memory.journal_folders import adopt_journals
from memory.model_files import open_files
from memory.upkeep.unfinished import see_to_unfinished


def serve_until_stopped(config: Path | None, host: str | None, port: int | None) -> None:
    """Serve until a signal; what stands in the way of a start ends the process with one line.

    With several workers this process becomes their supervisor, and loads nothing of a server.
    """
    started = True
    try:
        settings = _settings(config, host, port)
        model_server(settings)
        pseudonyms = Pseudonyms()
        configure_logging(pseudonyms)
        with hold(settings.data_dir):
            if not settings.chroma.url:
                see_to_unfinished(settings.data_dir, placement(settings))
            adopt_journals(settings.data_dir, settings.server.workers)
            raise_file_limit(settings.server.max_connections)
            listener = bind(settings.server.host, settings.server.port)
            _prepare_model(settings)
            if settings.server.workers == 1:
                started = _serve_alone(settings, listener, pseudonyms)
            else:
                _supervise(settings, listener, pseudonyms, config)
    except (ConfigError, MemoryFault, CannotListen) as reason:
        raise SystemExit(f"tandem: {reason}") from reason
    if not started:
        raise SystemExit("tandem: the server could not start; the log says why")


def _serve_alone(settings: Settings, listener: socket.socket, pseudonyms: Pseudonyms) -> bool:
    """Serve in this process; whether it came to that."""
    from chat_server.app import create_app  # noqa: PLC0415  # not for a supervisor: 60 MB
    from chat_server.server import TandemServer  # noqa: PLC0415  # likewise
    from chat_server.services import open_services  # noqa: PLC0415  # likewise

    opener = partial(open_services, pseudonyms=pseudonyms)
    server = TandemServer(create_app(settings, opener), settings)
    server.run(sockets=[listener])
    if server.failed:
        raise SystemExit("tandem: a fault ended the server; the log says which")
    return server.started


def _supervise(
    settings: Settings, listener: socket.socket, pseudonyms: Pseudonyms, config: Path | None
) -> None:
    """Have several workers serve. Their secrets are made here, so that it is said if they cannot
    be.
    """
    from chat_server.supervisor import Supervisor  # noqa: PLC0415  # for several workers only

    load_or_make(settings.data_dir, "session-secret", settings.auth.secret)
    load_or_make(settings.data_dir, "admin-token", settings.auth.admin_token)
    Supervisor(settings, listener, pseudonyms, config).run()


def _settings(config: Path | None, host: str | None, port: int | None) -> Settings:
    settings = load_settings(config)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if not given:
        return settings
    return settings.model_copy(update={"server": settings.server.model_copy(update=given)})


def _prepare_model(settings: Settings) -> None:
    """Make sure that the embedding model lies there, whole; made once, in a process of its own,
    because that needs torch, which the server never loads.
    """
    if settings.embedding.backend != "onnx":
        return
    folder = model_folder(settings)
    if not folder.exists():
        done = subprocess.run(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", "memory", "prepare", "--to", str(folder)], check=False
        )
        if done.returncode != 0:
            raise ConfigError("the embedding model could not be prepared; see above")
    open_files(folder)
