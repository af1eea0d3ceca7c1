"""The making of one reply: recall, prompt, model, deltas; then commit and ``run.done``."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Final

import anyio
import structlog
from anyio import CancelScope, create_task_group

from chat_server.deltas import Deltas
from chat_server.desk import Asked, Desk, Ending
from chat_server.errors import ChatError, ModelFailed, unforeseen
from chat_server.events import RunMemories, RunStarted, Usage, error_event
from chat_server.finish import Finish
from chat_server.preparation import most_recalled
from chat_server.prompt import Prompt, build_prompt
from chat_server.reply_model import ReplyEnd, ReplyModel, ReplyText
from chat_server.runs import Run
from memory.branch_end import branch_end
from memory.context import Context, merge_context
from memory.errors import StoreError
from memory.journal_records import ReplyBegan
from memory.messages import Message, MessageId, stands_beside
from memory.planner import Plan, plan_for
from memory.recalled import Recall, Recalled
from memory.short_term import Window

log = structlog.get_logger(__name__)

LONGEST_REPLY_CHARS: Final = 65_536
"""Beyond it a model is taken to have lost itself; a reply must fit the frame that ends it."""


class Reply:
    """One reply in the making; it belongs to the server and outlives every connection."""

    def __init__(self, desk: Desk, run: Run, asked: Asked) -> None:
        self._desk = desk
        self._run = run
        self._asked = asked
        self._deltas = Deltas(run.id, lambda event: desk.fanout.publish_live(run.user, event))
        self._shown = anyio.Event()
        self._ending = Ending(desk.model.name)
        self._plan = Plan("none", "switched_off")

    async def make(self) -> None:
        """Make the reply and end the run, whatever happens: the boundary of one reply.

        Begins at once, while the question is still being committed, and shows nothing before it
        is. While the store is sick it waits for the commit, so that no model is paid in vain.
        """
        run = self._run
        try:
            with run.scope:
                await self._write_or_say_why_not()
            with CancelScope(shield=True):  # ended before the commit was: it decides
                await run.decided.wait()
            if run.end_reason == "abandoned" or not run.question_stored.is_set():
                return
            if run.end_reason is not None:
                self._ending.status = run.end_reason
            self._deltas.flush()
            with CancelScope(shield=True):
                await Finish(self._desk, run, self._asked, self._ending).finish()
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
            self._tell(unforeseen())

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
        context = self._context(recall)
        prompt = build_prompt(
            self._desk.system_prompt,
            context,
            run.question,
            budget_tokens=self._desk.context_tokens,
        )
        async with create_task_group() as tasks:
            tasks.start_soon(self._deltas.run)
            tasks.start_soon(self._announce, prompt.memories, recall.took_ms)
            failure = await self._read(self._desk.model, prompt)
            await self._shown.wait()
            if failure is not None:
                self._tell(failure)
                if not run.chars:
                    self._ending.model = self._desk.fallback.name
                    await self._read(self._desk.fallback, prompt)
            tasks.cancel_scope.cancel()

    async def _window_now(self) -> Window:
        """The window of a run that had to wait: what stands on its branch by now, stored or not,
        without the questions that still wait for their own reply.
        """
        run, memory = self._run, self._desk.memory
        conversation = run.question.conversation
        try:
            if run.anew:  # what led to its question, whatever was said since
                return await memory.window_before(run.question)
            end = await self._end_of_branch()
            window = await memory.branch_window(run.user, conversation, end)
        except StoreError as fault:
            log.warning("reply.window_not_read", reason=str(fault))
            window = self._asked.window
        if run.anew:
            return window
        late = self._desk.late.of_conversation(run.user, conversation)
        here = {message.id for message in window.messages}
        replies = (it for it in late if it.reply_to in here and not stands_beside(it))
        waiting = {other.question.id for other in run.lane.runs if not other.anew}
        said = (*window.messages, *replies)
        return Window(tuple(message for message in said if message.id not in waiting))

    async def _end_of_branch(self) -> Message:
        """What the reply would follow if it were stored now, as it is stored."""
        run, store = self._run, self._desk.memory.long_term
        if run.tail_in_doubt:
            end = await branch_end(store, run.user, run.question.conversation, run.tail.id)
            return end or run.tail
        found = await store.by_ids(run.user, [run.tail.id])
        return found[0] if found else run.tail

    async def _recall(self) -> Recall:
        """The memories for the reply; a store that cannot be read costs them, not the reply."""
        run, asked = self._run, self._asked
        begun = time.perf_counter()
        if asked.use_memory and self._desk.max_results:
            self._plan = plan_for(run.question.text)
        asked.stages.took("plan", time.perf_counter() - begun)
        if not self._plan.searches:
            return Recall(items=(), took_ms=0.0)
        try:
            return await self._desk.memory.recall(
                run.user,
                asked.query.text,
                asked.query.embedded,
                limit=most_recalled(self._plan, self._desk.max_results),
                exclude=self._at_hand(),
                version=asked.version,
            )
        except StoreError as fault:
            log.warning("recall.skipped", reason=str(fault))
            return Recall(items=(), took_ms=0.0, partial=True)
        finally:
            asked.stages.took("recall", time.perf_counter() - begun)

    def _at_hand(self) -> set[MessageId]:
        """What is not to be remembered: the prompt has it, or this takes its place."""
        window = {said.id for said in self._asked.window.messages}
        return window | self._asked.without | {self._run.question.id}

    def _context(self, recall: Recall) -> Context:
        return merge_context(
            self._asked.window,
            recall.items,
            question=self._run.question,
            max_results=self._max_results,
        )

    @property
    def _max_results(self) -> int:
        return self._plan.limit(self._desk.max_results)

    async def _announce(self, memories: tuple[Recalled, ...], took_ms: float) -> None:
        """Once the question is stored, say that the reply is under way and what it is given."""
        run = self._run
        await run.question_stored.wait()
        self._desk.fanout.publish(
            run.user,
            RunStarted(
                run=run.id,
                conversation=run.question.conversation,
                message=run.question.id,
                model=self._ending.model,
            ),
        )
        run.memories = RunMemories(
            run=run.id,
            items=memories,
            plan=self._plan.kind,
            reason=self._plan.reason,
            took_ms=took_ms,
        )
        self._desk.fanout.publish_live(run.user, run.memories)
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
                        self._ending.usage = Usage(piece.input_tokens, piece.output_tokens)
                        self._ending.finish_reason = piece.finish_reason
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
        if self._run.chars + len(piece.text) > LONGEST_REPLY_CHARS:
            raise ModelFailed("model_interrupted", "the language model did not come to an end")
        if first:
            stages.took("first_token", came - begun)
            await self._shown.wait()
            stages.took("delta_wait", time.perf_counter() - came)
            self._follow()
        self._run.add(piece.text)
        self._deltas.add(piece.text)
        if first:
            stages.took("first_delta", time.perf_counter() - came)

    def _follow(self) -> None:
        """Have the journal keep what is shown from here on."""
        question = self._run.question
        began = ReplyBegan(
            reply=self._run.reply,
            user=question.user,
            conversation=question.conversation,
            question=question.id,
            timestamp=time.time(),
            model=self._ending.model,
        )
        self._desk.journal.follow(began, self._run)

    def _tell(self, failure: ChatError) -> None:
        """Say what went wrong; the reply goes on from memory if there is none of it yet."""
        run = self._run
        self._ending.status, self._ending.error = "failed", failure
        if isinstance(failure, ModelFailed):
            self._desk.metrics.model_failed(failure.code)
        log.warning("reply.broke_off", code=failure.code, chars=run.chars)
        self._deltas.flush()
        self._desk.fanout.publish_live(
            run.user, error_event(failure, re=self._asked.re, run=run.id)
        )
