"""The client's side of the HTTP routes: sessions, lists, history, search."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from chat_server.client_errors import ServerError, Unreachable
from chat_server.client_token import Token
from chat_server.client_values import Conversation, ErrorFacts, Memory, Message

ANSWER_WITHIN_S: Final = 15.0

Body = TypeVar("Body")


class Session(msgspec.Struct, frozen=True):
    """Who the server takes the holder of ``token`` for."""

    token: str
    user: str


class ConversationPage(msgspec.Struct, frozen=True):
    """Conversations, last updated first; ``before`` asks for the next page."""

    conversations: list[Conversation]
    before: str | None = None


class LiveRun(msgspec.Struct, frozen=True):
    """A reply that is being made: ``text`` is what it says so far."""

    run: str
    message: str
    text: str


class MessagePage(msgspec.Struct, frozen=True):
    """Part of a conversation, oldest first; ``before`` asks for what stands before it."""

    messages: list[Message]
    before: str | None = None
    runs: list[LiveRun] = []


class SearchPage(msgspec.Struct, frozen=True):
    """What a search found, best first."""

    items: list[Memory]
    plan: str = ""
    reason: str = ""
    took_ms: float = 0.0
    partial: bool = False


class ErrorBody(msgspec.Struct, frozen=True):
    """How the server says no over HTTP."""

    error: ErrorFacts


class HttpApi:
    """Asks the server at *url* as the holder of *token*; each answer within ``ANSWER_WITHIN_S``.

    All methods raise ``ServerError`` where the server refuses and ``Unreachable`` where it
    cannot be asked.
    """

    def __init__(self, url: str, token: Token | str | None) -> None:
        self._token = Token(token) if isinstance(token, str) else token
        self._http = httpx.AsyncClient(base_url=url, timeout=ANSWER_WITHIN_S)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def session(self) -> Session:
        """Renew the session; without a token, begin a guest's."""
        return await self._ask("POST", "/api/session", Session)

    async def conversations(self, *, limit: int, before: str | None = None) -> ConversationPage:
        """A page of the user's conversations."""
        return await self._ask(
            "GET", "/api/conversations", ConversationPage, limit=limit, before=before
        )

    async def messages(
        self, conversation: str, *, limit: int, before: str | None = None
    ) -> MessagePage:
        """A page of a conversation, and the replies that are being made in it."""
        path = f"/api/conversations/{quote(conversation, safe='')}/messages"
        return await self._ask("GET", path, MessagePage, limit=limit, before=before)

    async def search(self, query: str, *, limit: int) -> SearchPage:
        """The memories that fit *query* best."""
        return await self._ask("GET", "/api/search", SearchPage, q=query, k=limit)

    async def _ask(
        self, method: str, path: str, body: type[Body], **query: str | int | None
    ) -> Body:
        given = {name: value for name, value in query.items() if value is not None}
        holder = {"Authorization": f"Bearer {self._token.value}"} if self._token else {}
        try:
            answer = await self._http.request(method, path, params=given, headers=holder)
        except httpx.TransportError as fault:
            raise Unreachable(f"{self._http.base_url}: {fault or type(fault).__name__}") from fault
        if answer.is_error:
            raise _refusal(answer)
        try:
            return msgspec.json.decode(answer.content, type=body)
        except (msgspec.DecodeError, UnicodeError) as wrong:
            raise ServerError("internal", f"{path}: this is no answer of Tandem") from wrong


def _refusal(answer: httpx.Response) -> ServerError:
    """What the server says, or what its status (or a proxy's) amounts to."""
    try:
        facts = msgspec.json.decode(answer.content, type=ErrorBody).error
    except (msgspec.DecodeError, UnicodeError):
        passing = answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS
        return ServerError("internal", f"HTTP status {answer.status_code}", retryable=passing)
    return ServerError(
        facts.code,
        facts.message,
        retryable=facts.retryable,
        retry_after_ms=facts.retry_after_ms,
        field=facts.field,
    )
