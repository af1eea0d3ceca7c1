"""The journal: what was shown of replies that are not stored yet, on local disk.

While replies are being made, what they have said since is written every ``CHECKPOINT_EVERY_S``,
in one write and one sync for all of them. A reply that the store will not take is kept whole
until it does. What is settled is dropped when the journal is written anew, which happens when it
has grown to twice what it must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio import CancelScope, CapacityLimiter, to_thread

from memory.errors import JournalFailed, one_line
from memory.journal_files import JournalFiles
from memory.journal_records import ReplyBegan, unsettled
from memory.messages import Message, MessageId, UserId
from memory.open_replies import Growing, OpenReplies

log = structlog.get_logger(__name__)

CHECKPOINT_EVERY_S: Final = 0.25
RETRY_S: Final = 1.0
"""A disk that failed is tried again so often."""
KEEP_WITHIN_S: Final = 5.0
REWRITE_FROM_BYTES: Final = 4_000_000
EMPTY_FROM_BYTES: Final = 256_000
"""A segment of which nothing is needed any more is removed from this size on."""


class _Written:
    """Whether the next write succeeds, for whoever waits for it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.fault: OSError | None = None


class Journal:
    """Follows replies, keeps what is not stored, and says at the next start what was left.

    One task, :meth:`run`, does all writing, in a thread. A disk that is full or fails stops
    nothing: it is logged, *on_failure* is called, and all is written anew once it can be.
    """

    def __init__(
        self, files: JournalFiles, *, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._files = files
        self._on_failure = on_failure
        self._replies = OpenReplies()
        self._waiting: list[_Written] = []
        self._wanted = anyio.Event()
        self._at_once = anyio.Event()
        self._is_running = False
        self._is_failing = False
        self._must_rewrite = False
        self._rewrite_from_bytes = REWRITE_FROM_BYTES

    @classmethod
    def open(cls, folder: Path, *, on_failure: Callable[[], None] = lambda: None) -> Journal:
        """Read what the last process left in *folder*; blocks. A disk that fails is logged, and
        what could not be read stays for the next process.
        """
        journal = cls(JournalFiles(folder), on_failure=on_failure)
        records = journal._files.read()
        if journal._files.unread:
            on_failure()
        for left in unsettled(records).values():
            message = left.as_message()
            if message is not None and not journal._replies.keep(message):
                log.error("journal.full", unsettled=len(journal._replies))
        journal._must_rewrite = bool(records)
        journal._wanted.set()
        return journal

    @property
    def kept(self) -> tuple[Message, ...]:
        """The replies that ended and are not settled, in the order in which they began.

        Before :meth:`run` that is what the last process left: what had not ended then is
        ``interrupted``. Where they stand in their conversations is to be found anew. One may be
        stored all the same, if the process ended before it could note that.
        """
        return self._replies.kept

    def follow(self, began: ReplyBegan, source: Growing) -> None:
        """Checkpoint *source* from now on, until it is kept or settled. Returns at once."""
        if self._replies.follow(began, source):
            self._wanted.set()
        else:
            log.warning("journal.full", unsettled=len(self._replies))

    async def keep(self, message: Message) -> bool:
        """Keep a reply that has ended and is not stored; whether it is on disk now.

        Waits for the disk, for at most ``KEEP_WITHIN_S``. ``False``: the disk failed or is too
        slow, and it will be there with the next write that succeeds; or the journal is full.
        """
        if not self._replies.keep(message):
            log.error("journal.full", unsettled=len(self._replies))
            return False
        with anyio.move_on_after(KEEP_WITHIN_S):
            return await self._write_soon() is None
        log.warning("journal.slow", waited_s=KEEP_WITHIN_S)
        return False

    def settle(self, reply: MessageId) -> None:
        """*reply* is stored, or never will be: keep no more of it. Returns at once."""
        if self._replies.settle(reply):
            self._wanted.set()

    async def forget_user(self, user: UserId) -> None:
        """Write the journal anew without anything of *user*'s, stored or not.

        What is followed or kept of it is dropped at once. Idempotent; cancelling leaves the
        journal to be written all the same.

        Raises:
            JournalFailed: something of it may be left on disk.
        """
        self._replies.forget(user)
        await self._rewrite()

    async def forget_messages(self, ids: Collection[MessageId]) -> None:
        """As :meth:`forget_user`, for the replies *ids*.

        Raises:
            JournalFailed: as there.
        """
        self._replies.forget_messages(ids)
        await self._rewrite()

    async def run(self) -> None:
        """Write what is to be written, until cancelled; then all that must stay, once more."""
        limiter = CapacityLimiter(1)
        self._is_running = True
        try:
            while True:
                if not self._replies.growing and not self._is_failing:
                    await self._wanted.wait()
                with anyio.move_on_after(RETRY_S if self._is_failing else CHECKPOINT_EVERY_S):
                    await self._at_once.wait()
                self._wanted, self._at_once = anyio.Event(), anyio.Event()
                await self._write(limiter)
        finally:
            self._is_running = False
            self._must_rewrite = True
            with CancelScope(shield=True):  # as long as the disk takes
                await self._write(limiter)
            self._files.close()

    async def _rewrite(self) -> None:
        self._must_rewrite = True
        fault = await self._write_soon()
        if fault is not None:
            raise JournalFailed(one_line(fault)) from fault
        _check_all_was_read(self._files)

    async def _write_soon(self) -> OSError | None:
        """Have everything written now; the fault if that failed."""
        if not self._is_running:
            return OSError("the journal is not open")
        written = _Written()
        self._waiting.append(written)
        self._wanted.set()
        self._at_once.set()
        await written.done.wait()
        return written.fault

    async def _write(self, limiter: CapacityLimiter) -> None:
        """Write what is new, or everything, in a thread; a disk that fails is noted."""
        waiting, self._waiting = self._waiting, []
        fault: OSError | None = OSError("the journal was closed meanwhile")
        try:
            write = self._next_write()
            if write is not None:
                await to_thread.run_sync(write, limiter=limiter)
                self._note_success()
            fault = None
        except OSError as failure:
            fault = failure
            self._note_failure(failure)
        finally:
            for each in waiting:
                each.fault = fault
                each.done.set()

    def _next_write(self) -> Callable[[], None] | None:
        """What the thread has to do; ``None``: nothing is new."""
        size_bytes = self._files.size_bytes
        is_needless = not self._replies and size_bytes > EMPTY_FROM_BYTES
        if self._must_rewrite or is_needless or size_bytes > self._rewrite_from_bytes:
            self._must_rewrite = False
            data = self._replies.everything()
            self._rewrite_from_bytes = max(REWRITE_FROM_BYTES, 2 * len(data))
            return partial(self._files.replace, data)
        data, must_sync = self._replies.changes()
        return partial(self._files.append, data, sync=must_sync) if data else None

    def _note_success(self) -> None:
        if self._is_failing:
            self._is_failing = False
            log.info("journal.recovered", unsettled=len(self._replies))

    def _note_failure(self, fault: OSError) -> None:
        """What is on disk is not known any more: all is written anew."""
        self._is_failing = self._must_rewrite = True
        log.error("journal.failed", reason=one_line(fault), unsettled=len(self._replies))
        self._on_failure()


def forget_offline(folder: Path, user: UserId) -> int:
    """As :meth:`Journal.forget_user`, while nobody uses the journal in *folder*; blocks. How many
    messages there were that had not come into the store yet.

    Raises:
        JournalFailed: something of it may be left on disk.
    """
    return _take_out_offline(folder, lambda message: message.user == user)


def forget_messages_offline(folder: Path, ids: Collection[MessageId]) -> int:
    """As :meth:`Journal.forget_messages`, likewise; raises as :func:`forget_offline`."""
    return _take_out_offline(folder, lambda message: message.id in ids)


def _take_out_offline(folder: Path, gone: Callable[[Message], bool]) -> int:
    files, replies = JournalFiles(folder), OpenReplies()
    forgotten = 0
    try:
        for left in unsettled(files.read()).values():
            message = left.as_message()
            if message is not None and not gone(message):
                replies.keep(message)
            elif message is not None:
                forgotten += 1
        files.replace(replies.everything())
    except OSError as fault:
        raise JournalFailed(one_line(fault)) from fault
    finally:
        files.close()
    _check_all_was_read(files)
    return forgotten


def _check_all_was_read(files: JournalFiles) -> None:
    """Raises ``JournalFailed``: what could not be read may be of anybody."""
    if unread := files.unread:
        raise JournalFailed(
            f"{unread[0]} could not be read: what it holds may be of anybody. Mend it and start "
            "again, or remove it"
        )
