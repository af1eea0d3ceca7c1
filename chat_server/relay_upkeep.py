"""What keeps a process's share of events whole: gaps are filled, presence is renewed, and what was
told alone is read anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import anyio
import structlog

from chat_server.courier import Courier
from chat_server.letters import BegunAnew, Here
from chat_server.user_stream import UserStream
from memory.errors import ShortTermUnavailable
from memory.live.broker import PRESENCE_S, Broker, Position
from memory.messages import UserId

log = structlog.get_logger(__name__)

STAY_AT_ONCE: Final = 500
RETRY_S: Final = 0.3


@contextmanager
def _taken(users: set[UserId]) -> Iterator[UserId]:
    """One of *users*, taken out before anything is done for it, so that what is noted meanwhile is
    not lost; it is put back when that fails.
    """
    user = users.pop()
    try:
        yield user
    except ShortTermUnavailable:
        users.add(user)
        raise


class RelayUpkeep:
    """Sees to *streams*; each method but :meth:`run` only notes what is to be done."""

    def __init__(
        self,
        broker: Broker,
        courier: Courier,
        streams: dict[UserId, UserStream],
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        self._broker = broker
        self._courier = courier
        self._streams = streams
        self._retry_s = retry_s
        self._leaving: set[UserId] = set()
        self._gaps: set[UserId] = set()
        self._alone: set[UserId] = set()
        self._stale: set[UserId] = set()
        self._forgetting: set[UserId] = set()
        self._all = False
        self._wanted = anyio.Event()

    def fill(self, user: UserId) -> None:
        """An event of *user* is missing."""
        self._gaps.add(user)
        self._wanted.set()

    def was_alone(self, user: UserId) -> None:
        """An event of *user* was told here only: all of the user's clients have to read anew."""
        self._alone.add(user)
        self._wanted.set()

    def is_stale(self, user: UserId) -> None:
        """*user*'s events are numbered anew."""
        if user in self._streams:
            self._stale.add(user)
            self._wanted.set()

    def forget(self, user: UserId) -> None:
        """What was sent to *user* is not to be kept: some of it is erased."""
        self._forgetting.add(user)
        self._wanted.set()

    def leave(self, user: UserId) -> None:
        """Nothing of *user* is wanted here any more."""
        self._leaving.add(user)
        self._wanted.set()

    def compare_all(self) -> None:
        """Anything may have been missed."""
        self._all = True
        self._wanted.set()

    async def run(self) -> None:
        """Do it all, until cancelled; while the broker is away, later."""
        while True:
            with anyio.move_on_after(PRESENCE_S / 3) as rest:
                await self._wanted.wait()
            self._wanted = anyio.Event()
            try:
                await self._begin_anew()
                await self._fill_gaps()
                await self._leave_all()
                if self._all or rest.cancelled_caught:
                    self._all = False
                    await self._stay()
            except ShortTermUnavailable as fault:
                log.info("events.upkeep_waits", reason=str(fault))
                self._all = True
                await anyio.sleep(self._retry_s)
                self._wanted.set()

    async def _begin_anew(self) -> None:
        while self._forgetting:
            with _taken(self._forgetting) as user:
                await self._broker.begin_anew(user, numbering=False)
        while self._alone:
            with _taken(self._alone) as user:
                await self._broker.begin_anew(user)
            self._courier.post(None, BegunAnew(user=user))
            self._stale.add(user)
        stale = [user for user in self._stale if user in self._streams]
        self._stale.clear()
        if stale:
            await self._stay_with(stale)

    async def _fill_gaps(self) -> None:
        while self._gaps:
            with _taken(self._gaps) as user:
                stream = self._streams.get(user)
                if stream is not None and stream.has_gap:
                    await self._fill(user, stream)

    async def _fill(self, user: UserId, stream: UserStream) -> None:
        """Read what did not arrive; where it is gone, clients begin anew."""
        position = stream.position
        events = await self._broker.since(user, position)
        if stream.epoch != position.epoch:
            return
        if events is None:
            (now,) = await self._broker.stay([user])
            if now != stream.position:
                stream.follow(now)
            return
        for seq, payload in events:
            stream.arrive(Position(position.epoch, seq), payload)

    async def _leave_all(self) -> None:
        while self._leaving:
            with _taken(self._leaving) as user:
                if user not in self._streams:
                    await self._broker.leave(user)
            if user in self._streams:  # back meanwhile
                await self._stay_with([user])

    async def _stay(self) -> None:
        users = list(self._streams)
        for begin in range(0, len(users), STAY_AT_ONCE):
            await self._stay_with(users[begin : begin + STAY_AT_ONCE])

    async def _stay_with(self, users: Sequence[UserId]) -> None:
        positions = await self._broker.stay(users)
        for user, position in zip(users, positions, strict=True):
            stream = self._streams.get(user)
            if stream is None:
                self._leaving.add(user)
                continue
            stream.entered = True
            if stream.epoch != position.epoch:
                stream.follow(position)
                self._courier.post(None, Here(user=user))  # what knew of it is lost perhaps
            elif stream.log.seq < position.seq:
                await self._fill(user, stream)
