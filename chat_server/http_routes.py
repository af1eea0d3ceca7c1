"""What is not live: sessions, lists, history, search, health."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final, cast

import msgspec
from slowapi import Limiter
from slowapi.util import get_remote_address
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.authentication import (
    Identity,
    bearer_token,
    origin_allowed,
    session_token,
    set_cookie,
)
from chat_server.errors import ERRORS, ChatError
from chat_server.events import WireConversation, error_facts, wire_conversation
from chat_server.history import read_page
from chat_server.state import State
from memory.messages import ConversationId, MessageId
from memory.paging import NotACursor
from memory.planner import Plan, PlanKind, plan_for
from memory.recalled import Recall, Recalled

MAX_QUERY_CHARS: Final = 2_000
MAX_DIGITS: Final = 9
SEARCHING: Final[tuple[PlanKind, ...]] = ("relevant", "deep")
PROXY_HEADERS: Final = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a page of another site cannot make a browser send as Host for this machine's address."""


def json_response(body: object, status: int = 200) -> Response:
    """*body* as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error_response(error: ChatError) -> Response:
    """*error* in the shape that all HTTP errors have."""
    response = json_response({"error": error_facts(error)}, ERRORS[error.code].status)
    if error.retry_after_ms is not None:
        response.headers["Retry-After"] = str(-(-error.retry_after_ms // 1000))
    return response


def state_of(request: Request) -> State:
    """The lifespan's state."""
    return cast("State", request.state)


def identify(request: Request) -> Identity:
    """Who asks.

    Raises:
        ChatError: ``not_authenticated``; ``forbidden``, for a page of a foreign origin that would
            use the cookie: of a page on another port of this machine browsers send it along.
    """
    headers = request.headers
    token = session_token(headers)
    if token is None:
        raise ChatError("not_authenticated", "no session; POST /api/session gives one")
    allowed = state_of(request)["settings"].server.allowed_origins
    if bearer_token(headers) is None and not origin_allowed(
        headers.get("origin"), headers.get("host"), allowed
    ):
        raise ChatError("forbidden", "this origin may not use the session cookie")
    return state_of(request)["authenticator"].identify(token)


def limit_key(request: Request) -> str:
    """Whose HTTP limit a request spends: the session's user, else the address."""
    try:
        return f"user:{identify(request).user}"
    except ChatError:
        return f"address:{get_remote_address(request)}"


def whole_number(request: Request, name: str, default: int, most: int) -> int:
    """A query parameter from 1 to *most*.

    Raises:
        ChatError: ``bad_request``, naming the parameter.
    """
    given = request.query_params.get(name)
    if given is None:
        return default
    number = int(given) if given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS else 0
    if not 1 <= number <= most:
        raise ChatError("bad_request", f"{name} is a whole number from 1 to {most}", field=name)
    return number


def is_local(request: Request) -> bool:
    """Whether the request was made on this machine, not passed on by a proxy on it."""
    passed_on = not PROXY_HEADERS.isdisjoint(request.headers.keys())
    if request.client is None or passed_on or request.url.hostname not in LOCAL_NAMES:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def health(_request: Request) -> Response:
    """Whether the process lives; says nothing of its parts."""
    return json_response({"status": "ok"})


async def readiness(request: Request) -> Response:
    """Whether messages can be taken, and which part is not ready; why is told on the machine
    itself only, because reasons name folders and addresses.
    """
    found = state_of(request)["readiness"]
    report = found.report(reasons=is_local(request))
    return json_response(report, 200 if found.ready else 503)


class SessionBody(msgspec.Struct):
    """What ``POST /api/session`` answers."""

    token: str
    user: str


async def session(request: Request) -> Response:
    """Renew the session that comes with the request, or begin a guest's.

    A token that is not valid is an error, not a new guest: somebody who was known must not
    silently become a stranger. Without the cookie or header a new guest begins.
    """
    authenticator = state_of(request)["authenticator"]
    token = session_token(request.headers)
    identity = authenticator.identify(token) if token else authenticator.new_guest()
    fresh = authenticator.token(identity)
    response = json_response(SessionBody(fresh, identity.user))
    secure = request.url.scheme == "https"
    response.headers["Set-Cookie"] = set_cookie(fresh, secure=secure)
    return response


class ConversationsBody(msgspec.Struct):
    """What ``GET /api/conversations`` answers."""

    conversations: list[WireConversation]
    before: str | None


async def conversations(request: Request) -> Response:
    """The user's conversations, last updated first."""
    user = identify(request).user
    limit = whole_number(request, "limit", 50, 200)
    before = request.query_params.get("before")
    try:
        page = await state_of(request)["memory"].conversations.page(
            user, limit=limit, before=before
        )
    except NotACursor as error:
        raise ChatError("bad_request", "`before` is no page's end", field="before") from error
    body = ConversationsBody(
        [wire_conversation(found) for found in page.conversations], page.before
    )
    return json_response(body)


async def messages(request: Request) -> Response:
    """A page of a conversation, oldest first, and the replies that are being made in it."""
    user = identify(request).user
    before, head = (request.query_params.get(name) for name in ("before", "head"))
    body = await read_page(
        state_of(request),
        user,
        ConversationId(request.path_params["conversation"]),
        limit=whole_number(request, "limit", 50, 200),
        before=MessageId(before) if before else None,
        head=MessageId(head) if head else None,
    )
    return json_response(body)


class SearchBody(msgspec.Struct):
    """What ``GET /api/search`` answers."""

    items: tuple[Recalled, ...]
    plan: PlanKind
    reason: str
    took_ms: float
    partial: bool


async def search(request: Request) -> Response:
    """The user's memories that fit ``q`` best: as a reply would be given them.

    What a reply would not search for is not searched for here either, unless ``plan`` says how.
    """
    user = identify(request).user
    query = request.query_params.get("q", "").strip()
    if not query or len(query) > MAX_QUERY_CHARS:
        raise ChatError(
            "bad_request", f"q is a text of 1 to {MAX_QUERY_CHARS:,} characters", field="q"
        )
    memory = state_of(request)["memory"]
    limit = whole_number(request, "k", 10, 50)
    plan = _wanted_plan(request) or plan_for(query)
    found = Recall(items=(), took_ms=0.0)
    if plan.searches:
        embedded = await memory.embed_marked(user, query)
        found = await memory.recall(user, query, embedded, limit=limit)
    return json_response(
        SearchBody(found.items, plan.kind, plan.reason, found.took_ms, found.partial)
    )


def _wanted_plan(request: Request) -> Plan | None:
    """The plan that the request names.

    Raises:
        ChatError: ``bad_request``.
    """
    named = request.query_params.get("plan")
    if named is None:
        return None
    for kind in SEARCHING:
        if kind == named:
            return Plan(kind, "asked_for")
    raise ChatError("bad_request", f"plan is one of {', '.join(SEARCHING)}", field="plan")


async def missing(request: Request) -> Response:  # noqa: ARG001  # slowapi wants the name
    """No such path below ``/api``."""
    raise ChatError("not_found", "no such path")


def http_routes(limiter: Limiter, limit: str) -> list[Route]:
    """The routes; those of ``/api`` share one limit per user (slowapi's notation)."""
    limited: Any = limiter.shared_limit(limit, scope="http")
    return [
        Route("/healthz", health),
        Route("/readyz", readiness),
        Route("/api/session", limited(session), methods=["POST"]),
        Route("/api/conversations", limited(conversations)),
        Route("/api/conversations/{conversation}/messages", limited(messages)),
        Route("/api/search", limited(search)),
        Route("/api/{path:path}", limited(missing)),
    ]
