"""``python -m memory erase``."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from memory.data_folder import hold
from memory.errors import UpkeepRefused
from memory.messages import UserId, is_user_id
from memory.upkeep.configured import DataDir, configured
from memory.upkeep.offline_erasure import erase_user
from memory.upkeep.restore import finish_restore
from memory.upkeep.terminal import counted, told


def erase_command(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="The same id once more, instead of a question.", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Erase all that a user ever said and was told; the server must be stopped.

    Messages, conversations, vectors and the journal, down to the bytes in the files; it cannot be
    undone. A restored backup leaves the user out. A running server does the same:
    `POST /admin/erase`. Of a store at chroma.url the records are deleted; its files, and those of
    a Redis at redis.url (which forgets within a day), are the matter of whoever runs them.

    Example: python -m memory erase guest-abc --confirm guest-abc
    """
    if not is_user_id(user):
        raise UpkeepRefused(
            "no user has such an id: it is 1 to 64 of A-Z a-z 0-9 _ . -; nothing was erased"
        )
    place = configured(data_dir=data_dir)
    if confirm is None:
        confirm = typer.prompt("This cannot be undone. The user's id once more", err=True)
    if confirm != user:
        raise UpkeepRefused("the two ids differ; nothing was erased")
    with hold(place.data_dir):
        finish_restore(place.data_dir)
        with told() as report:
            records = anyio.run(erase_user, place, UserId(user), report)
    scrubbed = "" if not place.url else "; the files of that server are its operator's matter"
    if records:
        typer.echo(f"erased: {counted(records, 'record')} (messages and conversations){scrubbed}")
    else:
        typer.echo(f"nothing of that user was stored{scrubbed}")
