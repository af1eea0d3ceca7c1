"""The straight line of one message, from the frame to ``accepted``; the reply follows it.

The order is: limit, embed (unless that was done while it was typed), place, then the commit and the
reply's preparation at the same time.
Nothing is visible before the commit; if it fails, the reply is called off.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from chat_server.authentication import Identity
from chat_server.desk import Asked, Desk
from chat_server.errors import ChatError, told, unforeseen
from chat_server.events import (
    Accepted,
    ConversationUpdated,
    Limits,
    MessageCreated,
    ServerEvent,
    wire_conversation,
    wire_message,
)
from chat_server.placing import Placed, Placing, question_of
from chat_server.preparation import Drafted, Preparation
from chat_server.protocol import Send, check_text
from chat_server.rate_limit import RateLimiter
from chat_server.rate_limited import RateLimited
from chat_server.reply import Reply
from chat_server.runs import Lane, Run
from chat_server.stages import Stages
from memory.errors import IdConflict, MemoryFault
from memory.messages import (
    Appended,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    UserId,
    Vector,
    conversation_id,
    message_id,
    reply_id,
)
from memory.short_term import Window

log = structlog.get_logger(__name__)

Answer = Callable[[ServerEvent], None]
"""Sends an event to the connection that the command came from."""


class Turns:
    """Takes messages; each becomes one stored question and one run."""

    def __init__(
        self,
        desk: Desk,
        limiter: RateLimiter,
        *,
        tasks: TaskGroup,
        max_text_bytes: int,
    ) -> None:
        self._desk = desk
        self._memory = desk.memory
        self._runs = desk.runs
        self._fanout = desk.fanout
        self._metrics = desk.metrics
        self._limiter = limiter
        self._placing = Placing(desk.memory)
        self.preparation = Preparation(desk.memory, desk.max_results)
        self._tasks = tasks
        self._max_text_bytes = max_text_bytes

    async def take(
        self, send: Send, identity: Identity, answer: Answer, drafted: Drafted | None = None
    ) -> None:
        """Store the message, answer ``accepted``, and let the reply be made.

        *drafted*: what was prepared for a text that fits the message.

        The work belongs to the server, not to the connection: cancelling the caller (the client
        left) changes nothing about what is stored and answered.

        Raises:
            ChatError: the message was not accepted; the code says whether it may be stored.
        """
        check_text(send.text, self._max_text_bytes)
        outcome = Outcome(Stages(self._metrics), drafted)
        self._tasks.start_soon(self._turn, send, identity, answer, outcome, name="turn")
        await outcome.wait()

    def warm(self, user: UserId) -> None:
        """Begin to load *user*'s memories, so that the first message finds them ready."""
        self._tasks.start_soon(self._warm, user, name="warm")

    async def _warm(self, user: UserId) -> None:
        """A boundary as that of a turn: who cannot be read must not end the others' turns."""
        try:
            await self._memory.warm(user)
        except Exception:
            log.exception("recall.warming_failed")

    async def _turn(self, send: Send, identity: Identity, answer: Answer, outcome: Outcome) -> None:
        """The boundary of one turn: whatever goes wrong ends this turn only, and is told."""
        try:
            await self._accept(send, identity, answer, outcome)
        except RateLimited as error:
            self._metrics.rate_limit_rejected(error.scope, identity.user)
            outcome.error = error
        except ChatError as error:
            outcome.error = error
        except MemoryFault as fault:
            log.warning("turn.refused", fault=type(fault).__name__, reason=str(fault))
            outcome.error = told(fault)
        except Exception:
            log.exception("turn.failed")
            outcome.error = unforeseen()
        finally:
            outcome.done.set()

    async def _accept(
        self, send: Send, identity: Identity, answer: Answer, outcome: Outcome
    ) -> None:
        user, stages = identity.user, outcome.stages
        conversation = ConversationId(send.conversation or conversation_id(user, send.id))
        async with self._runs.lane(user, conversation) as lane:
            await self._desk.late.store_waiting(lane, user, conversation)
            if await self._answer_again(send, user, conversation, lane, answer):
                return
            self._runs.check_room(lane)
            with self.preparation.giving_way.message():
                admission = await self._limiter.admit(user, conversation)
                stages.end("admit")
                query = outcome.drafted or await self.preparation.embed(user, send.text)
                stages.end("embed")
                placed = await self._placing.place(send, user, conversation, lane, admission)
                stages.end("window")

            question = question_of(send, identity, conversation, placed)
            run = self._runs.begin(question, lane)
            asked = Asked(
                window=placed.window,
                query=query,
                version=admission.version,
                active=admission.active,
                use_memory=send.options.memory,
                stages=stages,
            )
            self._tasks.start_soon(Reply(self._desk, run, asked).make, name="reply")
            try:
                if not query.says(send.text):  # what is stored gets the vector of all of it
                    query = await self.preparation.embed(user, send.text)
                embedded = query.embedded
                stored, opened = await self._commit(run, embedded.vector, placed)
                stages.end("commit")
                if stored.duplicate:
                    if await self._is_answered(user, question.id):
                        self._runs.abandon(run)
                        answer(self._accepted(send, question, duplicate=True))
                        return
                    await self._placing.place_again(run, stored.message, active=admission.active)
            except BaseException:
                lane.doubt()  # it may have been stored
                self._memory.doubt_window(user, conversation)
                self._runs.abandon(run)
                raise

            self._show(send, run, stored, opened, answer)
            shared = self._limiter.global_allowance()
            self._fanout.publish_live(user, Limits(user=admission.user, global_=shared))
            if stored.duplicate:
                return
            await self._memory.append_window(
                stored.message,
                embedded.vector,
                active=admission.active,
                marks=embedded.marks if embedded.vector.any() else None,
            )
            if placed.branched:
                window = Window((*placed.window.messages, stored.message))
                await self._memory.keep_window(user, conversation, window, active=admission.active)

    async def _answer_again(
        self,
        send: Send,
        user: UserId,
        conversation: ConversationId,
        lane: Lane,
        answer: Answer,
    ) -> bool:
        """Answer a repeated send from what is known already; ``False``: it must be handled."""
        question_id = message_id(user, send.id)
        known = next((run.question for run in lane.runs if run.question.id == question_id), None)
        live = known is not None
        if known is None and send.retry:
            stored = await self._memory.long_term.by_ids(user, [question_id])
            known = stored[0] if stored else None
        if known is None:
            return False
        if known.text != send.text or known.conversation != conversation:
            raise IdConflict(question_id)
        if not live and not await self._is_answered(user, question_id):
            return False
        answer(self._accepted(send, known, duplicate=True))
        return True

    async def _is_answered(self, user: UserId, question: MessageId) -> bool:
        reply = reply_id(question, 0)
        if self._desk.late.is_waiting(user, reply):
            return True
        return bool(await self._memory.long_term.by_ids(user, [reply]))

    async def _commit(
        self, run: Run, vector: Vector, placed: Placed
    ) -> tuple[Appended, Conversation | None]:
        """Store the question, and its conversation where it opens one or a branch of one."""
        stored = await self._memory.record(run.question, vector)
        if stored.message.parent is None:
            return stored, await self._memory.conversations.begin(stored.message)
        if placed.branched:
            await self._memory.conversations.branch(stored.message)
        return stored, None

    def _show(
        self,
        send: Send,
        run: Run,
        stored: Appended,
        opened: Conversation | None,
        answer: Answer,
    ) -> None:
        """Make the stored question visible, and let the reply follow."""
        question = stored.message
        if not stored.duplicate:
            run.lane.follow(question)
        answer(self._accepted(send, question, duplicate=stored.duplicate))
        if opened is not None:
            self._fanout.publish(
                run.user, ConversationUpdated(conversation=wire_conversation(opened))
            )
        self._fanout.publish(
            run.user,
            MessageCreated(conversation=question.conversation, message=wire_message(question)),
        )
        run.show()

    @staticmethod
    def _accepted(send: Send, question: Message, *, duplicate: bool) -> Accepted:
        return Accepted(
            re=send.id,
            message=question.id,
            conversation=question.conversation,
            run=Run.id_of(question),
            duplicate=duplicate,
        )


class Outcome:
    """Whether a turn was accepted, for the caller that waits for it."""

    def __init__(self, stages: Stages, drafted: Drafted | None) -> None:
        self.stages = stages
        self.drafted = drafted
        self.done = anyio.Event()
        self.error: ChatError | None = None

    async def wait(self) -> None:
        await self.done.wait()
        if self.error is not None:
            raise self.error
