"""What can go wrong for a client: the server said no, or nobody answered."""

from __future__ import annotations


class ClientError(Exception):
    """What the client library raises."""


class ServerError(ClientError):
    """The server refused; ``code`` is one of docs/protocol.md, or a newer server's.

    ``retryable``: the same can succeed later, not before ``retry_after_ms`` where that is said.
    ``field`` names the part of the request that is wrong.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.field = field


class Unreachable(ClientError):
    """There is no connection to the server; worth trying again."""


class NoAnswer(ClientError):
    """The server did not answer in time. A message may have been stored: repeating it with the
    same id is safe.
    """


class TooMuchWaiting(ClientError):
    """More commands wait for their answer than the server would take at once."""


class OutboxFailed(ClientError):
    """The file in which messages wait cannot be used: it is another user's, another process has it,
    or the disk does not take more.
    """
