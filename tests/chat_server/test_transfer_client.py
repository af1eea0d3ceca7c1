from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from chat_server.foreign_formats import Skipped
from chat_server.transfer_client import Told, TransferFailed, Upload, open_client, receive, send

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "conversations.json"
Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer) -> httpx.Client:
    return httpx.Client(base_url="http://test", transport=httpx.MockTransport(answer))


def rows(*bodies: object) -> httpx.Response:
    return httpx.Response(200, content="".join(json.dumps(body) + "\n" for body in bodies))


def test_lines_are_sent_as_they_stand_and_other_formats_as_lines() -> None:
    skipped: list[Skipped] = []
    content = b"one\ntwo\n" * 20_000
    upload = Upload(content, "ndjson", skipped.append)
    assert b"".join(upload.chunks()) == content
    assert upload.lines == 40_000
    upload = Upload(FIXTURE.read_bytes(), "chatgpt", skipped.append)
    sent = b"".join(upload.chunks()).splitlines()
    assert [json.loads(row)["text"] for row in sent][1] == "She may be cold."
    assert (len(sent), upload.lines, upload.skipped, len(skipped)) == (6, 6, 1, 1)
    upload = Upload(b'[{"role": "user", "content": "hi"}]', "openai", skipped.append)
    assert json.loads(b"".join(upload.chunks()))["text"] == "hi"


def test_what_the_server_tells_is_passed_on_and_the_summary_returned() -> None:
    told: list[Told] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/conversations":
            return httpx.Response(200, json={})
        assert request.read() == b"ab"
        wrong = {"code": "bad_request", "message": "no", "retryable": False}
        return rows({"read": 1}, {"line": 2, "error": wrong}, {"done": True, "stored": 1})

    with client_of(answer) as http:
        summary = send(http, iter([b"a", b"b"]), told.append)
    assert (summary.stored, [it.line for it in told]) == (1, [None, 2, None])


@pytest.mark.parametrize("rest", [[], [httpx.ReadError("gone")]])
def test_an_import_that_ends_early_says_how_far_it_came(rest: list[Exception]) -> None:
    def answered() -> Iterator[bytes]:
        yield b'{"read": 1200, "stored": 1100}\n'
        yield b'{"line": 1201, "error": {"code": "bad_request", "message": "no"}}\n'
        for fault in rest:
            raise fault

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answered())

    with (
        client_of(answer) as http,
        pytest.raises(TransferFailed, match=r"; 1,100 of 1,200 lines read were stored; run it"),
    ):
        send(http, iter([]), lambda _told: None)


@pytest.mark.parametrize(
    "body", [{"read": 1}, {"done": False, "error": {"code": "x", "message": "away"}}]
)
def test_an_import_without_an_end_has_failed(body: object) -> None:
    with client_of(lambda _: rows(body)) as http, pytest.raises(TransferFailed, match="run it"):
        send(http, iter([]), lambda _told: None)


def test_nothing_is_sent_to_a_server_that_refuses() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        return httpx.Response(401, json={"error": {"code": "x", "message": "who are you"}})

    with client_of(refuse) as http, pytest.raises(TransferFailed, match="who are you"):
        send(http, iter([]), lambda _told: None)
    with (
        client_of(lambda _: httpx.Response(502, text="<html>")) as http,
        pytest.raises(TransferFailed, match="answered 502"),
    ):
        receive(http, io.BytesIO(), lambda _part: None)


def test_an_export_that_breaks_off_has_failed() -> None:
    def parts() -> Iterator[bytes]:
        yield b"one\n"
        raise httpx.RemoteProtocolError("peer closed connection")

    target = io.BytesIO()
    with (
        client_of(lambda _: httpx.Response(200, content=parts())) as http,
        pytest.raises(TransferFailed, match="the connection broke"),
    ):
        receive(http, target, lambda _part: None)


def test_a_server_that_is_not_there_is_said_so() -> None:
    with (
        open_client("http://127.0.0.1:9", "t") as http,
        pytest.raises(TransferFailed, match="cannot be reached"),
    ):
        receive(http, io.BytesIO(), lambda _part: None)
    with open_client("nonsense", "t") as http, pytest.raises(TransferFailed):
        receive(http, io.BytesIO(), lambda _part: None)
