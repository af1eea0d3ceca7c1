"""What workers keep of users, as the one who erases sees it: one more place that keeps words."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from chat_server.crew import Crew
from chat_server.worker_messages import Forget
from memory.data_folder import hold_slot
from memory.errors import LineBroken
from memory.journal import forget_messages_offline, forget_offline
from memory.journal_folders import journal_folder
from memory.messages import MessageId, UserId

FORGOTTEN_S: Final = 20.0
"""A worker waits for its disk, and for the writes that are under way."""


class CrewKeepsake:
    """The workers of *crew* and, where one is not there, what it left in *data_dir*."""

    def __init__(self, crew: Crew, data_dir: Path) -> None:
        self._crew = crew
        self._data_dir = data_dir

    async def forget_user(self, user: UserId) -> None:
        """No worker keeps anything of *user*'s when this returns, nor writes it later.

        Raises:
            LineBroken, DataFolderInUse, JournalFailed: one may; again is safe.
        """
        await self._forget(Forget(user))

    async def forget_messages(self, ids: Collection[MessageId]) -> None:
        """As :meth:`forget_user`, for messages; raises as that."""
        await self._forget(Forget(messages=tuple(ids)))

    async def _forget(self, what: Forget) -> None:
        asked = {member.slot for member in self._crew.members if member.connected is not None}
        answers = await self._crew.ask_all(what, FORGOTTEN_S)
        for slot in range(len(self._crew.members)):
            answer = answers.get(slot)
            if isinstance(answer, LineBroken):
                raise answer
            if answer is None:
                if slot in asked:
                    raise LineBroken(f"worker {slot} has just ended")
                await anyio.to_thread.run_sync(self._forget_for, slot, what)

    def _forget_for(self, slot: int, what: Forget) -> None:
        """In the place of a worker that is not there, and does not begin meanwhile."""
        folder = journal_folder(self._data_dir, slot)
        with hold_slot(self._data_dir, slot, ending_s=0.0):
            if folder.is_dir() and what.messages:
                forget_messages_offline(folder, what.messages)
            elif folder.is_dir():
                forget_offline(folder, what.user)
