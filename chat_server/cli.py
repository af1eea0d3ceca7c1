"""``python -m chat_server``: the commands."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chat_server.app import create_app
from chat_server.log_config import Pseudonyms, configure_logging
from chat_server.server import PortInUse, TandemServer, bind
from chat_server.services import model_folder, open_services
from chat_server.settings import ConfigError, Settings, load_settings
from memory.data_folder import hold
from memory.errors import MemoryFault
from memory.model_files import open_files

cli = typer.Typer(
    help="Tandem: a real-time chat server that remembers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@cli.callback()
def commands() -> None:
    """Tandem: a real-time chat server that remembers."""


@cli.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (server.host).", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on (server.port); 0 takes a free one.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration file instead of config.toml.", show_default=False),
    ] = None,
) -> None:
    """Start the server with everything it needs: Chroma and Redis as private children, unless
    the configuration names servers to use.

    Settings come from config.toml and from the environment (TANDEM_SERVER__PORT=9000 sets
    server.port). With OPENAI_API_KEY, or OPENAI_BASE_URL for a compatible server, a language
    model writes the replies; without, the server answers from memory.
    """
    try:
        settings = _settings(config, host, port)
        pseudonyms = Pseudonyms()
        configure_logging(pseudonyms)
        with hold(settings.data_dir):
            _prepare_model(settings)
            listener = bind(settings.server.host, settings.server.port)
            opener = partial(open_services, pseudonyms=pseudonyms)
            server = TandemServer(create_app(settings, opener), settings)
            server.run(sockets=[listener])
    except (ConfigError, MemoryFault, PortInUse) as reason:
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
