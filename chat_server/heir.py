"""Ends the replies of a process that died, in its place."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import anyio
import structlog

from chat_server.desk import Desk
from chat_server.errors import ChatError
from chat_server.events import error_facts
from chat_server.finish import done_again
from chat_server.late_replies import Late
from chat_server.node import Node
from memory.errors import MemoryFault, ShortTermUnavailable
from memory.live.broker import Broker, LiveRun, RunFacts
from memory.messages import Message, MessageId

log = structlog.get_logger(__name__)


class Heir:
    """Stores what was shown of replies whose process died, as ``interrupted``, and tells their end.

    The process may live after all, and end the same reply: it is stored once, under its id, and
    the first to store it holds.
    """

    def __init__(self, desk: Desk, broker: Broker, node: Node) -> None:
        self._desk = desk
        self._broker = broker
        self._left: deque[LiveRun] = deque()
        self._came = anyio.Event()
        self._node = node

    def take_over(self, runs: Sequence[LiveRun]) -> None:
        """Have *runs* ended by :meth:`run`; whoever beats must not wait for the store."""
        self._left.extend(runs)
        self._came.set()

    async def run(self) -> None:
        """End what was taken over, one after another, until cancelled."""
        while True:
            await self._came.wait()
            self._came = anyio.Event()
            while self._left:
                await self._end(self._left.popleft())

    async def _end(self, left: LiveRun) -> None:
        """End one run, unless that is not this process's to do: asked again, its question may be
        answered anew by now, here or elsewhere, or have its reply.
        """
        facts = left.facts
        if self._desk.runs.find(facts.user, facts.run) is not None:
            return
        if await self._is_made_elsewhere(facts):
            return
        message = Message(
            id=MessageId(facts.run),
            user=facts.user,
            conversation=facts.conversation,
            role="assistant",
            text=left.text,
            timestamp=time.time(),
            parent=facts.question,
            depth=1,
            status="interrupted",
            model=facts.model,
            reply_to=facts.question,
        )
        late = Late(message)
        kept = False
        if left.text:
            await self._desk.late.store(late)
            if not late.settled.is_set():
                kept = await self._desk.journal.keep(message)
        else:  # not stored: asked again, its question is answered; unless it has ended already
            late.stored = await self._stored(message)
        self._publish(late, kept=kept and not late.settled.is_set())
        self._desk.metrics.live.mishap("run_inherited")
        log.info("reply.inherited", run=facts.run, chars=len(left.text), stored=bool(late.stored))
        try:
            await self._broker.end_run(facts.user, facts.run)
        except ShortTermUnavailable as fault:
            log.warning("run.not_ended", run=facts.run, reason=str(fault))

    async def _is_made_elsewhere(self, facts: RunFacts) -> bool:
        others = self._node.others - {facts.node}
        try:
            live = await self._broker.runs(facts.user)
        except ShortTermUnavailable as fault:
            log.warning("run.not_looked_up", run=facts.run, reason=str(fault))
            return False
        return any(it.facts.run == facts.run and it.facts.node in others for it in live)

    async def _stored(self, reply: Message) -> Message | None:
        """*reply* as its process stored it just before it died."""
        try:
            found = await self._desk.memory.long_term.by_ids(reply.user, [reply.id])
        except MemoryFault as fault:
            log.warning("run.not_looked_up", run=reply.id, reason=str(fault))
            return None
        return found[0] if found else None

    def _publish(self, late: Late, *, kept: bool) -> None:
        stored = late.stored is not None
        late.told_unstored = not stored
        lost = ChatError("not_stored", "the server was interrupted before it could answer")
        done = done_again(
            late.stored or late.message,
            stored=stored,
            kept=kept,
            error=None if stored or kept else error_facts(lost),
        )
        self._desk.fanout.publish(late.message.user, done)
