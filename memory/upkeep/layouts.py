"""A store's layout, as it is written in its collections, read back as the placement it names."""

from __future__ import annotations

import re
from typing import Final

from memory.errors import UpkeepRefused
from memory.placement import PerUser, Placement, Sharded, conversations_name

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
