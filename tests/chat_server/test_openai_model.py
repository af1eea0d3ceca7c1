from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from email.utils import formatdate
from typing import Any

import aiohttp
import anyio
import httpx2
import openai
import pytest
from structlog.testing import capture_logs

from chat_server.errors import ModelFailed
from chat_server.openai_model import OpenAIReplyModel
from chat_server.prompt import Prompt, PromptMessage
from chat_server.reply_model import ReplyEnd, ReplyText
from chat_server.settings import ConfigError, ModelSettings
from tests.stub_model import Mode, StubModel

PROMPT = Prompt(
    messages=(
        PromptMessage("system", "You are brief."),
        PromptMessage("user", "Grüße, 世界! Where is my boat?"),
    ),
    question="Grüße, 世界! Where is my boat?",
    memories=(),
    window=(),
)


@pytest.fixture
def stub() -> StubModel:
    return StubModel()


@pytest.fixture
def base_url(stub: StubModel) -> Iterator[str]:
    with stub.running() as url:
        yield url


@asynccontextmanager
async def opened(
    base_url: str, key: str | None = "a-key", **settings: object
) -> AsyncGenerator[OpenAIReplyModel, None]:
    model = OpenAIReplyModel.open(ModelSettings.model_validate(settings), key, base_url)
    try:
        yield model
    finally:
        await model.aclose()


async def told(model: OpenAIReplyModel) -> tuple[str, ReplyEnd | ModelFailed]:
    """The text that came, and how it ended."""
    text = ""
    ends: list[ReplyEnd] = []
    try:
        async with aclosing(model.stream(PROMPT)) as pieces:
            async for piece in pieces:
                if isinstance(piece, ReplyText):
                    assert piece.text
                    assert not ends
                    text += piece.text
                else:
                    ends.append(piece)
    except ModelFailed as failure:
        assert not ends
        return text, failure
    [end] = ends
    return text, end


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not fact():
            await anyio.sleep(0.01)


async def test_a_reply_comes_whole_with_its_token_counts(base_url: str) -> None:
    async with opened(base_url) as model:
        text, end = await told(model)
    assert text == " ".join(f"word{number}" for number in range(1, 11))
    assert end == ReplyEnd("stop", input_tokens=9, output_tokens=10)


async def test_a_reply_is_streamed_not_collected(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(kind="hang", after_tokens=2)
    async with opened(base_url) as model, aclosing(model.stream(PROMPT)) as pieces:
        text = ""
        with anyio.fail_after(10):
            while text != "word1 word2":
                piece = await anext(pieces)
                assert isinstance(piece, ReplyText)
                text += piece.text


async def test_the_request_says_what_the_settings_say(stub: StubModel, base_url: str) -> None:
    async with opened(base_url, name="some-model", max_tokens=77, temperature=0.2) as model:
        assert model.name == "some-model"
        await told(model)
    [request] = stub.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer a-key"
    assert request.headers["content-type"] == "application/json"
    assert request.body == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "Grüße, 世界! Where is my boat?"},
        ],
        "max_tokens": 77,
        "temperature": 0.2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_server_of_ones_own_needs_no_key(stub: StubModel, base_url: str) -> None:
    async with opened(base_url, key=None) as model:
        assert isinstance((await told(model))[1], ReplyEnd)
    assert stub.requests[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize(
    ("key", "url"),
    [(None, None), ("", ""), ("schlüssel", None), ("a-key", "localhost:8080/v1")],
)
def test_what_cannot_be_used_is_a_configuration_error(key: str | None, url: str | None) -> None:
    with pytest.raises(ConfigError):
        OpenAIReplyModel.open(ModelSettings.model_validate({}), key, url)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("401", "model_unauthorized"),
        ("403", "model_unauthorized"),
        ("429", "model_rate_limited"),
        ("400", "model_refused"),
        ("500", "model_unavailable"),
        ("cut", "model_interrupted"),
        ("cut_clean", "model_interrupted"),
        ("garbage", "model_interrupted"),
        ("error_event", "model_interrupted"),
    ],
)
async def test_each_failure_has_its_code_and_is_asked_for_once(
    stub: StubModel, base_url: str, kind: str, code: str
) -> None:
    stub.mode = Mode(kind=kind)  # type: ignore[arg-type]  # the parameters are kinds
    with capture_logs() as logs:
        async with opened(base_url) as model:
            text, failure = await told(model)
    assert isinstance(failure, ModelFailed)
    assert failure.code == code
    assert failure.__cause__ is None
    assert "vendor-internal" not in failure.message + repr(logs)
    assert text == ("" if kind.isdigit() else "word1 word2 word3")
    assert len(stub.requests) == 1
    [entry] = logs
    assert (entry["event"], entry["code"]) == ("model.request_failed", code)
    assert (entry["request_id"] == "stub-request") or kind == "cut"


async def test_a_rate_limit_says_when_to_come_back(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(kind="429", retry_after_s=7.5)
    async with opened(base_url) as model:
        _, failure = await told(model)
    assert isinstance(failure, ModelFailed)
    assert failure.retry_after_ms == 7500


async def test_no_first_token_is_a_time_out(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(kind="ok", first_token_ms=60_000)
    async with opened(base_url, first_token_timeout_s=0.2) as model:
        text, failure = await told(model)
        await until(lambda: stub.requests[0].closed_early)
    assert isinstance(failure, ModelFailed)
    assert (text, failure.code) == ("", "model_timeout")


async def test_no_answer_at_all_is_a_time_out(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(kind="hang", after_tokens=0)
    async with opened(base_url, first_token_timeout_s=0.2) as model:
        _, failure = await told(model)
        await until(lambda: stub.requests[0].closed_early)
    assert isinstance(failure, ModelFailed)
    assert failure.code == "model_timeout"


async def test_a_pause_within_a_reply_is_a_time_out(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(kind="hang", after_tokens=2)
    async with opened(base_url, idle_timeout_s=0.2) as model:
        text, failure = await told(model)
        await until(lambda: stub.requests[0].closed_early)
    assert isinstance(failure, ModelFailed)
    assert (text, failure.code) == ("word1 word2", "model_timeout")


async def test_a_slow_reader_is_no_pause_of_the_model(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(tokens=2, token_ms=1500)
    text = ""
    async with opened(base_url, idle_timeout_s=1.0) as model:
        async for piece in model.stream(PROMPT):
            if isinstance(piece, ReplyText):
                text += piece.text
                await anyio.sleep(1.2)
    assert text == "word1 word2"


async def test_closing_the_generator_closes_the_request(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(kind="hang", after_tokens=1)
    async with opened(base_url) as model:
        async with aclosing(model.stream(PROMPT)) as pieces:
            await anext(pieces)
        await until(lambda: stub.requests[0].closed_early)


@pytest.mark.parametrize("after_tokens", [0, 1])
async def test_cancelling_closes_the_request(
    stub: StubModel, base_url: str, after_tokens: int
) -> None:
    stub.mode = Mode(kind="hang", after_tokens=after_tokens)
    async with opened(base_url) as model:
        async with anyio.create_task_group() as group:
            group.start_soon(told, model)
            await until(lambda: bool(stub.requests))
            await until(lambda: stub.requests[0].tokens_sent == after_tokens)
            group.cancel_scope.cancel()
        await until(lambda: stub.requests[0].closed_early)


async def test_a_finished_reply_is_complete_without_its_token_counts(
    stub: StubModel, base_url: str
) -> None:
    stub.mode = Mode(tokens=2, usage=False, done=False)
    async with opened(base_url) as model:
        text, end = await told(model)
    assert (text, end) == ("word1 word2", ReplyEnd("stop"))


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_the_finish_reason_is_passed_on(stub: StubModel, base_url: str, reason: str) -> None:
    stub.mode = Mode(finish_reason=reason)
    async with opened(base_url) as model:
        _, end = await told(model)
    assert isinstance(end, ReplyEnd)
    assert end.finish_reason == reason


async def test_one_connection_serves_reply_after_reply(stub: StubModel, base_url: str) -> None:
    async with opened(base_url) as model:
        for _ in range(3):
            await told(model)
    assert len({request.client_port for request in stub.requests}) == 1


@pytest.mark.parametrize(
    ("broken", "calls"),
    [
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), 2),
        (aiohttp.ServerDisconnectedError(), 1),
    ],
)
async def test_only_what_was_certainly_not_sent_is_sent_again(
    base_url: str, broken: Exception, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(base_url) as model:
        post, asked = model._client.post, []

        async def fails_once(*args: Any, **more: Any) -> Any:
            asked.append(1)
            if len(asked) == 1:
                request = httpx2.Request("POST", base_url)
                raise openai.APIConnectionError(request=request) from broken
            return await post(*args, **more)

        monkeypatch.setattr(model._client, "post", fails_once)
        _, end = await told(model)
    assert len(asked) == calls
    assert isinstance(end, ReplyEnd) == (calls == 2)


async def test_many_replies_at_once_stay_apart(stub: StubModel, base_url: str) -> None:
    stub.mode = Mode(tokens=20, token_ms=1)
    ends: list[tuple[str, ReplyEnd | ModelFailed]] = []

    async def one() -> None:
        ends.append(await told(model))

    async with opened(base_url) as model, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
    assert {text for text, _ in ends} == {" ".join(f"word{n}" for n in range(1, 21))}
    assert len(ends) == 20


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        async with opened(f"http://127.0.0.1:{unused.getsockname()[1]}/v1") as model:
            _, failure = await told(model)
    assert isinstance(failure, ModelFailed)
    assert failure.code == "model_unavailable"


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that reads one request, writes *answer* and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked = b""
            while b"stream_options" not in asked:
                asked += connection.recv(65536)
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        thread.join(timeout=10)
        listener.close()


def events(*data: bytes, head: bytes = b"") -> bytes:
    """An answer that ends with its connection."""
    body = b"".join(b"data: " + one + b"\n\n" for one in data)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + head + b"\r\n" + body


WORD = b'{"choices":[{"index":0,"delta":{"content":"word"}}]}'
FINISH = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    ("answer", "text", "outcome"),
    [
        (b"", "", "model_unavailable"),
        (b"220 mail.example ESMTP\r\n", "", "model_unavailable"),
        (events(b"not json"), "", "model_interrupted"),
        (events(WORD, b'{"choices":[{"delta":{"content":"\xff"}}]}'), "word", "model_interrupted"),
        (events(WORD, b"[" * 100_000), "word", "model_interrupted"),
        (events(WORD, b"x" * 300_000), "word", "model_interrupted"),
        (events(WORD, b"[DONE]"), "word", "model_interrupted"),
        (events(b'{"error":"overloaded"}'), "", "model_interrupted"),
        (events(b'{"choices":null}', WORD, FINISH), "word", "stop"),
        (events(WORD, FINISH, head=b"Content-Length: 9999\r\n"), "word", "stop"),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            "",
            "model_unavailable",
        ),
    ],
)
async def test_odd_answers_end_as_what_they_are(answer: bytes, text: str, outcome: str) -> None:
    with answering(answer) as url:
        async with opened(url) as model:
            came, end = await told(model)
    assert came == text
    assert (end.code if isinstance(end, ModelFailed) else end.finish_reason) == outcome


@pytest.mark.parametrize(
    ("value", "least_ms", "most_ms"),
    [("2", 2000, 2000), ("86400", 3_600_000, 3_600_000), ("-5", 0, 0)],
)
async def test_a_wait_is_bounded(value: str, least_ms: int, most_ms: int) -> None:
    failure = await refused(value)
    assert failure.retry_after_ms is not None
    assert least_ms <= failure.retry_after_ms <= most_ms


async def test_a_wait_may_be_a_date() -> None:
    failure = await refused(formatdate(4_000_000_000, usegmt=True))
    assert failure.retry_after_ms == 3_600_000


@pytest.mark.parametrize("value", ["soon", "nan", "inf"])
async def test_a_wait_that_is_none_is_left_out(value: str) -> None:
    assert (await refused(value)).retry_after_ms is None


async def refused(retry_after: str) -> ModelFailed:
    head = f"HTTP/1.1 429 Too Many\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n"
    with answering(head.encode()) as url:
        async with opened(url) as model:
            _, failure = await told(model)
    assert isinstance(failure, ModelFailed)
    return failure
