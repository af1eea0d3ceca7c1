"""What the supervisor and its workers tell and ask each other; values only."""

from __future__ import annotations

from typing import Final

import msgspec

from chat_server.figures import Figures
from memory.child_process import ChildState
from memory.chroma_client import Damage
from memory.messages import MessageId, UserId
from memory.upkeep.keeper import HealingProgress

LARGEST_BYTES: Final = 4_000_000
"""A message may hold the figures of all workers, some 50 KB each."""


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The first thing that a worker is told. *salt*: of the pseudonyms, hexadecimal."""

    slot: int
    workers: int
    salt: str


class StoreState(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """How the private Chroma is: where, and what is missing. ``healing``: names of collections."""

    address: str = ""
    state: ChildState = "starting"
    reason: str | None = "it was not heard of yet"
    healing: tuple[str, ...] = ()
    progress: HealingProgress | None = None


class Healed(msgspec.Struct, frozen=True, tag=True):
    """A collection has all its vectors again."""

    collection: str


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Asked: let nothing through to Chroma, or nothing new that is written, until the ``LetGo`` of
    that number; done when nothing is under way. Numbers grow.
    """

    number: int
    batches_only: bool


class LetGo(msgspec.Struct, frozen=True, tag=True):
    """Chroma is there again."""

    number: int


class Suspected(msgspec.Struct, frozen=True, tag=True):
    """A worker's request failed as with a damaged index, or a stuck Chroma."""

    collection: str
    damage: Damage


class Asked(msgspec.Struct, frozen=True, tag=True):
    """The collections, by id, about which a worker asked something in the last moments."""

    collections: tuple[str, ...]


class Beat(msgspec.Struct, frozen=True, tag=True):
    """A worker lives. ``ready``: it takes messages. ``figures``: now and then."""

    ready: bool
    figures: Figures | None = None


class Entered(msgspec.Struct, frozen=True, tag=True):
    """Asked by a worker: an erasure was entered; done when all others have looked."""


class LookAtLedger(msgspec.Struct, frozen=True, tag=True):
    """Told, or asked: an erasure was entered, or finished."""


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Asked of a worker: keep nothing of *user* beside the store, or nothing of *messages*."""

    user: UserId = UserId("")
    messages: tuple[MessageId, ...] = ()


class Gather(msgspec.Struct, frozen=True, tag=True):
    """Asked by a worker: the figures of all; asked of a worker: its own."""


class Gathered(msgspec.Struct, frozen=True, tag=True):
    """The answer to that."""

    figures: tuple[Figures, ...]


class Done(msgspec.Struct, frozen=True, tag=True):
    """The answer: it was done."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The answer: it was not done, or not all of it."""

    reason: str


Message = (
    Welcome
    | StoreState
    | Healed
    | Hold
    | LetGo
    | Suspected
    | Asked
    | Beat
    | Entered
    | LookAtLedger
    | Forget
    | Gather
    | Gathered
    | Done
    | Failed
)


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """``asks``: the number under which the answer is waited for; ``answers``: whose this is."""

    body: Message
    asks: int = 0
    answers: int = 0
