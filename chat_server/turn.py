"""The straight line of one message, from the frame to ``accepted``; the reply follows it. A
message that is said in the place of another one goes the same way.

The order is: limit, embed (unless that was done while it was typed), place, then the commit and the
reply's preparation at the same time.
Nothing is visible before the commit; if it fails, the reply is called off.
"""

from __future__ import annotations

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
    wire_conversation,
    wire_message,
)
from chat_server.placing import Placed, Placing, question_of
from chat_server.preparation import Drafted, Preparation
from chat_server.protocol import Edit, Regenerate, Send, check_text
from chat_server.rate_limit import RateLimiter
from chat_server.rate_limited import RateLimited
from chat_server.regeneration import Answer, Regeneration
from chat_server.reply import Reply
from chat_server.runs import Lane, Run
from chat_server.saying import Saying, edited, question_id, sent
from chat_server.stages import Stages
from chat_server.warming import Warming
from memory.embedding import Embedded
from memory.errors import IdConflict, MemoryFault
from memory.messages import Conversation, Message, MessageId, UserId, reply_id
from memory.short_term import Window

log = structlog.get_logger(__name__)

__all__ = ["Answer", "Turns"]


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
        self._regeneration = Regeneration(desk, limiter, self.preparation, tasks=tasks)
        self._tasks = tasks
        self._warming = Warming(self._warm, tasks, busy=lambda: self.preparation.giving_way.busy)
        self._max_text_bytes = max_text_bytes

    async def take(
        self,
        said: Send | Edit | Regenerate,
        identity: Identity,
        answer: Answer,
        drafted: Drafted | None = None,
    ) -> None:
        """Store the message, answer ``accepted``, and let the reply be made; where another reply
        is asked for, that alone.

        *drafted*: what was prepared for a text that fits the message.

        The work belongs to the server, not to the connection: cancelling the caller (the client
        left) changes nothing about what is stored and answered.

        Raises:
            ChatError: the message was not accepted; the code says whether it may be stored.
        """
        if not isinstance(said, Regenerate):
            check_text(said.text, self._max_text_bytes)
        outcome = Outcome(Stages(self._metrics), drafted)
        self._tasks.start_soon(self._turn, said, identity, answer, outcome, name="turn")
        await outcome.wait()

    def warm(self, user: UserId) -> None:
        """Have *user*'s memories loaded when there is time, before the first message."""
        self._warming.want(user)

    async def _warm(self, user: UserId) -> None:
        """A boundary as that of a turn: who cannot be read must not end the others' turns."""
        try:
            await self._memory.warm(user)
        except Exception:
            log.exception("recall.warming_failed")

    async def _turn(
        self,
        said: Send | Edit | Regenerate,
        identity: Identity,
        answer: Answer,
        outcome: Outcome,
    ) -> None:
        """The boundary of one turn: whatever goes wrong ends this turn only, and is told."""
        try:
            match said:
                case Send():
                    await self._accept(sent(said, identity.user), identity, answer, outcome)
                case Edit():
                    saying = await edited(said, identity.user, self._memory)
                    await self._accept(saying, identity, answer, outcome)
                case Regenerate():
                    await self._regeneration.accept(said, identity.user, answer, outcome.stages)
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
        self, saying: Saying, identity: Identity, answer: Answer, outcome: Outcome
    ) -> None:
        user, conversation, stages = identity.user, saying.conversation, outcome.stages
        async with self._runs.lane(user, conversation) as lane:
            await self._desk.late.store_waiting(lane, user, conversation)
            if await self._answer_again(saying, user, lane, answer):
                return
            self._runs.check_room(lane)
            with self.preparation.giving_way.message():
                admission = await self._limiter.admit(user, conversation)
                stages.end("admit")
                query = outcome.drafted or await self.preparation.embed(user, saying.text)
                stages.end("embed")
                placed = await self._placing.place(saying, user, lane, admission)
                stages.end("window")

            question = question_of(saying, identity, placed)
            run = self._runs.begin(question, lane)
            asked = Asked(
                window=placed.window,
                query=query,
                version=admission.version,
                active=admission.active,
                use_memory=saying.use_memory,
                stages=stages,
                re=saying.id,
                without=saying.without,
            )
            self._tasks.start_soon(Reply(self._desk, run, asked).make, name="reply")
            try:
                if not query.says(saying.text):  # what is stored gets the vector of all of it
                    query = await self.preparation.embed(user, saying.text)
                embedded = query.embedded
                stored = await self._memory.record(question, embedded.vector)
                if stored.duplicate and await self._is_answered(user, question.id):
                    self._runs.abandon(run)
                    answer(self._accepted(saying, question, duplicate=True))
                    return
                listed = await self._list(stored.message, placed)
                stages.end("commit")
                if stored.duplicate:
                    await self._placing.place_again(run, stored.message, active=admission.active)
            except BaseException:
                lane.doubt()  # it may have been stored
                self._memory.doubt_window(user, conversation)
                self._runs.abandon(run)
                raise

            if placed.branched and not stored.duplicate:
                lane.branch(stored.message, placed.way)
            elif not stored.duplicate:
                lane.follow(stored.message)
            answer(self._accepted(saying, stored.message, duplicate=stored.duplicate))
            self._show(run, stored.message, listed)
            shared = self._limiter.global_allowance()
            self._fanout.publish_live(user, Limits(user=admission.user, global_=shared))
            if not stored.duplicate:
                await self._keep_window(placed, stored.message, embedded, active=admission.active)

    async def _keep_window(
        self, placed: Placed, said: Message, embedded: Embedded, *, active: bool
    ) -> None:
        await self._memory.append_window(
            said,
            embedded.vector,
            active=active,
            marks=embedded.marks if embedded.vector.any() else None,
        )
        if placed.branched:
            window = Window((*placed.window.messages, said))
            await self._memory.keep_window(said.user, said.conversation, window, active=active)

    async def _answer_again(self, saying: Saying, user: UserId, lane: Lane, answer: Answer) -> bool:
        """Answer a repeated command from what is known already; ``False``: it must be handled."""
        question = question_id(saying, user)
        known = next((run.question for run in lane.runs if run.question.id == question), None)
        live = known is not None
        if known is None and saying.known:
            stored = await self._memory.long_term.by_ids(user, [question])
            known = stored[0] if stored else None
        if known is None:
            return False
        if known.text != saying.text or known.conversation != saying.conversation:
            raise IdConflict(question)
        if not live and not await self._is_answered(user, question):
            return False
        answer(self._accepted(saying, known, duplicate=True))
        return True

    async def _is_answered(self, user: UserId, question: MessageId) -> bool:
        reply = reply_id(question, 0)
        if self._desk.late.is_waiting(user, reply):
            return True
        return bool(await self._memory.long_term.by_ids(user, [reply]))

    async def _list(self, question: Message, placed: Placed) -> Conversation | None:
        """Have the question's conversation in the list, and a branch of it chosen that begins with
        the question; the conversation where that changed something.
        """
        opened = None
        if question.parent is None:
            opened = await self._memory.conversations.begin(question)
        if placed.branched:
            return await self._memory.conversations.branch(question)
        return opened

    def _show(self, run: Run, question: Message, listed: Conversation | None) -> None:
        """Make the stored question visible, and let the reply follow."""
        if listed is not None:
            self._fanout.publish(
                run.user, ConversationUpdated(conversation=wire_conversation(listed))
            )
        self._fanout.publish(
            run.user,
            MessageCreated(conversation=question.conversation, message=wire_message(question)),
        )
        run.show()

    @staticmethod
    def _accepted(saying: Saying, question: Message, *, duplicate: bool) -> Accepted:
        return Accepted(
            re=saying.id,
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
