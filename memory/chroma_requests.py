"""Requests to Chroma: how they are worded, sent and tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, TypeVar

from chromadb.errors import ChromaError
from chromadb.types import Where

from memory.chroma_client import ConnectionLost
from memory.errors import StoreRefused, StoreUnavailable, StoreUnknown
from memory.messages import Vector
from memory.records import UNEMBEDDED, MetadataValue, Record

_Answer = TypeVar("_Answer")
Update = Callable[..., Awaitable[None]]
"""A collection's own method of that name."""


def where(key: str, values: Sequence[str]) -> Where:
    """The records that have one of *values* under *key*."""
    if len(values) == 1:
        return {key: values[0]}
    among: dict[Literal["$in", "$nin"], list[str | int | float | bool]] = {"$in": [*values]}
    return {key: among}


async def asked(request: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """The answer to a request that may be made twice: a pooled connection may be long dead.

    Raises:
        StoreUnavailable: there is none; its cause is what happened.
    """
    try:
        return await repeated(request)
    except StoreUnknown as error:
        raise StoreUnavailable(str(error)) from error


async def repeated(request: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """The answer to a request for which twice is as good as once.

    Raises:
        StoreUnknown: what became of it is not known.
    """
    try:
        return await request()
    except ConnectionLost:
        return await request()


async def sent(
    write: Callable[..., Awaitable[None]], records: Sequence[Record], vectors: Sequence[Vector]
) -> None:
    """*records* with their *vectors*, given to one of a collection's writing methods.

    Raises:
        StoreRefused: the client, which checks before it sends, will not have them.
        StoreUnknown: they may have been written.
    """
    try:
        await write(
            ids=[record.id for record in records],
            documents=[record.document for record in records],
            metadatas=[record.metadata for record in records],
            embeddings=list(vectors),
        )
    except (ChromaError, TypeError, ValueError) as error:
        raise StoreRefused(f"Chroma's client refuses a record: {type(error).__name__}") from error


async def filled(update: Update, ids: Sequence[str], vectors: Sequence[Vector]) -> None:
    """The records of *ids* with *vectors* in the place of their placeholders; makes no records."""
    unmarked = [{UNEMBEDDED: None}] * len(ids)  # None: the key is removed
    await update(ids=list(ids), embeddings=list(vectors), metadatas=unmarked)


async def noted(update: Update, record: str, facts: Mapping[str, MetadataValue | None]) -> None:
    """The record with *facts* among its metadata, ``None`` for a key to be removed; makes none."""
    await update(ids=[record], metadatas=[dict(facts)])
