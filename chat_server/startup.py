"""``python -m chat_server serve``: from the settings to a serving process."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from chat_server.app import create_app
from chat_server.log_config import Pseudonyms, configure_logging
from chat_server.server import CannotListen, TandemServer, bind
from chat_server.services import model_server, open_services
from chat_server.settings import ConfigError, Settings
from chat_server.settings_file import load_settings
from chat_server.stores import model_folder, placement
from memory.data_folder import hold
from memory.errors import MemoryFault
from memory.model_files import open_files
from memory.upkeep.unfinished import see_to_unfinished


def serve_until_stopped(config: Path | None, host: str | None, port: int | None) -> None:
    """Serve until a signal; what stands in the way of a start ends the process with one line."""
    try:
        settings = _settings(config, host, port)
        model_server(settings)
        pseudonyms = Pseudonyms()
        configure_logging(pseudonyms)
        with hold(settings.data_dir):
            if not settings.chroma.url:
                see_to_unfinished(settings.data_dir, placement(settings))
            listener = bind(settings.server.host, settings.server.port)
            _prepare_model(settings)
            opener = partial(open_services, pseudonyms=pseudonyms)
            server = TandemServer(create_app(settings, opener), settings)
            server.run(sockets=[listener])
    except (ConfigError, MemoryFault, CannotListen) as reason:
        raise SystemExit(f"tandem: {reason}") from reason
    if not server.started:
        raise SystemExit("tandem: the server could not start; the log says why")


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
