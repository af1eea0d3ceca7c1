"""The making of one reply: recall, prompt, model, deltas; then commit and ``run.done``."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import anyio
import structlog
from anyio import CancelScope, create_task_group

from chat_server.deltas import Deltas
from chat_server.errors import ChatError, ModelFailed
from chat_server.events import (
    ConversationUpdated,
    RunDone,
    RunMemories,
    RunStarted,
    Usage,
    error_event,
    error_facts,
    wire_conversation,
    wire_message,
)
from chat_server.fanout import Fanout
from chat_server.metrics import Metrics
from chat_server.prompt import Prompt, build_prompt
from chat_server.reply_model import ReplyEnd, ReplyModel, ReplyText
from chat_server.runs import Run, Runs, digest
from chat_server.stages import Stages
from memory.context import merge_context
from memory.dual_memory import DualMemory
from memory.errors import EmbeddingFailed, IdConflict, StoreError
from memory.messages import Message, MessageStatus, Vector
from memory.recalled import Recall
from memory.short_term import Window

log = structlog.get_logger(__name__)

COMMIT_WITHIN_S: Final = 20.0
"""How long a finished reply is tried to be stored; a killed store is back within 3 s."""
COMMIT_RETRY_S: Final = 0.5


@dataclass(slots=True)
class Asked:
    """What the turn found out before the reply; ``window`` is what stood before the question."""

    window: Window
    vector: Vector
    version: int | None
    active: bool
    use_memory: bool
    stages: Stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every reply is made with."""

    memory: DualMemory
    model: ReplyModel
    fallback: ReplyModel
    runs: Runs
    fanout: Fanout
    metrics: Metrics
    system_prompt: str
    context_tokens: int
    max_results: int


class Reply:
    """One reply in the making; it belongs to the server and outlives every connection."""

    def __init__(self, desk: Desk, run: Run, asked: Asked) -> None:
        self._desk = desk
        self._run = run
        self._asked = asked
        self._deltas = Deltas(run.id, lambda event: desk.fanout.publish_live(run.user, event))
        self._shown = anyio.Event()
        self._model = desk.model.name
        self._status: MessageStatus = "completed"
        self._error: ChatError | None = None
        self._usage = Usage()

    async def make(self) -> None:
        """Make the reply and end the run, whatever happens: the boundary of one reply.

        Begins at once, while the question is still being committed, and shows nothing before it
        is. While the store is sick it waits for the commit, so that no model is paid in vain.
        """
        run = self._run
        try:
            with run.scope:
                await self._write_or_say_why_not()
            if run.end_reason == "abandoned" or not run.question_stored.is_set():
                return
            if run.end_reason is not None:
                self._status = run.end_reason
            self._deltas.flush()
            with CancelScope(shield=True):
                await self._finish()
        except Exception:
            log.exception("reply.not_ended", run=run.id)
        finally:
            self._desk.runs.finish(run)

    async def _write_or_say_why_not(self) -> None:
        """Whatever goes wrong while a reply is written, the run ends and its end is told."""
        try:
            await self._write()
        except Exception:
            log.exception("reply.failed", run=self._run.id)
            await self._run.question_stored.wait()
            self._tell(ChatError("internal", "something went wrong on the server; try again"))

    async def _write(self) -> None:
        """Recall, ask, and show the reply as it comes."""
        run, asked = self._run, self._asked
        waited = not run.turn_came.is_set()
        await run.turn_came.wait()
        if waited or not self._desk.memory.long_term.healthy:
            await run.question_stored.wait()
        if waited:
            asked.window = await self._window_now()
        recall = await self._recall()
        prompt = self._prompt(recall)
        async with create_task_group() as tasks:
            tasks.start_soon(self._deltas.run)
            tasks.start_soon(self._announce, recall)
            failure = await self._read(self._desk.model, prompt)
            await self._shown.wait()
            if failure is not None:
                self._tell(failure)
                if not run.chars:
                    self._model = self._desk.fallback.name
                    await self._read(self._desk.fallback, prompt)
            tasks.cancel_scope.cancel()

    async def _window_now(self) -> Window:
        """The window of a run that had to wait: with what was said meanwhile, and without the
        questions that still wait for their own reply.
        """
        run = self._run
        waiting = {other.question.id for other in run.lane.runs}
        window = await self._desk.memory.rebuild_window(
            run.user, run.question.conversation, active=self._asked.active
        )
        return Window(tuple(said for said in window.messages if said.id not in waiting))

    async def _recall(self) -> Recall:
        """The memories for the reply; a store that cannot be read costs them, not the reply."""
        run, asked = self._run, self._asked
        if not asked.use_memory or not self._desk.max_results:
            return Recall(items=(), took_ms=0.0)
        begun = time.perf_counter()
        try:
            return await self._desk.memory.recall(
                run.user,
                run.question.text,
                asked.vector,
                limit=2 * self._desk.max_results,  # what repeats the window's words is dropped
                exclude={said.id for said in asked.window.messages} | {run.question.id},
                version=asked.version,
            )
        except StoreError as fault:
            log.warning("recall.skipped", reason=str(fault))
            return Recall(items=(), took_ms=0.0, partial=True)
        finally:
            asked.stages.took("recall", time.perf_counter() - begun)

    def _prompt(self, recall: Recall) -> Prompt:
        question = self._run.question
        context = merge_context(
            self._asked.window,
            recall.items,
            question=question,
            max_results=self._desk.max_results,
        )
        return build_prompt(
            self._desk.system_prompt, context, question, budget_tokens=self._desk.context_tokens
        )

    async def _announce(self, recall: Recall) -> None:
        """Once the question is stored, say that the reply is under way and what is remembered."""
        run = self._run
        await run.question_stored.wait()
        self._desk.fanout.publish(
            run.user,
            lambda seq: RunStarted(
                seq=seq,
                run=run.id,
                conversation=run.question.conversation,
                message=run.question.id,
                model=self._model,
            ),
        )
        self._desk.fanout.publish_live(
            run.user, RunMemories(run=run.id, items=recall.items, took_ms=recall.took_ms)
        )
        self._shown.set()

    async def _read(self, model: ReplyModel, prompt: Prompt) -> ModelFailed | None:
        """Pass the model's pieces on, once the run is shown; what went wrong is returned."""
        run, asked = self._run, self._asked
        begun = time.perf_counter()
        if "model_request" not in asked.stages.ms:  # the fallback is not what was waited for
            asked.stages.took("model_request", asked.stages.elapsed_s)
        try:
            async with aclosing(model.stream(prompt)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ReplyEnd):
                        self._usage = Usage(piece.input_tokens, piece.output_tokens)
                    else:
                        await self._pass_on(piece, begun)
        except ModelFailed as failure:
            return failure
        finally:
            asked.stages.took("reply", time.perf_counter() - begun)
        if not run.chars:
            return ModelFailed("model_interrupted", "the language model sent an empty reply")
        return None

    async def _pass_on(self, piece: ReplyText, begun: float) -> None:
        stages, first = self._asked.stages, not self._run.chars
        came = time.perf_counter()
        if first:
            stages.took("first_token", came - begun)
            await self._shown.wait()
            stages.took("delta_wait", time.perf_counter() - came)
        self._run.add(piece.text)
        self._deltas.add(piece.text)
        if first:
            stages.took("first_delta", time.perf_counter() - came)

    def _tell(self, failure: ChatError) -> None:
        """Say what went wrong; the reply goes on from memory if there is none of it yet."""
        run = self._run
        self._status, self._error = "failed", failure
        if isinstance(failure, ModelFailed):
            self._desk.metrics.model_failed(failure.code)
        log.warning("reply.broke_off", code=failure.code, chars=run.chars)
        self._deltas.flush()
        self._desk.fanout.publish_live(
            run.user, error_event(failure, re=run.question.client_id, run=run.id)
        )

    async def _finish(self) -> None:
        """Store the reply, then say that it is over."""
        run, asked = self._run, self._asked
        begun = time.perf_counter()
        reply = await self._commit()
        stored = reply is not None
        if reply is None:
            reply = self._message(run.tail)
            self._error = self._error or ChatError(
                "not_stored", "the reply could not be stored; it will be gone after a reload"
            )
        asked.stages.took("commit_reply", time.perf_counter() - begun)
        asked.stages.took("total", asked.stages.elapsed_s)
        self._publish_done(reply, stored=stored)
        await self._publish_conversation(reply)
        self._desk.metrics.turn_ended(self._status, asked.stages.elapsed_s)
        log.info(
            "turn.finished",
            user=run.user,
            conversation=run.question.conversation,
            message=run.question.id,
            status=self._status,
            model=self._model,
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
                        await self._desk.memory.append_window(
                            stored, vector, active=self._asked.active
                        )
                        return stored
                except IdConflict:
                    return await self._stored_elsewhere()
                except (StoreError, EmbeddingFailed) as fault:
                    log.warning("reply.not_stored_yet", run=run.id, reason=str(fault))
                await anyio.sleep(COMMIT_RETRY_S)
        log.error("reply.not_stored", run=run.id, waited_s=COMMIT_WITHIN_S, chars=run.chars)
        return None

    async def _stored_elsewhere(self) -> Message | None:
        """The reply that another server stored for the same question; it is the one that holds."""
        log.warning("reply.made_twice", run=self._run.id)
        found = await self._desk.memory.long_term.by_ids(self._run.user, [self._run.reply])
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
            status=self._status,
            model=self._model,
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
                usage=self._usage,
                timings_ms=self._asked.stages.ms,
                model=self._model,
                stored=stored,
                error=error_facts(self._error) if self._error else None,
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
