"""A page of a conversation's history: what is stored, what is being made, and what never came."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from chat_server.errors import ChatError
from chat_server.events import WireMessage, wire_message
from chat_server.state import State
from memory.messages import ConversationId, Message, MessageId, RunId, UserId, is_reply_id, reply_id


class LiveRun(msgspec.Struct, frozen=True):
    """A reply that is being made: ``text`` is what it says so far."""

    run: RunId
    message: MessageId
    text: str


class MessagesBody(msgspec.Struct, frozen=True):
    """What ``GET /api/conversations/{id}/messages`` answers."""

    messages: list[WireMessage]
    before: MessageId | None
    runs: list[LiveRun]


async def read_page(
    state: State,
    user: UserId,
    conversation: ConversationId,
    *,
    limit: int,
    before: MessageId | None,
    head: MessageId | None = None,
) -> MessagesBody:
    """The *limit* messages before *before*, or the newest ones, oldest first; with the newest come
    the replies that wait to be stored, and with every page those that are being made.

    With *head*, those of the branch that goes on below that message, whatever is shown.

    Raises:
        ChatError: ``unknown_conversation``; ``unknown_message``, field ``head``.
        StoreError: the store cannot be read.
    """
    line = await state["memory"].long_term.line(
        user, conversation, limit=limit, before=before, head=head
    )
    found = line.messages
    late = [] if before else state["late"].of_conversation(user, conversation)
    live, all_known = await _under_way(state, user, conversation)
    if not live and not late and all(message.status == "deleted" for message in found):
        known = await state["memory"].conversations.find(user, conversation)
        if known is None:
            raise ChatError("unknown_conversation", "no such conversation")
    if head is not None and before is None and not found:
        raise ChatError("unknown_message", "no such message in this conversation", field="head")
    broken_off = await _broken_off(state, user, found) if all_known else set()
    broken_off -= {run.message for run in live}
    stored = {message.id for message in found}
    if head is not None:
        late = [message for message in late if message.reply_to in stored]
    return MessagesBody(
        [
            *(
                replace(
                    wire_message(message),
                    reply="interrupted" if message.id in broken_off else None,
                    branches=line.branches.get(message.id, ()),
                )
                for message in found
            ),
            *(
                replace(wire_message(message), stored=False)
                for message in late
                if message.id not in stored
            ),
        ],
        found[0].id if found and found[0].parent else None,
        live,
    )


async def _under_way(
    state: State, user: UserId, conversation: ConversationId
) -> tuple[list[LiveRun], bool]:
    """The replies that are being made in a conversation; and whether these are all, or another
    process may make more of which nobody can be asked.
    """
    here = [
        LiveRun(run.id, run.question.id, run.text)
        for run in state["runs"].of_conversation(user, conversation)
    ]
    elsewhere = await state["switchboard"].elsewhere(user)
    there = [
        LiveRun(run.facts.run, run.facts.question, run.text)
        for run in elsewhere or ()
        if run.facts.conversation == conversation
    ]
    return here + there, elsewhere is not None


def _is_being_answered(state: State, user: UserId, question: MessageId) -> bool:
    """Whether a reply is under way: the one place that decides it, for this process's runs."""
    reply = reply_id(question, 0)
    return state["runs"].answering(question) or state["late"].is_waiting(user, reply)


async def _broken_off(state: State, user: UserId, page: Sequence[Message]) -> set[MessageId]:
    """The questions on *page* whose reply is neither stored nor under way."""
    open_ = [
        question for question in unanswered(page) if not _is_being_answered(state, user, question)
    ]
    if not open_:
        return set()
    # Further replies were stored than stand on this page, or since it was read.
    replies = {reply_id(question, 0): question for question in open_}
    found = await state["memory"].long_term.by_ids(user, list(replies))
    return set(open_) - {replies[reply.id] for reply in found}


def unanswered(page: Sequence[Message]) -> list[MessageId]:
    """The questions on *page*, a stretch of one conversation, without a reply on it.

    Of imported conversations, in which people say several things in a row and nobody owes them a
    reply, none: what stands next to an imported reply was imported, and where there is no reply
    at all, only the last message can be a question that is open.
    """
    answered = {said.reply_to or said.parent for said in page if said.role == "assistant"}
    found: list[MessageId] = []
    was_made_here: bool | None = None
    for said in reversed(page):
        if said.role == "assistant":
            was_made_here = is_reply_id(said.id)
        elif said.id not in answered and said.text and (was_made_here or said is page[-1]):
            found.append(said.id)
    return found[::-1]
