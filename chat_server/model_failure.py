"""What became of a failed request to the language model: a code, a line in the log, a sentence.

What the server wrote is neither logged nor told, save the name it has for an error: the rest may
quote the prompt or a part of the key.
"""

from __future__ import annotations

import email.utils
import math
import time
from typing import Final

import httpx2
import openai
import structlog

from chat_server.errors import ErrorCode, ModelFailed

LONGEST_RETRY_AFTER_MS: Final = 3_600_000
SERVER_ERROR: Final = 500
LONGEST_FACT: Final = 64
"""Characters of what a server calls an error or a request, in the log."""

TOLD: Final[dict[ErrorCode, str]] = {
    "model_unauthorized": "the language model refused the server's key",
    "model_rate_limited": "the language model has too much to do; try again later",
    "model_unavailable": "the language model cannot be reached",
    "model_timeout": "the language model took too long",
    "model_interrupted": "the language model broke off before its reply was complete",
    "model_refused": "the language model refused the request",
}

log = structlog.get_logger(__name__)


def status_failure(error: openai.APIStatusError) -> ModelFailed:
    """The failure of a request that was answered with an error status."""
    code: ErrorCode
    match error.status_code:
        case 401 | 403:
            code = "model_unauthorized"
        case 408:
            code = "model_timeout"
        case 429:
            code = "model_rate_limited"
        case status if status >= SERVER_ERROR:
            code = "model_unavailable"
        case _:
            code = "model_refused"
    cause = error.code or ""
    return model_failure(code, cause if cause.isidentifier() else "status", error.response)


def connection_failure(error: Exception) -> ModelFailed:
    """The failure of a request without a response.

    What the error calls a time-out is none when the server hung up: see what is beneath it.
    """
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    timed_out = isinstance(root, TimeoutError | httpx2.TimeoutException)
    return model_failure("model_timeout" if timed_out else "model_unavailable", type(root).__name__)


def model_failure(
    code: ErrorCode, cause: str, response: httpx2.Response | None = None
) -> ModelFailed:
    """Log *cause* for the operator; the client is told a sentence of ours."""
    headers = httpx2.Headers() if response is None else response.headers
    retry_after_ms = _retry_after_ms(headers)
    log.warning(
        "model.request_failed",
        code=code,
        cause=cause[:LONGEST_FACT],
        status=None if response is None else response.status_code,
        request_id=headers.get("x-request-id", "")[:LONGEST_FACT] or None,
        retry_after_ms=retry_after_ms,
    )
    return ModelFailed(code, TOLD[code], retry_after_ms=retry_after_ms)


def _retry_after_ms(headers: httpx2.Headers) -> int | None:
    """RFC 9110, section 10.2.3: seconds or a date; at most an hour is believed."""
    value = headers.get("retry-after", "")
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    if not math.isfinite(wait_s):
        return None
    return min(max(int(wait_s * 1000), 0), LONGEST_RETRY_AFTER_MS)
