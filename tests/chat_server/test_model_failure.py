from __future__ import annotations

import time
from email.utils import formatdate

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chat_server.model_failure import (
    LONGEST_FACT,
    LONGEST_RETRY_AFTER_MS,
    TOLD,
    connection_failure,
    model_failure,
    status_failure,
)

REQUEST = httpx2.Request("POST", "http://model.test/v1/chat/completions")


def answered(
    status: int, body: object = None, headers: dict[str, str] | None = None
) -> openai.APIStatusError:
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return openai.APIStatusError("the prompt was: secret", response=response, body=body)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "model_refused"),
        (401, "model_unauthorized"),
        (403, "model_unauthorized"),
        (404, "model_refused"),
        (408, "model_timeout"),
        (422, "model_refused"),
        (429, "model_rate_limited"),
        (500, "model_unavailable"),
        (503, "model_unavailable"),
    ],
)
def test_a_status_says_what_went_wrong(status: int, code: str) -> None:
    with capture_logs() as logs:
        failure = status_failure(answered(status))
    assert failure.code == code
    assert failure.message == TOLD[failure.code]
    assert (logs[0]["status"], logs[0]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("context_length_exceeded", "context_length_exceeded"),
        ("you said: my secret", "status"),
        (None, "status"),
        (400, "status"),
        (["nested"], "status"),
    ],
)
def test_only_a_name_is_taken_from_the_server_s_answer(code: object, cause: str) -> None:
    with capture_logs() as logs:
        failure = status_failure(answered(400, {"message": "my secret", "code": code}))
    assert logs[0]["cause"] == cause
    assert "secret" not in str(logs) + str(failure)


def test_long_names_are_cut_in_the_log() -> None:
    with capture_logs() as logs:
        status_failure(answered(400, {"code": "x" * 500}, {"x-request-id": "y" * 500}))
    assert logs[0]["cause"] == "x" * LONGEST_FACT
    assert logs[0]["request_id"] == "y" * LONGEST_FACT


@pytest.mark.parametrize(
    ("value", "retry_after_ms"),
    [
        ("2", 2_000),
        ("0.25", 250),
        ("-5", 0),
        ("1e99", LONGEST_RETRY_AFTER_MS),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_how_long_to_wait_is_told_as_the_server_says(
    value: str, retry_after_ms: int | None
) -> None:
    failure = status_failure(answered(429, headers={"retry-after": value}))
    assert failure.retry_after_ms == retry_after_ms


def test_a_date_is_a_wait_from_now() -> None:
    later = formatdate(time.time() + 600, usegmt=True)
    failure = status_failure(answered(429, headers={"retry-after": later}))
    assert failure.retry_after_ms is not None
    assert 0 < failure.retry_after_ms <= 600_000


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=40))
def test_whatever_a_server_sends_for_a_wait_is_a_wait_or_nothing(value: str) -> None:
    failure = status_failure(answered(429, headers={"retry-after": value}))
    wait_ms = failure.retry_after_ms
    assert wait_ms is None or 0 <= wait_ms <= LONGEST_RETRY_AFTER_MS


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (TimeoutError(), "model_timeout", "TimeoutError"),
        (
            caused(openai.APITimeoutError(REQUEST), httpx2.ReadTimeout("late", request=REQUEST)),
            "model_timeout",
            "ReadTimeout",
        ),
        (
            caused(openai.APITimeoutError(REQUEST), ConnectionResetError()),
            "model_unavailable",
            "ConnectionResetError",
        ),
        (openai.APIConnectionError(request=REQUEST), "model_unavailable", "APIConnectionError"),
    ],
)
def test_without_an_answer_what_is_beneath_the_error_says_why(
    error: Exception, code: str, cause: str
) -> None:
    with capture_logs() as logs:
        failure = connection_failure(error)
    assert failure.code == code
    assert logs[0]["cause"] == cause
    assert logs[0]["status"] is None


def test_every_code_has_its_sentence() -> None:
    for code in TOLD:
        assert code.startswith("model_")
        assert model_failure(code, "a cause").message == TOLD[code]
