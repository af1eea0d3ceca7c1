"""Another reply to a question that has one, beside it (decision 0015)."""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from chat_server.desk import Asked, Desk
from chat_server.errors import ChatError
from chat_server.events import Accepted, Limits, ServerEvent
from chat_server.preparation import Preparation
from chat_server.protocol import Regenerate
from chat_server.rate_limit import RateLimiter
from chat_server.reply import Reply
from chat_server.runs import Lane, Run
from chat_server.stages import Stages
from memory.messages import Message, MessageId, UserId, reply_id

Answer = Callable[[ServerEvent], None]
"""Sends an event to the connection that the command came from."""


class Regeneration:
    """Takes commands for another reply; each becomes one run, and the same one for ever."""

    def __init__(
        self, desk: Desk, limiter: RateLimiter, preparation: Preparation, *, tasks: TaskGroup
    ) -> None:
        self._desk = desk
        self._memory = desk.memory
        self._limiter = limiter
        self._preparation = preparation
        self._tasks = tasks

    async def accept(
        self, command: Regenerate, user: UserId, answer: Answer, stages: Stages
    ) -> None:
        """Answer ``accepted``, and let the reply be made: at once, or behind the runs of its
        conversation.

        Raises:
            ChatError: ``unknown_message``, ``busy``.
            RateLimited: as for a message.
            StoreError: what is needed cannot be read.
        """
        question = await self._question(user, MessageId(command.message))
        conversation = question.conversation
        async with self._desk.runs.lane(user, conversation) as lane:
            await self._desk.late.store_waiting(lane, user, conversation)
            if await self._is_made(question, command.id, lane):
                answer(_accepted(command, question, duplicate=True))
                return
            self._desk.runs.check_room(lane)
            with self._preparation.giving_way.message():
                admission = await self._limiter.admit(user, conversation)
                stages.end("admit")
                query = await self._preparation.embed(user, question.text)
                stages.end("embed")
                window = await self._memory.window_before(question)
                stages.end("window")
            run = self._desk.runs.begin(question, lane, attempt=command.id)
            asked = Asked(
                window=window,
                query=query,
                version=admission.version,
                active=admission.active,
                use_memory=True,
                stages=stages,
                re=command.id,
                without=frozenset({MessageId(command.message), reply_id(question.id, 0)}),
            )
            self._tasks.start_soon(Reply(self._desk, run, asked).make, name="reply")
            answer(_accepted(command, question, duplicate=False))
            run.show()
            shared = self._limiter.global_allowance()
            self._desk.fanout.publish_live(user, Limits(user=admission.user, global_=shared))

    async def _question(self, user: UserId, message: MessageId) -> Message:
        """The question that *message* answers, or is.

        Raises:
            ChatError: ``unknown_message``.
        """
        run = self._desk.runs.find(user, message)
        if run is not None and run.question_stored.is_set():
            return run.question
        named = self._desk.late.waiting(user, message) or await self._stored(user, message)
        if named is not None and named.role == "assistant":
            answered = named.reply_to or named.parent
            named = await self._stored(user, answered) if answered is not None else None
        if named is None or named.role != "user" or named.status == "deleted":
            raise ChatError("unknown_message", "no such question or reply", field="message")
        return named

    async def _is_made(self, question: Message, command: str, lane: Lane) -> bool:
        """Whether the reply is under way or stored."""
        reply = reply_id(question.id, command)
        if any(run.reply == reply for run in lane.runs):
            return True
        if self._desk.late.is_waiting(question.user, reply):
            return True
        return await self._stored(question.user, reply) is not None

    async def _stored(self, user: UserId, message: MessageId) -> Message | None:
        found = await self._memory.long_term.by_ids(user, [message])
        return found[0] if found else None


def _accepted(command: Regenerate, question: Message, *, duplicate: bool) -> Accepted:
    return Accepted(
        re=command.id,
        message=question.id,
        conversation=question.conversation,
        run=Run.id_of(question, command.id),
        duplicate=duplicate,
    )
