"""Group commit: what waits is written together.

A write costs the store the same few milliseconds whether it holds one record or a hundred, and
all writes are serialised there. So while one batch is being written the next one gathers, and
nobody waits for company that is not coming. What comes in bulk gives way to what comes singly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Final, Generic, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from memory.errors import StoreBusy, StoreError, StoreRefused, StoreUnavailable, StoreUnknown

log = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

Write = Callable[[Key, Sequence[Item]], Awaitable[Sequence[Outcome | StoreError]]]
"""Writes one batch; an outcome for each item, in order. A ``StoreError`` that it raises stands
for the whole batch. It ends by itself in bounded time."""


CROWD_WITHIN_S: Final = 0.1
"""Somebody was written so short a time ago: others come, and are worth waiting for."""
MAX_KEYS_NOTED: Final = 1_000


class _Waiting(Generic[Item, Outcome]):
    """One item, from the moment it is submitted until its outcome is known."""

    __slots__ = ("bulk", "done", "item", "outcome")

    def __init__(self, item: Item, *, bulk: bool = False) -> None:
        self.item = item
        self.bulk = bulk
        self.done = anyio.Event()
        self.outcome: Outcome | StoreError | None = None


class _Queue(Generic[Item, Outcome]):
    """What waits for one key: ``bulk`` only moves while nothing is ``urgent``."""

    __slots__ = ("arrived", "bulk", "patient", "urgent")

    def __init__(self) -> None:
        self.urgent: deque[_Waiting[Item, Outcome]] = deque()
        self.patient: deque[tuple[float, _Waiting[Item, Outcome]]] = deque()
        """Each with the time until which it may wait for company."""
        self.bulk: deque[_Waiting[Item, Outcome]] = deque()
        self.arrived = anyio.Event()

    def is_due(self) -> bool:
        """Whether something is to be written now, other than in bulk."""
        return bool(self.urgent) or (
            bool(self.patient) and anyio.current_time() >= self.patient[0][0]
        )


class GroupCommit(Generic[Key, Item, Outcome]):
    """Queues items by key (a collection) and writes them in batches, in order.

    One committer a key, for as long as something waits for it, owned by :meth:`run`. A batch may
    hold items with equal ids; what that means is known to *write*. After a batch of more than one
    the committer waits *linger_s* for the next ones of the crowd; a lone item never waits.
    Items in bulk are written while no single one waits, *bulk_batch* at a time: a single item waits
    for one such batch at most. Patient items wait for company while there is a crowd. *on_batch* is
    told the size of each batch before it is written.
    """

    def __init__(
        self,
        write: Write[Key, Item, Outcome],
        *,
        max_batch: int = 100,
        max_waiting: int = 2_000,
        bulk_batch: int = 20,
        linger_s: float = 0.002,
        on_batch: Callable[[int], None] = lambda _items: None,
    ) -> None:
        self._write = write
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._bulk_batch = bulk_batch
        self._linger_s = linger_s
        self._on_batch = on_batch
        self._queues: dict[Key, _Queue[Item, Outcome]] = {}
        self._waiting = 0
        self._bulk_waiting = 0
        self._tasks: TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._written_at: dict[Key, float] = {}
        self.healthy = True
        """Whether the store took the last batch; ``True`` before the first."""

    @property
    def waiting(self) -> int:
        """Items whose outcome is not known yet."""
        return self._waiting + self._bulk_waiting

    async def run(
        self, *, drain_s: float = 10.0, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what is submitted, until cancelled.

        Then what waits still is written, for at most *drain_s*.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None
                for scope in self._scopes:
                    scope.deadline = anyio.current_time() + drain_s

    async def submit(self, key: Key, item: Item, *, patience_s: float = 0.0) -> Outcome:
        """Write *item* and return its outcome.

        While others are being written, it waits up to *patience_s* for one without patience, to
        share its batch. Cancelling leaves *item* in its batch: it is written all the same.

        Raises:
            StoreBusy: too much is waiting.
            StoreUnavailable: :meth:`run` is not running.
            StoreError: what *write* says.
        """
        queue = self._queue(key)
        if self._waiting >= self._max_waiting:
            raise StoreBusy(f"{self._waiting} records are waiting to be written")
        waiting: _Waiting[Item, Outcome] = _Waiting(item)
        now = anyio.current_time()
        if patience_s and now - self._written_at.get(key, -CROWD_WITHIN_S) < CROWD_WITHIN_S:
            queue.patient.append((now + patience_s, waiting))
        else:
            queue.urgent.append(waiting)
        queue.arrived.set()
        self._waiting += 1
        await waiting.done.wait()
        if isinstance(waiting.outcome, StoreError):
            raise waiting.outcome
        return waiting.outcome  # type: ignore[return-value]  # settled: no longer None

    async def submit_many(self, key: Key, items: Sequence[Item]) -> list[Outcome | StoreError]:
        """Write *items* in order, after all that is submitted singly; the outcome of each.

        As long as single items come faster than they are written, these wait. Cancelling leaves
        them to be written all the same.

        Raises:
            StoreBusy: too much is waiting in bulk; nothing of it was taken.
            StoreUnavailable: :meth:`run` is not running.
        """
        queue = self._queue(key)
        if self._bulk_waiting + len(items) > self._max_waiting:
            raise StoreBusy(f"{self._bulk_waiting} records are waiting to be written in bulk")
        waiting: list[_Waiting[Item, Outcome]] = [_Waiting(item, bulk=True) for item in items]
        queue.bulk.extend(waiting)
        queue.arrived.set()
        self._bulk_waiting += len(waiting)
        for each in waiting:
            await each.done.wait()
        return [each.outcome for each in waiting]  # type: ignore[misc]  # settled: no longer None

    def _queue(self, key: Key) -> _Queue[Item, Outcome]:
        """What waits for *key*, with a committer that looks at it after the next ``await``."""
        if self._tasks is None:
            raise StoreUnavailable("long-term memory is not open for writing")
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
            self._tasks.start_soon(self._commit_all, key, queue)
        return queue

    async def _commit_all(self, key: Key, queue: _Queue[Item, Outcome]) -> None:
        """Write batches until nothing waits for *key*.

        Shielded: only the deadline that the end of :meth:`run` sets cuts it short.
        """
        batch: list[_Waiting[Item, Outcome]] = []
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                while queue.urgent or queue.patient or queue.bulk:
                    if not queue.is_due() and not queue.bulk:
                        await self._wait_for_company(queue)
                        continue
                    crowd = len(batch) > 1 and not batch[0].bulk
                    if crowd and len(queue.urgent) < self._max_batch:
                        await anyio.sleep(self._linger_s)
                    batch = self._next(queue)
                    self._on_batch(len(batch))
                    await self._commit(key, batch)
                    self._note_written(key)
            finally:
                self._scopes.discard(scope)
                del self._queues[key]
                # Nothing is left of them, unless the writing was cut short or failed unforeseen.
                self._settle(batch, StoreUnknown("the write was cut short"))
                closing = StoreUnavailable("long-term memory is closing")
                patient = [waiting for _, waiting in queue.patient]
                self._settle([*queue.urgent, *patient, *queue.bulk], closing)

    def _note_written(self, key: Key) -> None:
        if len(self._written_at) >= MAX_KEYS_NOTED:
            self._written_at.clear()  # patience begins anew for all of them
        self._written_at[key] = anyio.current_time()

    def _next(self, queue: _Queue[Item, Outcome]) -> list[_Waiting[Item, Outcome]]:
        """Take the next batch off *queue*; bulk never rides with single items, whom it slows."""
        if not queue.is_due():
            return [queue.bulk.popleft() for _ in range(min(len(queue.bulk), self._bulk_batch))]
        batch = [queue.urgent.popleft() for _ in range(min(len(queue.urgent), self._max_batch))]
        room = min(len(queue.patient), self._max_batch - len(batch))
        return batch + [queue.patient.popleft()[1] for _ in range(room)]

    @staticmethod
    async def _wait_for_company(queue: _Queue[Item, Outcome]) -> None:
        """Wait until the first patient item's time is over, or something else comes."""
        queue.arrived = anyio.Event()
        with anyio.move_on_at(queue.patient[0][0]):
            await queue.arrived.wait()

    async def _commit(self, key: Key, batch: Sequence[_Waiting[Item, Outcome]]) -> None:
        try:
            outcomes = await self._write(key, [waiting.item for waiting in batch])
        except StoreRefused as error:
            await self._halve(key, batch, error)
        except StoreError as error:
            self.healthy = False
            self._settle(batch, error)
        else:
            self.healthy = not any(
                isinstance(outcome, StoreUnavailable | StoreUnknown) for outcome in outcomes
            )
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._settle([waiting], outcome)

    async def _halve(
        self, key: Key, batch: Sequence[_Waiting[Item, Outcome]], error: StoreRefused
    ) -> None:
        """Find the item that the store will not take, so that the others are written."""
        if len(batch) == 1:
            # The store is well; this one is what it does not want.
            self.healthy = True
            self._settle(batch, error)
            return
        log.warning("batch.refused", records=len(batch))
        middle = len(batch) // 2
        await self._commit(key, batch[:middle])
        await self._commit(key, batch[middle:])

    def _settle(
        self, batch: Iterable[_Waiting[Item, Outcome]], outcome: Outcome | StoreError
    ) -> None:
        for waiting in batch:
            if not waiting.done.is_set():
                waiting.outcome = outcome
                waiting.done.set()
                if waiting.bulk:
                    self._bulk_waiting -= 1
                else:
                    self._waiting -= 1
