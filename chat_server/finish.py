"""The end of a reply: its commit, and ``run.done``."""

from __future__ import annotations

import time
from typing import Final

import anyio
import structlog

from chat_server.desk import Asked, Desk, Ending
from chat_server.errors import ChatError
from chat_server.events import (
    ConversationUpdated,
    RunDone,
    error_facts,
    wire_conversation,
    wire_message,
)
from chat_server.runs import Run, digest
from memory.errors import EmbeddingFailed, IdConflict, StoreError, StoreRefused
from memory.messages import Message

log = structlog.get_logger(__name__)

COMMIT_WITHIN_S: Final = 20.0
"""How long a finished reply is tried to be stored; a killed store is back within 3 s."""
COMMIT_RETRY_S: Final = 0.5


class Finish:
    """Stores a reply and tells that its run is over."""

    def __init__(self, desk: Desk, run: Run, asked: Asked, ending: Ending) -> None:
        self._desk = desk
        self._run = run
        self._asked = asked
        self._ending = ending

    async def finish(self) -> None:
        """Store the reply, then say that it is over."""
        run, asked = self._run, self._asked
        begun = time.perf_counter()
        reply = await self._commit()
        stored = reply is not None
        if reply is None:
            reply = self._message(run.tail)
            self._ending.error = self._ending.error or ChatError(
                "not_stored", "the reply could not be stored; it will be gone after a reload"
            )
        asked.stages.took("commit_reply", time.perf_counter() - begun)
        asked.stages.took("total", asked.stages.elapsed_s)
        self._publish_done(reply, stored=stored)
        await self._publish_conversation(reply)
        self._desk.metrics.turn_ended(self._ending.status, asked.stages.elapsed_s)
        log.info(
            "turn.finished",
            user=run.user,
            conversation=run.question.conversation,
            message=run.question.id,
            status=self._ending.status,
            model=self._ending.model,
            chars=run.chars,
            stored=stored,
            active=asked.active,
            **{f"{stage}_ms": ms for stage, ms in asked.stages.ms.items()},
        )

    async def _commit(self) -> Message | None:
        """Store the reply at the end of its branch; ``None`` when the store stayed away."""
        run = self._run
        with anyio.move_on_after(COMMIT_WITHIN_S):
            while True:
                try:
                    vector = await self._desk.memory.embed(run.text)
                    async with self._desk.runs.lane(run.user, run.question.conversation) as lane:
                        reply = self._message(run.tail)
                        stored = (await self._desk.memory.record(reply, vector)).message
                        lane.follow(stored)
                        with anyio.CancelScope(shield=True):  # stored is stored, however late
                            await self._desk.memory.append_window(
                                stored, vector, active=self._asked.active
                            )
                        return stored
                except IdConflict:
                    return await self._stored_elsewhere()
                except (StoreRefused, EmbeddingFailed) as fault:
                    log.warning("reply.refused", run=run.id, reason=str(fault))  # it will not pass
                    return None
                except StoreError as fault:
                    log.warning("reply.not_stored_yet", run=run.id, reason=str(fault))
                await anyio.sleep(COMMIT_RETRY_S)
        log.error("reply.not_stored", run=run.id, waited_s=COMMIT_WITHIN_S, chars=run.chars)
        return None

    async def _stored_elsewhere(self) -> Message | None:
        """The reply that another server stored for the same question; it is the one that holds."""
        log.warning("reply.made_twice", run=self._run.id)
        try:
            found = await self._desk.memory.long_term.by_ids(self._run.user, [self._run.reply])
        except StoreError as fault:
            log.warning("reply.not_read", run=self._run.id, reason=str(fault))
            return None
        return found[0] if found else None

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

    def _publish_done(self, reply: Message, *, stored: bool) -> None:
        self._desk.fanout.publish(
            reply.user,
            lambda seq: RunDone(
                seq=seq,
                run=self._run.id,
                conversation=reply.conversation,
                status=reply.status,
                message=wire_message(reply),
                chars=len(reply.text),
                sha256=digest(reply.text),
                usage=self._ending.usage,
                timings_ms=self._asked.stages.ms,
                model=self._ending.model,
                finish_reason=self._ending.finish_reason,
                stored=stored,
                error=error_facts(self._ending.error) if self._ending.error else None,
            ),
        )

    async def _publish_conversation(self, reply: Message) -> None:
        try:
            conversation = await self._desk.memory.conversations.touch(reply)
        except StoreError as fault:
            log.warning("conversations.not_read", reason=str(fault))
            return
        if conversation is not None:
            self._desk.fanout.publish(
                reply.user,
                lambda seq: ConversationUpdated(
                    seq=seq, conversation=wire_conversation(conversation)
                ),
            )
