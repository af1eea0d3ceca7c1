"""One conversation over HTTP: its title, what is shown of it, and its end."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from slowapi import Limiter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.conversation_end import end_conversation
from chat_server.erasing import receipt_response
from chat_server.errors import ChatError
from chat_server.events import (
    ConversationUpdated,
    WireConversation,
    wire_conversation,
)
from chat_server.http_routes import identify, json_response, state_of
from chat_server.protocol import is_visible
from chat_server.request_body import read_body
from chat_server.state import State
from memory.messages import Conversation, ConversationId, MessageId, UserId

MAX_TITLE_CHARS: Final = 200


class PatchConversation(msgspec.Struct):
    """The body of ``PATCH /api/conversations/{id}``: what is to be changed of it.

    ``head``: the newest leaf below that message is shown from then on.
    """

    title: str | None = None
    head: str | None = None


class ConversationBody(msgspec.Struct):
    """What it answers: the conversation as it is then."""

    conversation: WireConversation


async def patch_conversation(request: Request) -> Response:
    """Rename a conversation, or choose what is shown of it; the user's connections are told."""
    user, state = identify(request).user, state_of(request)
    conversation = ConversationId(request.path_params["conversation"])
    wanted = await read_body(request, PatchConversation)
    if wanted.title is None and wanted.head is None:
        raise ChatError("bad_request", "nothing to change: `title`, `head` or both", field="title")
    title = _title(wanted.title) if wanted.title is not None else None
    changed = None
    if wanted.head is not None:
        changed = await _choose(state, user, conversation, MessageId(wanted.head))
        state["switchboard"].tell_rearranged(user, conversation)
    if title is not None:
        changed = await state["memory"].conversations.rename(user, conversation, title)
    if changed is None:
        raise ChatError("unknown_conversation", "no such conversation")
    told = wire_conversation(changed)
    state["fanout"].publish(user, ConversationUpdated(conversation=told))
    return json_response(ConversationBody(told))


async def delete_conversation(request: Request) -> Response:
    """Erase a conversation with all that was said in it."""
    user, state = identify(request).user, state_of(request)
    conversation = ConversationId(request.path_params["conversation"])
    return receipt_response(state, await end_conversation(state, user, conversation))


async def _choose(
    state: State, user: UserId, conversation: ConversationId, head: MessageId
) -> Conversation | None:
    """Have the newest leaf below *head* shown; ``None``: there is no such conversation.

    Raises:
        ChatError: ``unknown_message``, field ``head``.
        StoreError: it cannot be read or stored.
    """
    memory = state["memory"]
    async with state["runs"].lane(user, conversation) as lane:
        if await memory.conversations.find(user, conversation) is None:
            return None
        found = await memory.long_term.by_ids(user, [head])
        if not found or found[0].conversation != conversation:
            raise ChatError("unknown_message", "no such message in this conversation", field="head")
        changed = await memory.conversations.branch(found[0])
        shown = await memory.long_term.latest(user, conversation, limit=1)
        lane.choose(shown[-1])
        await memory.drop_windows(user, [conversation])
    return changed


def _title(text: str) -> str:
    """*text* as a title, on one line.

    Raises:
        ChatError: ``bad_request``, field ``title``.
    """
    title = " ".join(text.split())
    if len(title) > MAX_TITLE_CHARS or not any(is_visible(character) for character in title):
        raise ChatError(
            "bad_request",
            f"title is a text of 1 to {MAX_TITLE_CHARS} characters, one of them visible",
            field="title",
        )
    return title


def conversation_routes(limiter: Limiter, limit: str) -> list[Route]:
    """The routes; they spend the same limit of requests as all others."""
    limited: Any = limiter.shared_limit(limit, scope="http")
    path = "/api/conversations/{conversation}"
    return [
        Route(path, limited(patch_conversation), methods=["PATCH"]),
        Route(path, limited(delete_conversation), methods=["DELETE"]),
    ]
