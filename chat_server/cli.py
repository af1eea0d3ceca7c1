"""``python -m chat_server``: the commands.

Each command imports what it needs when it runs: the server takes a second to load, and a terminal
client or a token needs none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chat_server import terminal_chat
from chat_server.client import ClientError
from chat_server.session_file import UnreadableSessions
from chat_server.transfer_cli import export_command, import_command

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file instead of config.toml.", show_default=False),
]


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
            min=0,
            max=65_535,
            help="Port to listen on (server.port); 0 takes a free one.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Start the server with everything it needs.

    Chroma and Redis are private children, unless the configuration names servers to use.
    Settings come from config.toml and from the environment (TANDEM_SERVER__PORT=9000 sets
    server.port). With OPENAI_API_KEY, or OPENAI_BASE_URL for a compatible server, a language
    model writes the replies; without, the server answers from memory.
    """
    from chat_server.startup import serve_until_stopped  # noqa: PLC0415  # loads the server

    serve_until_stopped(config, host, port)


@cli.command(hidden=True)
def worker(
    listener: Annotated[int, typer.Option(help="An open socket, inherited.")],
    line: Annotated[int, typer.Option(help="The socket to the supervisor, inherited.")],
    config: ConfigFile = None,
) -> None:
    """Serve as one of several processes; started by `serve`."""
    from chat_server.worker_process import work_until_stopped  # noqa: PLC0415  # loads the server

    work_until_stopped(listener, line, config)


@cli.command()
def chat(
    url: Annotated[
        str, typer.Option(envvar="TANDEM_URL", help="Where the server is.")
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TANDEM_TOKEN",
            help="Whose session, instead of the one kept from the last time.",
            show_default=False,
        ),
    ] = None,
    *,
    new: Annotated[bool, typer.Option("--new", help="Begin as a new user.")] = False,
) -> None:
    """Chat in the terminal, or through a pipe.

    In the terminal /help names the commands. From a pipe each line is a message, and the replies
    are printed. Who you are is kept in ~/.config/tandem/session.json, for each server.
    """
    try:
        terminal_chat.chat(url, token, new_user=new)
    except (ClientError, UnreadableSessions, ValueError) as reason:
        raise SystemExit(f"tandem: {reason}") from reason


@cli.command()
def token(
    user: Annotated[
        str | None,
        typer.Option(help="Its user id, such as bot-1; a new one by default.", show_default=False),
    ] = None,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 400,
    config: ConfigFile = None,
) -> None:
    """Make a session token for a bot and print it.

    Needs the data folder's secret, and no running server. Whoever has the token is that user.
    """
    from chat_server.bot_token import make_bot_token  # noqa: PLC0415  # loads Starlette
    from chat_server.settings import ConfigError  # noqa: PLC0415  # loads pydantic
    from chat_server.settings_file import load_settings  # noqa: PLC0415  # likewise

    try:
        typer.echo(make_bot_token(load_settings(config), user, days))
    except ConfigError as reason:
        raise SystemExit(f"tandem: {reason}") from reason


@cli.command(name="config")
def show_config(
    config: ConfigFile = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Show every setting and where it comes from; secrets are masked."""
    from chat_server import effective_config  # noqa: PLC0415  # loads pydantic
    from chat_server.settings import ConfigError  # noqa: PLC0415  # likewise

    try:
        entries = effective_config.effective_config(config)
    except ConfigError as reason:
        raise SystemExit(f"tandem: {reason}") from reason
    show = effective_config.as_json if as_json else effective_config.as_table
    typer.echo(show(entries))


@cli.command()
def spec(
    *, http: Annotated[bool, typer.Option("--http", help="The HTTP routes, as OpenAPI.")] = False
) -> None:
    """Print the protocol for machines: AsyncAPI 3 (docs/asyncapi.json)."""
    from chat_server.http_spec import openapi_json  # noqa: PLC0415  # loads Starlette
    from chat_server.protocol_spec import asyncapi_json  # noqa: PLC0415  # loads the types

    typer.echo(openapi_json() if http else asyncapi_json(), nl=False)


cli.command("import")(import_command)
cli.command("export")(export_command)
