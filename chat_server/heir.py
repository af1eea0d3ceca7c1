"""Ends the replies of a process that died, in its place."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from chat_server.desk import Desk
from chat_server.errors import ChatError
from chat_server.events import RunDone, Usage, error_facts, wire_message
from chat_server.late_replies import Late
from chat_server.runs import digest
from memory.errors import ShortTermUnavailable
from memory.live.broker import Broker, LiveRun
from memory.messages import Message, MessageId, RunId

log = structlog.get_logger(__name__)


class Heir:
    """Stores what was shown of replies whose process died, as ``interrupted``, and tells their end.

    The process may live after all, and end the same reply: it is stored once, under its id, and
    the first to store it holds.
    """

    def __init__(self, desk: Desk, broker: Broker) -> None:
        self._desk = desk
        self._broker = broker

    async def take_over(self, runs: Sequence[LiveRun]) -> None:
        """End *runs*; never fails."""
        for run in runs:
            await self._end(run)

    async def _end(self, left: LiveRun) -> None:
        facts = left.facts
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
        # A reply without a word is not stored: asked again, its question is answered.
        self._publish(late, kept=kept and not late.settled.is_set())
        self._desk.metrics.live.mishap("run_inherited")
        log.info("reply.inherited", run=facts.run, chars=len(left.text), stored=bool(late.stored))
        try:
            await self._broker.end_run(facts.user, facts.run)
        except ShortTermUnavailable as fault:
            log.warning("run.not_ended", run=facts.run, reason=str(fault))

    def _publish(self, late: Late, *, kept: bool) -> None:
        reply = late.stored or late.message
        stored = late.stored is not None
        if not stored:
            late.told_unstored = True
        lost = ChatError("not_stored", "the server was interrupted before it could answer")
        self._desk.fanout.publish(
            reply.user,
            RunDone(
                run=RunId(reply.id),
                conversation=reply.conversation,
                status=reply.status,
                message=wire_message(reply),
                chars=len(reply.text),
                sha256=digest(reply.text),
                usage=Usage(),
                timings_ms={},
                model=reply.model or "",
                stored=stored,
                kept=kept,
                error=None if stored or kept else error_facts(lost),
            ),
        )
