"""This process among the others: its signs of life, theirs, and what follows from their silence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from chat_server.courier import Courier
from memory.errors import ShortTermUnavailable
from memory.live.broker import DEAD_AFTER_S, Broker, Inheritance, NodeId

log = structlog.get_logger(__name__)

BEAT_EVERY_S: Final = 0.5
INTRODUCE_WITHIN_S: Final = 3.0
DOUBT_AFTER_S: Final = 1.5
"""Who has not beaten for so long may be taken for dead soon, or was: it asks before it writes."""


class Node:
    """Beats for this process, and sees to what dead ones leave.

    *on_inherited* is given what a process left that died; *on_taken_for_dead* is called when the
    others believed that of this one (it stood still, and they have taken over what it had);
    *on_broker_lost*, when what the broker held is gone.
    """

    def __init__(self, broker: Broker, courier: Courier) -> None:
        self._broker = broker
        self._courier = courier
        self._generation: str | None = None
        self._beaten_at = -DEAD_AFTER_S
        self._tried_at = -DOUBT_AFTER_S
        self._is_heard = True
        self._steady_since = math.inf
        """Since when no beat of this process failed or was late: only then is silence death. A
        broker that stood still makes everybody silent.
        """
        self._alive: frozenset[NodeId] = frozenset()
        self._seen: frozenset[NodeId] = frozenset()
        self._owed: set[NodeId] = set()
        self._beating = anyio.Lock()
        self.on_inherited: Callable[[Inheritance], None] = lambda _left: None
        self.on_died: Callable[[], None] = lambda: None
        """This process inherited from another: for whoever counts that."""
        self.on_taken_for_dead: Callable[[], None] = lambda: None
        self.on_broker_lost: Callable[[], None] = lambda: None

    @property
    def id(self) -> NodeId:
        return self._broker.node

    @property
    def others(self) -> frozenset[NodeId]:
        """The other processes that live; none are known while the broker is away."""
        return self._alive if time.monotonic() - self._beaten_at < DEAD_AFTER_S else frozenset()

    @property
    def stood_still(self) -> bool:
        """Whether this process has not even tried to beat for so long that the others may believe
        it dead.
        """
        return time.monotonic() - self._tried_at > DOUBT_AFTER_S

    async def assure(self) -> None:
        """Return once this process knows that the others believe it alive, or that nobody can say.

        For whoever is about to write as the one that sees to a conversation: a process that stood
        still finds out here that it does not any more.
        """
        now = time.monotonic()
        if now - self._beaten_at > DOUBT_AFTER_S and now - self._tried_at > BEAT_EVERY_S / 2:
            await self._beat()

    @property
    def is_blind(self) -> bool:
        """Whether it is not known who lives: the broker has not answered for a while."""
        return time.monotonic() - self._beaten_at > DEAD_AFTER_S

    async def introduce(self) -> None:
        """Return once all the others know of this process; or when nobody can be asked, after
        ``INTRODUCE_WITHIN_S``. Before that it must not see to anything: others would take that
        for the claim of somebody dead.
        """
        with anyio.move_on_after(INTRODUCE_WITHIN_S):
            while self._generation is None:
                await self._beat()
                if self._generation is None:
                    await anyio.sleep(BEAT_EVERY_S / 5)
            await anyio.sleep(1.2 * BEAT_EVERY_S)  # each has beaten since
            await self._beat()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self._beat()
            self._courier.announce()
            await anyio.sleep(BEAT_EVERY_S)

    async def depart(self) -> None:
        """Say goodbye, so that nobody waits for this process; never fails."""
        try:
            await self._broker.depart()
        except ShortTermUnavailable as fault:
            log.info("node.not_departed", reason=str(fault))

    async def _beat(self) -> None:
        async with self._beating:
            try:
                beat = await self._broker.beat()
            except ShortTermUnavailable as fault:
                if self._is_heard:  # said once, and not with each try
                    hint = "check that Redis runs, and redis.url if it is set"
                    log.warning("node.not_heard", reason=str(fault), hint=hint)
                self._is_heard = False
                self._steady_since = math.inf
                return
            finally:
                self._tried_at = time.monotonic()
            now, self._is_heard = time.monotonic(), True
            if now - self._beaten_at > DOUBT_AFTER_S or self._steady_since > now:
                self._steady_since = now
            is_first, self._beaten_at = self._generation is None, now
            is_lost = not is_first and beat.generation != self._generation
            self._generation = beat.generation
            is_steady = now - self._steady_since > DEAD_AFTER_S
            alive = beat.alive if is_steady else beat.alive | beat.silent
            if alive != self._alive:
                log.info("node.others_changed", alive=len(alive), silent=len(beat.silent))
            self._alive = alive
            seen = beat.alive | beat.silent
            self._courier.forget(self._seen - seen)
            self._seen = seen
            if is_lost:
                log.warning("broker.emptied", effect="clients read anew what they may have missed")
                self.on_broker_lost()
            elif not is_first and not beat.known:
                log.warning("node.taken_for_dead", effect="its replies were ended by others")
                self.on_taken_for_dead()
        if is_steady:
            for node in beat.silent | self._owed:
                await self._inherit(node)

    async def _inherit(self, node: NodeId) -> None:
        try:
            left = await self._broker.inherit(node)
        except ShortTermUnavailable as fault:
            log.warning("node.not_inherited", node=node, reason=str(fault))
            self._owed.add(node)  # it may have been done: then nobody else will
            return
        self._owed.discard(node)
        if left is None:
            return
        log.warning("node.died", node=node, running_replies=len(left.runs))
        self.on_died()
        self.on_inherited(left)


@dataclass(frozen=True)
class Neighbours:
    """The other processes of the server, and the ways to them."""

    broker: Broker
    courier: Courier
    node: Node
