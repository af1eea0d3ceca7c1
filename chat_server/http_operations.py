"""What can be asked for over HTTP: one table of routes, for the document made from it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from chat_server.conversation_routes import ConversationBody, PatchConversation
from chat_server.erasing import EraseMe, EraseUser, Receipt, ReceiptsBody
from chat_server.errors import ErrorCode
from chat_server.events import ErrorFacts
from chat_server.figures import Summary as Figures
from chat_server.figures import WorkerLine
from chat_server.history import MessagesBody
from chat_server.http_routes import ConversationsBody, SearchBody, SessionBody
from chat_server.memory_routes import MemoryBody, PatchMemory
from chat_server.readiness import PartState
from chat_server.transfer_import import Counts
from chat_server.transfer_lines import Line
from chat_server.transfer_report import LineError, Summary

Access = Literal["open", "session", "admin", "local"]
"""Who may ask: anybody; who has a session; who has the admin token; the machine itself without it.
"""

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


class ErrorBody(msgspec.Struct):
    """What every error is answered with."""

    error: ErrorFacts


class HealthBody(msgspec.Struct):
    """The process lives."""

    status: Literal["ok"]


class PartBody(msgspec.Struct, omit_defaults=True):
    """One part of the server. ``reason`` is told on the machine itself only; ``healing`` while
    vectors are made anew: ``collections``, ``done`` and ``total``.
    """

    state: PartState
    reason: str | None = None
    healing: Mapping[str, int] | None = None


class ReadinessBody(msgspec.Struct):
    """Whether messages can be taken, and how each part is."""

    ready: bool
    draining: bool
    parts: Mapping[str, PartBody]


class FiguresBody(Figures, frozen=True, kw_only=True, rename="camel"):
    """The figures of the admin page."""

    connected_users: int
    running_replies: int
    hot_memory: Mapping[str, float]
    readiness: ReadinessBody
    workers: Sequence[WorkerLine]
    answered_by: int


@dataclass(frozen=True)
class Parameter:
    """One parameter of the query."""

    name: str
    kind: Hashable
    meaning: str
    required: bool = False


@dataclass(frozen=True)
class Operation:
    """One method of one path. ``answers`` are the types that the body may have, or each line of it
    with NDJSON; without one, what it is has no type here.
    """

    method: str
    path: str
    summary: str
    answers: Sequence[Hashable] = ()
    access: Access = "session"
    status: int = 200
    media: str = JSON
    parameters: Sequence[Parameter] = ()
    body: Hashable | None = None
    body_media: str = JSON
    errors: Sequence[ErrorCode] = ()


def _limit(default: int, most: int) -> Parameter:
    kind = Annotated[int, msgspec.Meta(ge=1, le=most)]
    return Parameter("limit", kind, f"how many at most; {default} by default")


_READ: Final[tuple[ErrorCode, ...]] = ("not_ready", "rate_limited")
_BEFORE: Final = "where the page before ended: its `before`"

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("GET", "/healthz", "Whether the process lives.", (HealthBody,), access="open"),
    Operation(
        "GET",
        "/readyz",
        "Whether messages can be taken; 503 with the same body while they cannot.",
        (ReadinessBody,),
        access="open",
    ),
    Operation(
        "GET", "/asyncapi.json", "The WebSocket protocol for machines, AsyncAPI 3.", access="open"
    ),
    Operation("GET", "/openapi.json", "This document.", access="open"),
    Operation(
        "POST",
        "/api/session",
        "Renew the session that comes with the request, or begin a guest's; sets the cookie too.",
        (SessionBody,),
        access="open",
        errors=("not_authenticated", "rate_limited"),
    ),
    Operation(
        "GET",
        "/api/conversations",
        "The user's conversations, last updated first.",
        (ConversationsBody,),
        parameters=(_limit(50, 200), Parameter("before", str, _BEFORE)),
        errors=("bad_request", *_READ),
    ),
    Operation(
        "GET",
        "/api/conversations/{conversation}/messages",
        "A page of a conversation, oldest first, and the replies that are being made in it.",
        (MessagesBody,),
        parameters=(
            _limit(50, 200),
            Parameter("before", str, "the id to ask for older ones"),
            Parameter("head", str, "read the branch that goes on below this message instead"),
        ),
        errors=("bad_request", "unknown_conversation", "unknown_message", *_READ),
    ),
    Operation(
        "PATCH",
        "/api/conversations/{conversation}",
        "Rename a conversation, or choose what is shown of it: the newest leaf below `head`.",
        (ConversationBody,),
        body=PatchConversation,
        errors=("bad_request", "unknown_conversation", "unknown_message", *_READ),
    ),
    Operation(
        "DELETE",
        "/api/conversations/{conversation}",
        "Erase a conversation with all that was said in it; a receipt.",
        (Receipt,),
        status=202,
        errors=("unknown_conversation", "store_busy", *_READ),
    ),
    Operation(
        "GET",
        "/api/search",
        "The memories that fit `q` best: as a reply would be given them.",
        (SearchBody,),
        parameters=(
            Parameter(
                "q",
                Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)],
                "what is looked for",
                required=True,
            ),
            Parameter(
                "k", Annotated[int, msgspec.Meta(ge=1, le=50)], "how many at most; 10 by default"
            ),
            Parameter(
                "plan",
                Literal["relevant", "deep"],
                "search in this way, also for what a message would not be searched for",
            ),
        ),
        errors=("bad_request", *_READ),
    ),
    Operation(
        "GET",
        "/api/export",
        "All messages, one a line; a body that ends without its end was broken off.",
        (Line,),
        media=NDJSON,
        errors=("busy", "rate_limited"),
    ),
    Operation(
        "POST",
        "/api/import",
        "Store messages, one a line; answered line by line while they come.",
        (Counts, LineError, Summary),
        media=NDJSON,
        body=Line,
        body_media=NDJSON,
        errors=("busy", "rate_limited"),
    ),
    Operation(
        "PATCH",
        "/api/memories/{memory}",
        "Forget one message, or undo that: it stays where it was said, and is recalled no more, or "
        "again. `memory` is a message's id, as in the items of a search.",
        (MemoryBody,),
        body=PatchMemory,
        errors=("bad_request", "not_found", *_READ),
    ),
    Operation(
        "DELETE",
        "/api/messages/{message}",
        "Erase one message; what follows it stays.",
        (Receipt,),
        status=202,
        errors=("not_found", "erasing", *_READ),
    ),
    Operation(
        "DELETE",
        "/api/me",
        "Erase all that the session's user ever said and was told; the user is signed out.",
        (Receipt,),
        status=202,
        body=EraseMe,
        errors=("bad_request", *_READ),
    ),
    Operation(
        "GET",
        "/api/erasures/{erasure}",
        "How far an erasure is, for whoever knows its id.",
        (Receipt,),
        access="open",
        errors=("not_found", *_READ),
    ),
    Operation(
        "POST",
        "/admin/erase",
        "Erase a user.",
        (Receipt,),
        access="admin",
        status=202,
        body=EraseUser,
        errors=("bad_request", "not_ready"),
    ),
    Operation(
        "GET",
        "/admin/erasures",
        "The last erasures, newest first; who was erased is not told.",
        (ReceiptsBody,),
        access="admin",
        parameters=(_limit(50, 1_000),),
        errors=("bad_request", "not_ready"),
    ),
    Operation(
        "GET",
        "/admin/metrics",
        "Figures for people and dashboards; more stands beside those that are named here.",
        (FiguresBody,),
        access="admin",
    ),
    Operation(
        "GET",
        "/metrics",
        "Figures for Prometheus; open on the machine itself.",
        (str,),
        access="local",
        media="text/plain",
    ),
)
