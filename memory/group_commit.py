"""Group commit: what waits is written together.

A write costs the store the same few milliseconds whether it holds one record or a hundred, and
all writes are serialised there. So while one batch is being written the next one gathers, and
nobody waits for company that is not coming. What comes in bulk gives way to what comes singly,
and nobody's thousand records delay another's one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from memory.commit_queue import Backlog, CommitQueue, Waiting
from memory.errors import StoreError, StoreRefused, StoreUnavailable, StoreUnknown

log = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

Write = Callable[[Key, Sequence[Item]], Awaitable[Sequence[Outcome | StoreError]]]
"""Writes one batch; an outcome for each item, in order. A ``StoreError`` that it raises stands
for the whole batch. It ends by itself in bounded time."""

Gate = Callable[[], Awaitable[None]]
"""Returns once a batch may be written; awaited before each."""

CROWD_WITHIN_S: Final = 0.1
"""Somebody was written so short a time ago: others come, and are worth waiting for."""
MAX_KEYS_NOTED: Final = 1_000


async def always_open() -> None:
    """The gate of a store that is never held."""


@dataclass(frozen=True, kw_only=True)
class CommitPolicy:
    """Numbers of a group commit (decision 0009).

    A batch holds ``max_batch`` single items or ``bulk_batch`` in bulk. ``max_waiting`` may wait,
    and as many again in bulk, ``max_waiting_each`` of one sender. After a batch of more than one
    the next ones of the crowd are waited for, until none came for ``lull_s`` and for at most
    ``linger_s``.
    """

    max_batch: int = 100
    bulk_batch: int = 20
    max_waiting: int = 2_000
    max_waiting_each: int = 500
    lull_s: float = 0.001
    linger_s: float = 0.005


DEFAULT_POLICY: Final = CommitPolicy()


class GroupCommit(Generic[Key, Item, Outcome]):
    """Queues items by key (a collection) and writes them in batches.

    One committer a key, for as long as something waits for it, owned by :meth:`run`. Each sender
    has its turn in a batch, and one sender's items of a kind are written in their order; the
    sender of an item is what *sender_of* says, otherwise each item is a sender of its own.
    A batch may hold items with equal ids; what that means is known to *write*. A lone item never
    waits for company. Items in bulk are written while no single one waits: a single item waits
    for one such batch at most. While *gate* does not return nothing is written: what waits
    stays, and fails only for lack of room. *on_batch* is told the size of each batch before it
    is written.
    """

    def __init__(
        self,
        write: Write[Key, Item, Outcome],
        *,
        sender_of: Callable[[Item], Hashable] = id,
        policy: CommitPolicy = DEFAULT_POLICY,
        gate: Gate = always_open,
        on_batch: Callable[[int], None] = lambda _items: None,
    ) -> None:
        self._write = write
        self._sender_of = sender_of
        self._policy = policy
        self._gate = gate
        self._on_batch = on_batch
        self._queues: dict[Key, CommitQueue[Item, Outcome]] = {}
        self._backlog = Backlog(policy.max_waiting, policy.max_waiting_each)
        self._bulk_backlog = Backlog(policy.max_waiting, policy.max_waiting_each)
        self._tasks: TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._closes_at = math.inf
        self._written_at: dict[Key, float] = {}
        self.healthy = True
        """Whether the store took the last batch; ``True`` before the first."""

    @property
    def waiting(self) -> int:
        """Items whose outcome is not known yet."""
        return len(self._backlog) + len(self._bulk_backlog)

    async def run(
        self, *, drain_s: float = 10.0, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what is submitted, until cancelled.

        Then what waits still is written, for at most *drain_s*.
        """
        self._closes_at = math.inf
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None
                self._closes_at = anyio.current_time() + drain_s
                for scope in self._scopes:
                    scope.deadline = self._closes_at

    async def submit(self, key: Key, item: Item, *, patience_s: float = 0.0) -> Outcome:
        """Write *item* and return its outcome.

        While others are being written, it waits up to *patience_s* (the same for all that have
        any) for one without patience, to share its batch. Cancelling leaves *item* in its batch:
        it is written all the same.

        Raises:
            StoreBusy: too much is waiting, of all or of this sender; nothing was taken.
            StoreUnavailable: :meth:`run` is not running.
            StoreError: what *write* says.
        """
        queue = self._queue(key)
        waiting: Waiting[Item, Outcome] = Waiting(item, self._sender_of(item))
        self._backlog.admit(waiting.sender)
        now = anyio.current_time()
        crowd = now - self._written_at.get(key, -CROWD_WITHIN_S) < CROWD_WITHIN_S
        patient = patience_s > 0 and (crowd or queue.has_patient)  # none overtakes another
        queue.push(waiting, patient_until=now + patience_s if patient else None)
        await waiting.done.wait()
        if isinstance(waiting.outcome, StoreError):
            raise waiting.outcome
        return waiting.outcome  # type: ignore[return-value]  # settled: no longer None

    async def submit_many(self, key: Key, items: Sequence[Item]) -> list[Outcome | StoreError]:
        """Write *items* of one sender in order, after all that is submitted singly; the outcome
        of each.

        As long as single items come faster than they are written, these wait. Cancelling leaves
        them to be written all the same.

        Raises:
            StoreBusy: too much is waiting in bulk; nothing of it was taken.
            StoreUnavailable: :meth:`run` is not running.
        """
        queue = self._queue(key)
        if not items:
            return []
        sender = self._sender_of(items[0])
        self._bulk_backlog.admit(sender, len(items))
        waiting: list[Waiting[Item, Outcome]] = [Waiting(item, sender, bulk=True) for item in items]
        for each in waiting:
            queue.push(each)
        for each in waiting:
            await each.done.wait()
        return [each.outcome for each in waiting]  # type: ignore[misc]  # settled: no longer None

    def _queue(self, key: Key) -> CommitQueue[Item, Outcome]:
        """What waits for *key*, with a committer that looks at it after the next ``await``."""
        if self._tasks is None:
            raise StoreUnavailable("long-term memory is not open for writing")
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = CommitQueue()
            self._tasks.start_soon(self._commit_all, key, queue)
        return queue

    async def _commit_all(self, key: Key, queue: CommitQueue[Item, Outcome]) -> None:
        """Write batches until nothing waits for *key*.

        Shielded: only the deadline that the end of :meth:`run` sets cuts it short.
        """
        batch: list[Waiting[Item, Outcome]] = []
        with anyio.CancelScope(shield=True, deadline=self._closes_at) as scope:
            self._scopes.add(scope)
            try:
                while queue:
                    if not queue.is_due() and not queue.bulk:
                        await queue.wait_due()
                        continue
                    crowd = len(batch) > 1 and not batch[0].bulk
                    if crowd and len(queue.urgent) < self._policy.max_batch:
                        await queue.wait_lull(self._policy.lull_s, self._policy.linger_s)
                    await self._gate()
                    batch = queue.next_batch(self._policy.max_batch, self._policy.bulk_batch)
                    self._on_batch(len(batch))
                    await self._commit(key, batch)
                    self._note_written(key)
            finally:
                self._scopes.discard(scope)
                del self._queues[key]
                # Nothing is left of them, unless the writing was cut short or failed unforeseen.
                self._settle(batch, StoreUnknown("the write was cut short"))
                closing = StoreUnavailable("long-term memory is closing")
                self._settle(queue.take_all(), closing)

    def _note_written(self, key: Key) -> None:
        if len(self._written_at) >= MAX_KEYS_NOTED:
            self._written_at.clear()  # patience begins anew for all of them
        self._written_at[key] = anyio.current_time()

    async def _commit(self, key: Key, batch: Sequence[Waiting[Item, Outcome]]) -> None:
        try:
            outcomes = await self._write(key, [waiting.item for waiting in batch])
        except StoreRefused as error:
            await self._halve(key, batch, error)
        except StoreError as error:
            self.healthy = False
            self._settle(batch, error)
        except Exception:
            # The boundary of one batch: a fault of ours ends it, and not the store of all.
            log.exception("batch.failed", records=len(batch))
            await self._halve(key, batch, StoreUnknown("the write failed unforeseen"))
        else:
            self.healthy = not any(
                isinstance(outcome, StoreUnavailable | StoreUnknown) for outcome in outcomes
            )
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._settle([waiting], outcome)

    async def _halve(
        self, key: Key, batch: Sequence[Waiting[Item, Outcome]], error: StoreError
    ) -> None:
        """Find the item that cannot be written, so that the others are; what was written already is
        left as it is.
        """
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
        self, batch: Iterable[Waiting[Item, Outcome]], outcome: Outcome | StoreError
    ) -> None:
        for waiting in batch:
            if not waiting.done.is_set():
                waiting.outcome = outcome
                waiting.done.set()
                (self._bulk_backlog if waiting.bulk else self._backlog).release(waiting.sender)
