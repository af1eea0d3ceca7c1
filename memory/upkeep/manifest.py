"""What a backup says about itself: whole, unaltered, and whose store it can become."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from memory import __version__
from memory.errors import UpkeepRefused
from memory.upkeep.store_file import StoreFile
from memory.upkeep.terminal import Report
from memory.upkeep.vector_segments import DATABASE

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CHUNK_BYTES: Final = 1 << 20


class FileFacts(msgspec.Struct, frozen=True):
    """A file of the backup: its size and the SHA-256 of its bytes, in hexadecimal digits."""

    bytes: int
    sha256: str


class CollectionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A collection of the backup and how much it holds."""

    name: str
    kind: str
    layout: str
    records: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one backup.

    ``created_at`` is the moment, in seconds of Unix time, to which the copy belongs: whatever
    was accepted before stands in it. ``schema`` are Chroma's migrations, ``embedding`` and
    ``dimension`` say what made the vectors.
    """

    format: int
    created_at: float
    tandem: str
    chromadb: str
    schema: list[str]
    embedding: str
    dimension: int
    layout: str
    users: int
    collections: list[CollectionFacts]
    files: dict[str, FileFacts]

    @property
    def messages(self) -> int:
        """How many messages the backup holds."""
        return sum(it.records for it in self.collections if it.kind == "messages")

    @property
    def when(self) -> str:
        """``created_at`` as people read it, UTC."""
        return datetime.fromtimestamp(self.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def describe(store: StoreFile, files: dict[str, FileFacts], created_at: float) -> Manifest:
    """The manifest of a copy of *store* that was taken at *created_at*."""
    collections = store.collections()
    counts = store.counts()
    directory = next((it for it in collections if it.kind == "conversations"), None)
    facts = directory.facts if directory is not None else {}
    return Manifest(
        format=FORMAT,
        created_at=created_at,
        tandem=__version__,
        chromadb=version("chromadb"),
        schema=store.schema(),
        embedding=str(facts.get("embedding", "")),
        dimension=int(facts.get("dimension", 0)),
        layout=str(facts.get("layout", "")),
        users=store.users(),
        collections=[
            CollectionFacts(
                name=it.name, kind=it.kind, layout=it.layout, records=counts.get(it.segment, 0)
            )
            for it in collections
        ],
        files=files,
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Write *manifest* into *folder* and see that it stays."""
    with (folder / MANIFEST).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> Manifest:
    """The manifest in *folder*.

    Raises:
        UpkeepRefused: there is none, or it is of a newer format, or damaged.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise UpkeepRefused(f"{folder} is not a backup: it has no {MANIFEST}") from None
    except NotADirectoryError:
        raise UpkeepRefused(f"{folder} is not a backup: it is not a folder") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UpkeepRefused(f"{path} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise UpkeepRefused(
            f"{path} has format {manifest.format}, and this version reads {FORMAT}: it was made "
            f"by Tandem {manifest.tandem}"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """See that each file is what it was when the backup was made.

    Raises:
        UpkeepRefused: one is missing, was cut or altered; says which.
    """
    for name, facts in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            raise UpkeepRefused(f"{folder / MANIFEST} names a file outside of the backup")
        try:
            found = file_facts(path)
        except OSError as error:
            raise UpkeepRefused(f"{path} cannot be read: {error.strerror}") from error
        if found.bytes != facts.bytes:
            raise UpkeepRefused(f"{path} has {found.bytes:,} bytes instead of {facts.bytes:,}")
        if found.sha256 != facts.sha256:
            raise UpkeepRefused(f"{path} was altered: its SHA-256 is not the manifest's")


def checked(folder: Path, report: Report) -> Manifest:
    """The manifest of the backup in *folder*, all of which was read and is sound.

    Raises:
        UpkeepRefused: it is not whole, was altered, or cannot be served by this version.
    """
    manifest = read(folder)
    report("checking the files", 0.0)
    check_files(folder, manifest)
    report("checking the database", 0.3)
    with StoreFile.opened(folder / DATABASE, still=True) as store:
        if faults := store.faults(thorough=True):
            raise UpkeepRefused(f"{folder / DATABASE} is damaged: {faults[0]}")
        again = describe(store, manifest.files, manifest.created_at)
    if (again.schema, again.collections, again.users) != (
        manifest.schema,
        manifest.collections,
        manifest.users,
    ):
        raise UpkeepRefused(f"{folder / MANIFEST} does not describe the database beside it")
    return manifest


def file_facts(path: Path) -> FileFacts:
    """Size and SHA-256 of *path*, read in parts."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileFacts(size, digest.hexdigest())
