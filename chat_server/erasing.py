"""Erasing over HTTP: what users ask for themselves, and what operators do for them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
import structlog
from slowapi import Limiter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.authentication import drop_cookie
from chat_server.errors import ChatError
from chat_server.events import (
    ConversationUpdated,
    MessageDeleted,
    wire_conversation,
    wire_message,
)
from chat_server.http_routes import identify, json_response, state_of, whole_number
from chat_server.request_body import read_body
from chat_server.state import State
from memory.messages import MessageId, UserId, tombstone
from memory.upkeep.erasure_door import ErasureDoor
from memory.upkeep.ledger import Erasure

log = structlog.get_logger(__name__)

ACCEPTED: Final = 202


class EraseMe(msgspec.Struct):
    """The body of ``DELETE /api/me``."""

    confirm: str


class EraseUser(msgspec.Struct):
    """The body of ``POST /admin/erase``; both are the user's id."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    confirm: str


class Receipt(msgspec.Struct):
    """What is answered, now and when somebody asks again.

    ``files``: ``scrubbed`` when it is finished, or ``operator`` where the store is another server,
    whose files are the matter of whoever runs it.
    """

    erasure: str
    requested_at: float
    finished_at: float | None
    files: Literal["scrubbed", "operator"]


class ReceiptsBody(msgspec.Struct):
    """What ``GET /admin/erasures`` answers, newest first."""

    erasures: list[Receipt]


async def erase_me(request: Request) -> Response:
    """Erase all that the session's user ever said and was told; the user is signed out."""
    user = identify(request).user
    body = await read_body(request, EraseMe)
    _check_confirmed(body.confirm, user)
    state = state_of(request)
    response = receipt_response(state, await state["erasures"].forget_user(user))
    response.headers["Set-Cookie"] = drop_cookie()
    return response


async def delete_message(request: Request) -> Response:
    """Erase one message of the session's user; what follows it stays. The user's connections are
    told.
    """
    user = identify(request).user
    state = state_of(request)
    ids = [MessageId(request.path_params["message"])]
    found = await state["memory"].long_term.by_ids(user, ids)
    erasure = await state["erasures"].delete_messages(user, ids)
    if erasure is None:
        raise ChatError("not_found", "no such message, or it is deleted already")
    # After the erasure has begun: all that is told before is forgotten, this would be as well.
    left = wire_message(tombstone(found[0]))
    state["fanout"].publish(user, MessageDeleted(conversation=found[0].conversation, message=left))
    known = await state["memory"].conversations.find(user, found[0].conversation)
    if known is not None:
        state["fanout"].publish(user, ConversationUpdated(conversation=wire_conversation(known)))
    return receipt_response(state, erasure)


async def receipt(request: Request) -> Response:
    """How far an erasure is, for whoever knows its id."""
    state = state_of(request)
    found = await state["erasures"].find(request.path_params["erasure"])
    if found is None:
        raise ChatError("not_found", "no such erasure")
    return receipt_response(state, found, status=200)


async def erase_user(request: Request) -> Response:
    """Erase a user, for an operator."""
    state = state_of(request)
    state["admin"].check(request.headers)
    body = await read_body(request, EraseUser)
    _check_confirmed(body.confirm, UserId(body.user))
    return receipt_response(state, await state["erasures"].forget_user(UserId(body.user)))


async def erasures(request: Request) -> Response:
    """The last erasures, for an operator; who was erased is not told, for nobody knows."""
    state = state_of(request)
    state["admin"].check(request.headers)
    found = await state["erasures"].latest(whole_number(request, "limit", 50, 1_000))
    return json_response(ReceiptsBody([_facts(state["erasures"], it) for it in found]))


def _check_confirmed(confirm: str, user: UserId) -> None:
    if confirm != user:
        raise ChatError(
            "bad_request",
            "erasing cannot be undone: `confirm` must be the user's id",
            field="confirm",
        )


def receipt_response(state: State, erasure: Erasure, *, status: int = ACCEPTED) -> Response:
    """The receipt of *erasure*, as it is now."""
    return json_response(_facts(state["erasures"], erasure), status)


def _facts(erasures: ErasureDoor, erasure: Erasure) -> Receipt:
    files: Literal["scrubbed", "operator"] = "scrubbed" if erasures.scrubs else "operator"
    return Receipt(erasure.id, erasure.requested_at, erasure.finished_at, files)


def erasing_routes(limiter: Limiter, limit: str) -> list[Route]:
    """The routes; those of ``/api`` spend the same limit of requests as all others."""
    limited: Any = limiter.shared_limit(limit, scope="http")
    return [
        Route("/api/me", limited(erase_me), methods=["DELETE"]),
        Route("/api/messages/{message}", limited(delete_message), methods=["DELETE"]),
        Route("/api/erasures/{erasure}", limited(receipt)),
        Route("/admin/erase", erase_user, methods=["POST"]),
        Route("/admin/erasures", erasures),
    ]
