"""uvicorn's WebSocket protocol, with a bound for those who ask and do not listen."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Answers pings while its answers are read, and hangs up on who sends without reading.

    uvicorn answers each ping at once and pauses reading for data frames only, so a client that
    never reads could fill the memory with pongs.
    """

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()
