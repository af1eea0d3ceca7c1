"""Everything that storing and finding can do wrong.

::

    MemoryFault                     never raised itself
    ├── StoreError                  long-term memory
    │   ├── StoreUnavailable        certainly nothing was written; try again
    │   │   └── StoreRefused        the store will not take it as it is
    │   │       ├── UserBeingErased  all that the user said is being erased; try again later
    │   │       └── ConversationDeleted  nothing more can be said there
    │   ├── StoreUnknown            it may have been written; the same id may be sent again
    │   │   └── IndexDamaged        the same, and the vectors of a collection cannot be read
    │   ├── StoreBusy               too much is waiting; nothing was written; try again
    │   ├── IdConflict              the id stands in the store with other words
    │   └── CorruptRecord           the store returned what this program did not write
    ├── ShortTermUnavailable        Redis did not answer; everything goes on without it
    ├── EmbeddingFailed             no vector could be made of a text
    ├── ModelFilesInvalid           the embedding model's files are missing or wrong
    ├── DataFolderInUse             another server holds the data folder
    ├── DataFolderUnusable          the data folder cannot be made or written to
    ├── UpkeepRefused               a command on the store's files cannot do what was asked
    ├── JournalFailed               the disk of the journal failed
    ├── LineBroken                  another process of this server did not answer
    └── ChildFailed                 a supervised child could not be started
"""

from __future__ import annotations

from pathlib import Path


class MemoryFault(Exception):
    """Something that storing or finding could not do."""


class StoreError(MemoryFault):
    """Long-term memory failed."""


class StoreUnavailable(StoreError):
    """Certainly nothing was written, or nothing could be read."""


class StoreRefused(StoreUnavailable):
    """The store answered and will not take what it was sent; nothing was written."""


class UserBeingErased(StoreRefused):
    """All that the user ever said is being erased; nothing was written."""

    def __init__(self) -> None:
        super().__init__("this user's memory is being erased; try again in a minute")


class ConversationDeleted(StoreRefused):
    """The conversation is being deleted; nothing was written."""

    def __init__(self) -> None:
        super().__init__("this conversation was deleted")


class StoreUnknown(StoreError):
    """The answer is missing: it may or may not have been written."""


class IndexDamaged(StoreUnknown):
    """The vectors of a collection cannot be read; its words can, and what was to be written may
    have been.
    """


class StoreBusy(StoreError):
    """Too many writes are waiting; nothing was written."""


class IdConflict(StoreError):
    """The id stands in the store already, with other words."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"{message_id} is stored with another text")
        self.message_id = message_id


class CorruptRecord(StoreError):
    """The store returned a record that this program did not write."""

    def __init__(self, record_id: str, field: str) -> None:
        super().__init__(f"record {record_id}: {field} is missing or has the wrong type")
        self.record_id = record_id
        self.field = field


class ShortTermUnavailable(MemoryFault):
    """Redis did not answer in time, or not at all."""


class EmbeddingFailed(MemoryFault):
    """No vector could be made of a text."""


class ModelFilesInvalid(MemoryFault):
    """A file of the embedding model is missing, or its hash is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def one_line(error: Exception) -> str:
    """What a vendor says of *error*, as part of a message of ours: one line, 300 characters."""
    return " ".join(str(error).split())[:300]


class DataFolderInUse(MemoryFault):
    """Another server holds the data folder."""

    def __init__(self, folder: Path, holder_pid: int | None) -> None:
        holder = f" (process {holder_pid})" if holder_pid else ""
        super().__init__(f"{folder} is in use by another server{holder}; stop it first")
        self.folder = folder
        self.holder_pid = holder_pid


class DataFolderUnusable(MemoryFault):
    """The data folder cannot be made or written to."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"data_dir {folder} cannot be used: {reason}")
        self.folder = folder


class UpkeepRefused(MemoryFault):
    """A command on the store cannot do what was asked; the text says why and what to do."""


class JournalFailed(MemoryFault):
    """The disk failed under the journal: what was asked of it may not be on disk."""


class LineBroken(MemoryFault):
    """Another process of the same server is gone, or did not answer in time."""


class ChildFailed(MemoryFault):
    """A supervised child could not be started."""


class WarmCopyUnusable(MemoryFault):
    """A copy of a user's memory on disk is damaged or of another time; the store is read."""


class WarmFailed(MemoryFault):
    """The disk failed under the warm copies: what should be gone may be there."""
