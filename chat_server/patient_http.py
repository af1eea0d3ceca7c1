"""uvicorn's HTTP protocol, with bounds for who begins a request and does not end its head."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_WITHIN_S: Final = 10.0
MAX_HEAD_BYTES: Final = 65_536


class PatientHttp(HttpToolsProtocol):
    """Hangs up on who does not send the head of a request within ``HEAD_WITHIN_S``, or not within
    ``MAX_HEAD_BYTES``.

    uvicorn waits for it for ever, and keeps whatever is sent until it comes: a slow client would
    cost an open file, and an endless header all memory. Between requests uvicorn's own time-out
    holds.
    """

    head_within_s = HEAD_WITHIN_S
    _head_timer: TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_within_s, self._head_missed)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_missed(self) -> None:
        if self.flow.read_paused:  # it is we who do not read: a request before it is being answered
            self._head_timer = self.loop.call_later(self.head_within_s, self._head_missed)
        else:
            self.transport.abort()
