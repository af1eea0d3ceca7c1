"""Reading a user's messages page by page, the next page while the last one is being used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from memory.errors import StoreError
from memory.long_term import StoredPage

ReadPage = Callable[[str | None], Awaitable[StoredPage]]
"""Reads the page before a cursor (``None``: the newest); raises ``StoreError``."""


class ReadAhead:
    """One page at a time, read in *tasks*: cancelling those ends it."""

    def __init__(self, read: ReadPage, tasks: TaskGroup) -> None:
        self._read = read
        self._tasks = tasks
        self._began = False
        self._page: StoredPage | StoreError | None = None
        self._came = anyio.Event()

    def begin(self, before: str | None) -> None:
        """Have the page before the cursor read, which is the next to be asked for."""
        self._began, self._page, self._came = True, None, anyio.Event()
        self._tasks.start_soon(self._run, before)

    async def page(self, before: str | None) -> StoredPage | StoreError:
        """The page before the cursor, or why it could not be read: raised from within a task
        group, that would come out wrapped.
        """
        if not self._began:
            self.begin(before)
        while self._page is None:
            await self._came.wait()
        self._began = False
        return self._page

    async def _run(self, before: str | None) -> None:
        try:
            self._page = await self._read(before)
        except StoreError as error:
            self._page = error
        self._came.set()
