"""Which collection holds what: the one place that knows.

``per_user`` gives each user a collection: right on distributed Chroma and Chroma Cloud.
``sharded`` spreads all users over a few collections: right on one node, where an open
collection costs 2.6 MB and a batch cannot span two.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, Literal, Protocol

import msgspec

from memory.messages import UserId

PlacementName = Literal["sharded", "per_user"]

_MAX_NAME_CHARS: Final = 110
_MIN_NAME_CHARS: Final = 3
"""Chroma's names have 3 to 512 characters; Chroma Cloud's at most 128."""

_PLAIN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")
_MAX_SHARDS: Final = 100
_SHARD: Final = re.compile(r"[0-9][0-9]")
"""What stands for a user's part in the name of a shard: no user's own collection is called so,
and the collections of both policies can stand side by side."""


class Shelf(msgspec.Struct, frozen=True):
    """The collection for a user's messages.

    ``owner`` is set where the collection is that user's alone; it is written into the
    collection and checked when it is opened, because names may be hashes.
    """

    name: str
    owner: UserId | None = None


class Placement(Protocol):
    """A policy; injective: records of two users are never confused, nor are the collections of
    two policies.
    """

    @property
    def prefix(self) -> str:
        """How the name of every collection begins."""
        ...

    @property
    def layout(self) -> str:
        """The policy and its numbers; data of one layout must not be read by another."""
        ...

    @property
    def conversations(self) -> str:
        """The collection of all users' conversations."""
        ...

    @property
    def shards(self) -> tuple[Shelf, ...]:
        """The collections that all users share; none where each user has one."""
        ...

    def shelf(self, user: UserId) -> Shelf:
        """Where *user*'s messages stand."""
        ...


class PerUser:
    """One collection for each user."""

    def __init__(self, prefix: str = "user_") -> None:
        self.prefix = prefix
        self.layout = "per_user"
        self.shards: tuple[Shelf, ...] = ()
        self.conversations = conversations_name(prefix)

    def shelf(self, user: UserId) -> Shelf:
        return Shelf(user_collection_name(self.prefix, user), owner=user)


class Sharded:
    """All users hashed onto *shards* collections, the same for ever."""

    def __init__(self, prefix: str = "user_", shards: int = 1) -> None:
        if not 1 <= shards <= _MAX_SHARDS:
            raise ValueError(f"there must be at least one shard, and at most {_MAX_SHARDS}")
        self.prefix = prefix
        self.layout = f"sharded/{shards}"
        self.conversations = conversations_name(prefix)
        self.shards = tuple(Shelf(f"{prefix}{shard:02d}") for shard in range(shards))

    def shelf(self, user: UserId) -> Shelf:
        digest = hashlib.sha256(user.encode()).digest()
        return self.shards[int.from_bytes(digest[:8], "big") % len(self.shards)]


def make_placement(name: PlacementName, *, prefix: str, shards: int) -> Placement:
    """The policy of that name, as the settings have it."""
    return PerUser(prefix) if name == "per_user" else Sharded(prefix, shards)


def conversations_name(prefix: str) -> str:
    """Unlike any :func:`user_collection_name`: no user's part begins with a dot."""
    return f"{prefix}.meta"


def user_collection_name(prefix: str, user: UserId) -> str:
    """The name of *user*'s own collection: readable where Chroma's rule for names allows.

    Injective. A plain id is kept, unless a shard is called so; any other is spelled in base32hex,
    which sorts and survives as lower case; what is too long even so is hashed. Only the last two
    forms hold a dot.
    """
    plain = f"{prefix}{user}"
    if _PLAIN.fullmatch(user) and not _SHARD.fullmatch(user) and len(plain) >= _MIN_NAME_CHARS:
        return plain
    spelled = base64.b32hexencode(user.encode()).decode().rstrip("=").lower()
    name = f"{prefix}b32.{spelled}"
    if spelled and len(name) <= _MAX_NAME_CHARS:
        return name
    return f"{prefix}h.{hashlib.sha256(user.encode()).hexdigest()}"
