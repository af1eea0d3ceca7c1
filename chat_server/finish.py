"""The end of a reply: its commit, and ``run.done``."""

from __future__ import annotations

import time
from typing import Final

import anyio
import structlog
from msgspec.structs import replace

from chat_server.desk import Asked, Desk, Ending
from chat_server.errors import ChatError
from chat_server.events import ErrorFacts, RunDone, Usage, error_facts, wire_message
from chat_server.late_replies import Late, tell_of_conversation
from chat_server.runs import Run, digest
from memory.messages import Message, RunId

log = structlog.get_logger(__name__)

STORE_WITHIN_S: Final = 5.0
"""How long the end of a reply waits for the store; a killed one is back within 3 s."""


class Finish:
    """Stores a reply and tells that its run is over."""

    def __init__(self, desk: Desk, run: Run, asked: Asked, ending: Ending) -> None:
        self._desk = desk
        self._run = run
        self._asked = asked
        self._ending = ending

    async def finish(self) -> None:
        """Store the reply, then say that it is over.

        While the store is away the reply is kept in the journal at once; after ``STORE_WITHIN_S``
        the end is told all the same, and the reply is stored when it can be.
        """
        run, asked, desk = self._run, self._asked, self._desk
        begun = time.perf_counter()
        deadline = anyio.current_time() + STORE_WITHIN_S
        vector = await desk.memory.embed(run.text)
        late = Late(self._message(run.tail), run=run, vector=vector, active=asked.active)
        await desk.late.store(late)
        kept = False
        if not late.settled.is_set():
            kept = await desk.journal.keep(late.message)
            with anyio.CancelScope(deadline=deadline):
                await late.settled.wait()
        if desk.runs.find(run.user, run.id) is not run:
            return  # abandoned meanwhile: its conversation is deleted, and nothing is told of it
        asked.stages.took("commit_reply", time.perf_counter() - begun)
        asked.stages.took("total", asked.stages.elapsed_s)
        # From here to the event nothing may be awaited: what is stored later is told after it.
        self._publish_done(late, kept=kept and not late.settled.is_set())
        if late.stored is not None:
            await tell_of_conversation(desk.memory, desk.fanout, late.stored)
        desk.metrics.turn_ended(self._ending.status, asked.stages.elapsed_s)
        self._log(stored=late.stored is not None, kept=kept)

    def _log(self, *, stored: bool, kept: bool) -> None:
        """The one line that sums the turn up."""
        run, asked = self._run, self._asked
        log.info(
            "turn.finished",
            user=run.user,
            conversation=run.question.conversation,
            message=run.question.id,
            status=self._ending.status,
            model=self._ending.model,
            chars=run.chars,
            stored=stored,
            kept=kept,
            active=asked.active,
            **{f"{stage}_ms": ms for stage, ms in asked.stages.ms.items()},
        )

    def _message(self, parent: Message) -> Message:
        run = self._run
        return Message(
            id=run.reply,
            user=run.user,
            conversation=run.question.conversation,
            role="assistant",
            text=run.text,
            timestamp=time.time(),
            parent=parent.id,
            depth=parent.depth + 1,
            status=self._ending.status,
            model=self._ending.model,
            reply_to=run.question.id,
        )

    def _publish_done(self, late: Late, *, kept: bool) -> None:
        reply = late.stored or late.message
        error = self._ending.error
        if late.stored is None:
            late.told_unstored = True
            if not kept:
                error = error or ChatError(
                    "not_stored",
                    "the reply could not be stored; it may be gone when the server restarts",
                )
        self._run.done = replace(
            done_again(
                reply,
                stored=late.stored is not None,
                kept=kept,
                error=error_facts(error) if error else None,
            ),
            usage=self._ending.usage,
            timings_ms=self._asked.stages.ms,
            model=self._ending.model,
            finish_reason=self._ending.finish_reason,
        )
        self._desk.fanout.publish(reply.user, self._run.done)


def done_again(
    reply: Message, *, stored: bool, kept: bool, error: ErrorFacts | None = None
) -> RunDone:
    """The end of a run, from nothing but its *reply*: what was counted while it was made is known
    to the process only that made it.
    """
    return RunDone(
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
        error=error,
    )
