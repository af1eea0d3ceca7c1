"""``python -m chat_server import`` and ``export``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

DEFAULT_URL: Final = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option(envvar="TANDEM_URL", help="Where the server is.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="TANDEM_TOKEN",
        help="Whose session, instead of the one that the terminal client keeps.",
        show_default=False,
    ),
]


def import_command(
    file: Annotated[str, typer.Argument(help="The file; - is the standard input.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    format_: Annotated[
        Literal["auto", "ndjson", "chatgpt", "openai"],
        typer.Option("--format", help="What the file is; auto looks into it."),
    ] = "auto",
) -> None:
    """Import messages: an export of Tandem, ChatGPT's conversations.json, or OpenAI messages.

    Nothing is stored twice: an import that broke off is simply run again.
    """
    from chat_server.transfer_terminal import import_file  # noqa: PLC0415  # loads numpy

    import_file(file, url, token, None if format_ == "auto" else format_)


def export_command(
    file: Annotated[str, typer.Argument(help="The file to write; - is the standard output.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Export all messages, one a line. Until all have come, the file is called FILE.part."""
    from chat_server.transfer_terminal import export_file  # noqa: PLC0415  # loads numpy

    export_file(file, url, token)
