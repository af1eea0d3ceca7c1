"""Replies from OpenAI's chat completions, or from a server that speaks like it.

The client is openai's, but not its typed requests and chunks: those alone cost more than the
rest of a turn (decision 0005).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final, Self, cast

import aiohttp
import anyio
import httpx2
import msgspec
import openai

from chat_server.errors import ErrorCode
from chat_server.model_failure import connection_failure, model_failure, status_failure
from chat_server.prompt import Prompt, PromptMessage
from chat_server.reply_model import ReplyEnd, ReplyText
from chat_server.server_sent_events import EventReader, EventTooLong
from chat_server.settings import ConfigError, ModelSettings

CONNECT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
TAIL_TIMEOUT_S: Final = 1.0
"""How long the token counts may come after the last word; without them the reply is complete."""
DRAIN_TIMEOUT_S: Final = 0.1
"""How long the end of the response may come after ``[DONE]``; only then is the connection kept."""
KEEPALIVE_S: Final = 30.0
"""An idle connection kept saves the next turn a TLS handshake before its first token."""

PLACEHOLDER_KEY: Final = "none"
"""Sent to a server of one's own that needs no key: openai's client insists on one."""

# What breaks beneath the client once a response has begun; openai translates only what is before.
# Its aiohttp transport lets a malformed HTTP response through as aiohttp's own error.
_BROKEN_CONNECTION: Final = (httpx2.HTTPError, aiohttp.ClientError, OSError)


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = True


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    messages: tuple[PromptMessage, ...]
    max_tokens: int
    temperature: float
    stream: bool = True
    stream_options: _StreamOptions = _StreamOptions()


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None  # servers differ in its shape; that there is one is enough


_encoder = msgspec.json.Encoder()
_chunk_decoder = msgspec.json.Decoder(_Chunk)


class _Completion:
    """What has been said of one completion so far."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage = _Usage()
        self.done = False
        self.defect: str | None = None
        self._events = EventReader()

    def feed(self, chunk: bytes) -> str:
        """The text in *chunk*; what comes before a defect is kept, and ``defect`` names it."""
        texts: list[str] = []
        try:
            for data in self._events.feed(chunk):
                if data.startswith(b"[DONE]"):
                    self.done = True
                    break
                if data:
                    self._take(_chunk_decoder.decode(data), texts)
        except EventTooLong:
            self.defect = "event_too_long"
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.defect = "garbage"
        return "".join(texts)

    def _take(self, part: _Chunk, texts: list[str]) -> None:
        if part.error is not None:
            self.defect = "error_event"
        if part.usage is not None:
            self.usage = part.usage
        for choice in part.choices or ():
            if choice.delta is not None and choice.delta.content:
                texts.append(choice.delta.content)
            self.finish_reason = choice.finish_reason or self.finish_reason


class OpenAIReplyModel:
    """Implements ``ReplyModel`` with ``openai.AsyncOpenAI``; belongs to one event loop.

    A failed request is never repeated here: the server may have worked on it already, and would
    be paid twice. Several pieces that arrive together come as one.
    """

    def __init__(self, client: openai.AsyncOpenAI, settings: ModelSettings) -> None:
        self._client = client
        self._settings = settings

    @classmethod
    def open(cls, settings: ModelSettings, api_key: str | None, base_url: str | None) -> Self:
        """Make a client; nothing is sent yet.

        A server of one's own (*base_url*) needs no key. Without *base_url* it is OpenAI's.

        Raises:
            ConfigError: there is neither a key nor a server, or one of them cannot be used.
        """
        key = (api_key or "").strip()
        if not key and not base_url:
            raise ConfigError("a language model needs OPENAI_API_KEY or model.base_url")
        if not key.isascii():
            raise ConfigError("OPENAI_API_KEY may only have ASCII characters")
        if base_url and not base_url.lower().startswith(("http://", "https://")):
            raise ConfigError("model.base_url must begin with http:// or https://")
        # Waits for answers are timed below, by what has arrived; hence no read time-out.
        timeout = openai.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
        limits = httpx2.Limits(
            max_connections=1000, max_keepalive_connections=100, keepalive_expiry=KEEPALIVE_S
        )
        client = openai.AsyncOpenAI(
            api_key=key or PLACEHOLDER_KEY,
            base_url=base_url or None,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
        )
        return cls(client, settings)

    @property
    def name(self) -> str:
        return self._settings.name

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ReplyText | ReplyEnd, None]:
        deadline = anyio.current_time() + self._settings.first_token_timeout_s
        response = await self._send(prompt, deadline)
        chunks = response.aiter_bytes()
        completion = _Completion()
        try:
            while not completion.done:
                chunk = await _next_chunk(chunks, completion, deadline)
                if chunk is None:
                    break
                finished_before = completion.finish_reason is not None
                text = completion.feed(chunk)
                if text:
                    yield ReplyText(text)
                if completion.defect is not None:
                    raise model_failure("model_interrupted", completion.defect, response)
                # Only words move the deadline, not comments that keep the connection alive; and
                # it counts from now, because what the caller did meanwhile is no pause.
                if completion.finish_reason is None:
                    if text:
                        deadline = anyio.current_time() + self._settings.idle_timeout_s
                elif not finished_before:
                    deadline = anyio.current_time() + TAIL_TIMEOUT_S
            if completion.finish_reason is None:
                raise model_failure("model_interrupted", "no_finish_reason", response)
            await _drain(chunks)
        finally:
            await _close(chunks, response)
        yield ReplyEnd(
            completion.finish_reason,
            completion.usage.prompt_tokens,
            completion.usage.completion_tokens,
        )

    async def aclose(self) -> None:
        await self._client.close()

    async def _send(self, prompt: Prompt, deadline: float) -> httpx2.Response:
        """The response, its body unread.

        A connection that the server closed while it was idle is found out when it is written to:
        nothing was sent then, so that it is tried once more, and billed once.
        """
        request = _encoder.encode(
            _Request(
                model=self._settings.name,
                messages=prompt.messages,
                max_tokens=self._settings.max_tokens,
                temperature=self._settings.temperature,
            )
        )
        try:
            with anyio.CancelScope(deadline=deadline):
                try:
                    return await self._post(request)
                except (openai.APIConnectionError, *_BROKEN_CONNECTION) as error:
                    if not _was_not_sent(error):
                        raise
                return await self._post(request)
        except openai.APIStatusError as error:
            # Not "from error": its text is the server's, and may quote the prompt.
            raise status_failure(error) from None
        except (openai.OpenAIError, *_BROKEN_CONNECTION) as error:
            raise connection_failure(error) from None
        raise model_failure("model_timeout", "no_response")

    async def _post(self, request: bytes) -> httpx2.Response:
        response = await self._client.post(
            "/chat/completions",
            content=request,
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        # With this cast_to the client returns the response itself, whatever stream_cls.
        return cast("httpx2.Response", response)


def _was_not_sent(error: BaseException) -> bool:
    """Whether the connection was found closed before a byte of the request was written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, aiohttp.ClientConnectionResetError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


async def _next_chunk(
    chunks: AsyncGenerator[bytes, None], completion: _Completion, deadline: float
) -> bytes | None:
    """The next bytes; ``None`` at the end, and when only the end of a finished reply is amiss."""
    code: ErrorCode = "model_timeout"
    cause = "pause"
    try:
        with anyio.CancelScope(deadline=deadline):
            return await anext(chunks, None)
    except _BROKEN_CONNECTION as error:
        code, cause = "model_interrupted", type(error).__name__
    if completion.finish_reason is not None:
        return None
    raise model_failure(code, cause)


async def _drain(chunks: AsyncGenerator[bytes, None]) -> None:
    """Read the end of the response, so that its connection serves the next one."""
    with suppress(*_BROKEN_CONNECTION), anyio.move_on_after(DRAIN_TIMEOUT_S):
        async for _ in chunks:
            pass


async def _close(chunks: AsyncGenerator[bytes, None], response: httpx2.Response) -> None:
    """End the request, also while being cancelled; one that is not at its end is cut."""
    with (
        suppress(*_BROKEN_CONNECTION),
        anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True),
    ):
        await chunks.aclose()
        await response.aclose()
