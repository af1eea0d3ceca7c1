"""What a client may be told: one table of codes, and the exceptions that carry them."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from memory import errors as faults

ErrorCode = Literal[
    "bad_frame",
    "bad_request",
    "empty_text",
    "text_too_long",
    "not_authenticated",
    "token_expired",
    "forbidden",
    "unsupported_version",
    "no_hello",
    "no_pong",
    "slow_client",
    "too_many_commands",
    "too_many_connections",
    "overloaded",
    "not_found",
    "unknown_conversation",
    "unknown_parent",
    "unknown_message",
    "unknown_run",
    "id_conflict",
    "rate_limited",
    "busy",
    "not_stored",
    "store_unknown",
    "store_busy",
    "erasing",
    "not_ready",
    "shutting_down",
    "model_unauthorized",
    "model_rate_limited",
    "model_unavailable",
    "model_timeout",
    "model_interrupted",
    "model_refused",
    "internal",
]


class ErrorKind(NamedTuple):
    """What follows from a code: worth trying again, the HTTP status, and the WebSocket close code
    where the connection ends with it (44xx: come back; 45xx: do not).
    """

    retryable: bool
    status: int
    close: int | None = None


def _final(status: int, close: int | None = None) -> ErrorKind:
    """The same request will fail again."""
    return ErrorKind(retryable=False, status=status, close=close)


def _passing(status: int, close: int | None = None) -> ErrorKind:
    """The same request can succeed later."""
    return ErrorKind(retryable=True, status=status, close=close)


ERRORS: Final[dict[ErrorCode, ErrorKind]] = {
    "bad_frame": _final(400, 4500),
    "bad_request": _final(400),
    "empty_text": _final(400),
    "text_too_long": _final(413),
    "not_authenticated": _final(401, 4501),
    "token_expired": _passing(401, 4401),
    "forbidden": _final(403, 4503),
    "unsupported_version": _final(400, 4505),
    "no_hello": _final(408, 4507),
    "no_pong": _passing(408, 4412),
    "slow_client": _passing(408, 4408),
    "too_many_commands": _passing(429, 4429),
    "too_many_connections": _final(429, 4504),
    "overloaded": _passing(503),
    "not_found": _final(404),
    "unknown_conversation": _final(404),
    "unknown_parent": _final(404),
    "unknown_message": _final(404),
    "unknown_run": _final(404),
    "id_conflict": _final(409),
    "rate_limited": _passing(429),
    "busy": _passing(409),
    "not_stored": _passing(503),
    "store_unknown": _passing(503),
    "store_busy": _passing(503),
    "erasing": _passing(503),
    "not_ready": _passing(503),
    "shutting_down": _passing(503, 4400),
    "model_unauthorized": _final(502),
    "model_rate_limited": _passing(502),
    "model_unavailable": _passing(502),
    "model_timeout": _passing(504),
    "model_interrupted": _passing(502),
    "model_refused": _final(502),
    "internal": _passing(500, 4411),
}


class ChatError(Exception):
    """Something a client is told.

    ``field`` names the part of the request that is wrong; ``retry_after_ms`` says when the same
    request can succeed.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code: ErrorCode = code
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms

    @property
    def retryable(self) -> bool:
        return ERRORS[self.code].retryable


class ModelFailed(ChatError):
    """The language model gave no reply, or not all of it; the code begins with ``model_``."""


def unforeseen() -> ChatError:
    """What a client is told of a fault of ours, whose facts are for the log only."""
    return ChatError("internal", "something went wrong on the server; try again")


def told_of_reading(fault: faults.MemoryFault) -> ChatError:
    """As :func:`told`, for a request that only reads: nothing of it was to be stored."""
    unreadable = isinstance(fault, faults.StoreUnavailable)
    if unreadable and not isinstance(fault, faults.UserBeingErased | faults.ConversationDeleted):
        return ChatError("not_ready", "the store cannot be read just now", retry_after_ms=1000)
    return told(fault)


def told(fault: faults.MemoryFault) -> ChatError:
    """What a client is told of *fault*: nothing of paths, hosts or other users."""
    match fault:
        case faults.IdConflict():
            return ChatError(
                "id_conflict", "this id was used for another message; make a new id", field="id"
            )
        case faults.StoreBusy():
            return ChatError(
                "store_busy",
                "too many messages are waiting to be stored; send again with the same id",
                retry_after_ms=1000,
            )
        case faults.StoreUnknown():
            return ChatError(
                "store_unknown",
                "it is not known whether the message was stored; send again with the same id",
                retry_after_ms=1000,
            )
        case faults.ConversationDeleted():
            return ChatError(
                "unknown_conversation", "this conversation was deleted", field="conversation"
            )
        case faults.UserBeingErased():
            return ChatError(
                "erasing",
                "all that you said is being erased; try again in a minute",
                retry_after_ms=10_000,
            )
        case faults.StoreUnavailable():
            return ChatError(
                "not_stored",
                "the message was not stored; send again with the same id",
                retry_after_ms=1000,
            )
        case faults.EmbeddingFailed():
            return ChatError("not_stored", "the message could not be indexed; send it again")
        case _:
            return unforeseen()
