"""What waits to be written together: urgent or in bulk, senders in rotation, and how much may."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

import anyio

from memory.errors import StoreBusy, StoreError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Waiting(Generic[Item, Outcome]):
    """One item of *sender*, from the moment it is submitted until its outcome is known."""

    __slots__ = ("bulk", "done", "item", "outcome", "sender")

    def __init__(self, item: Item, sender: Hashable, *, bulk: bool = False) -> None:
        self.item = item
        self.sender = sender
        self.bulk = bulk
        self.done = anyio.Event()
        self.outcome: Outcome | StoreError | None = None


class RoundRobin(Generic[Item, Outcome]):
    """Items handed out one of each sender in turn; those of one sender in their order.

    However much one sender has waiting, the first item of another is among the next *n* that
    are taken, *n* being the number of senders.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[Waiting[Item, Outcome]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, waiting: Waiting[Item, Outcome]) -> None:
        """Put *waiting* behind what its sender has here, a new sender behind all others."""
        line = self._lines.get(waiting.sender)
        if line is None:
            line = self._lines[waiting.sender] = deque()
        line.append(waiting)
        self._count += 1

    def take(self, at_most: int) -> list[Waiting[Item, Outcome]]:
        """Remove the next ones."""
        taken: list[Waiting[Item, Outcome]] = []
        while self._lines and len(taken) < at_most:
            sender, line = next(iter(self._lines.items()))
            taken.append(line.popleft())
            if line:
                self._lines.move_to_end(sender)
            else:
                del self._lines[sender]
        self._count -= len(taken)
        return taken


class CommitQueue(Generic[Item, Outcome]):
    """What waits for one key: ``bulk`` only moves while nothing is ``urgent``."""

    def __init__(self) -> None:
        self.urgent: RoundRobin[Item, Outcome] = RoundRobin()
        self.bulk: RoundRobin[Item, Outcome] = RoundRobin()
        self._patient: deque[tuple[float, Waiting[Item, Outcome]]] = deque()
        """Each with the time until which it waits for company, which ascends."""
        self._arrived = anyio.Event()

    def __len__(self) -> int:
        return len(self.urgent) + len(self._patient) + len(self.bulk)

    def push(self, waiting: Waiting[Item, Outcome], *, patient_until: float | None = None) -> None:
        """Take *waiting* in; with *patient_until* it waits so long for company."""
        if patient_until is not None:
            self._patient.append((patient_until, waiting))
        else:
            (self.bulk if waiting.bulk else self.urgent).push(waiting)
        self._arrived.set()

    @property
    def has_patient(self) -> bool:
        """Whether something waits for company."""
        return bool(self._patient)

    def is_due(self) -> bool:
        """Whether something is to be written now, other than in bulk."""
        return bool(self.urgent) or (
            bool(self._patient) and anyio.current_time() >= self._patient[0][0]
        )

    async def wait_due(self) -> None:
        """Wait until the first patient item's time is over, or something else comes."""
        self._arrived = anyio.Event()
        with anyio.move_on_at(self._patient[0][0]):
            await self._arrived.wait()

    async def wait_lull(self, lull_s: float, at_most_s: float) -> None:
        """Wait while others come: until none has for *lull_s*, for at most *at_most_s*."""
        with anyio.move_on_after(at_most_s):
            present = -1
            while present != len(self):
                present = len(self)
                await anyio.sleep(lull_s)

    def next_batch(self, most: int, most_bulk: int) -> list[Waiting[Item, Outcome]]:
        """Remove what is written next; bulk never rides with single items, whom it slows.

        Patient items whose time is over are urgent; the others fill what room there is.
        """
        now = anyio.current_time()
        while self._patient and now >= self._patient[0][0]:
            self.urgent.push(self._patient.popleft()[1])
        if not self.urgent:
            return self.bulk.take(most_bulk)
        batch = self.urgent.take(most)
        room = min(len(self._patient), most - len(batch))
        return batch + [self._patient.popleft()[1] for _ in range(room)]

    def take_all(self) -> list[Waiting[Item, Outcome]]:
        """Remove everything."""
        patient = [waiting for _, waiting in self._patient]
        self._patient.clear()
        return [*self.urgent.take(len(self.urgent)), *patient, *self.bulk.take(len(self.bulk))]


class Backlog:
    """How much waits: at most *most* in sum, and *most_each* of one sender."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._held: dict[Hashable, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, sender: Hashable, items: int = 1) -> None:
        """Count *items* of *sender* in. More than its share is let in where it has nothing yet.

        Raises:
            StoreBusy: too much is waiting; nothing was counted.
        """
        held = self._held.get(sender, 0)
        if self._count + items > self._most:
            raise StoreBusy(f"{self._count} records are waiting to be written")
        if held and held + items > self._most_each:
            raise StoreBusy(f"{held} records of one user are waiting to be written")
        if items:
            self._held[sender] = held + items
            self._count += items

    def release(self, sender: Hashable) -> None:
        """Count one item of *sender* out."""
        self._count -= 1
        self._held[sender] -= 1
        if not self._held[sender]:
            del self._held[sender]
