"""A store's layout, as it is written in its collections, read back as the placement it names."""

from __future__ import annotations

import re
from typing import Final

from memory.errors import UpkeepRefused
from memory.messages import UserId
from memory.placement import PerUser, Placement, Sharded, Shelf, conversations_name

_SHARDED: Final = re.compile(r"sharded/([1-9][0-9]{0,3})")


def placement_of(layout: str, prefix: str) -> Placement:
    """The placement whose layout is *layout*.

    Raises:
        UpkeepRefused: there is none.
    """
    if layout == PerUser(prefix).layout:
        return PerUser(prefix)
    if sharded := _SHARDED.fullmatch(layout):
        return Sharded(prefix, int(sharded.group(1)))
    raise UpkeepRefused(f"the store has the layout {layout!r}, which this version does not know")


def prefix_of(directory: str) -> str:
    """The prefix of the store whose collection of conversations is called *directory*."""
    return directory.removesuffix(conversations_name(""))


def setting_of(layout: str) -> str:
    """The lines of ``[chroma]`` in ``config.toml`` that name *layout*."""
    name, _, shards = layout.partition("/")
    return f'placement = "{name}"' + (f" and shards = {shards}" if shards else "")


def temporary_name(placement: Placement, name: str) -> str:
    """What the collection *name* of *placement* is called while another has its name.

    Unlike any name of a placement: no user's part begins with a dot.
    """
    return f"{placement.prefix}.to.{name.removeprefix(placement.prefix)}"


def is_shelf(placement: Placement, name: str, owner: str | None) -> bool:
    """Whether the collection *name*, *owner*'s or everybody's, is one of *placement*'s for
    messages, or will be under another name.

    A prefix may begin another store's prefix, so the whole name counts.
    """
    if owner is not None:
        return placement.shelf(UserId(owner)) == Shelf(name, UserId(owner))
    names = [shelf.name for shelf in placement.shards]
    return name in names or name in [temporary_name(placement, it) for it in names]
