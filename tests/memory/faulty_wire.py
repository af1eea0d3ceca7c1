"""A way to a server that can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import httpx
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

Fault = Literal[
    "request cut", "answer cut", "answer withheld", "answer 500", "answer 418", "vectors 500"
]


class FaultyWire:
    """Passes HTTP requests on to *server*; those whose path ends with ``path`` meet ``fault``,
    after the first ``spared`` of them.
    """

    def __init__(self, server: str) -> None:
        self.url = ""
        self.path = "/add"
        self.fault: Fault | None = None
        self.spared = 0
        self.met = 0
        self._server = httpx.AsyncClient(base_url=server, timeout=30, trust_env=False)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultyWire]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # this is no Django
        self.url = f"http://127.0.0.1:{port}"
        async with listener, self._server, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._connection)
            yield self
            tasks.cancel_scope.cancel()

    async def _connection(self, stream: SocketStream) -> None:
        async with stream:
            incoming = BufferedByteReceiveStream(stream)
            while True:
                try:
                    head = await incoming.receive_until(b"\r\n\r\n", 65_536)
                except (anyio.IncompleteRead, anyio.BrokenResourceError):
                    return
                lines = head.decode().split("\r\n")
                method, path, _ = lines[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:])
                body = await incoming.receive_exactly(int(headers.get("content-length", "0")))
                if not await self._answer(stream, method, path, body):
                    return

    async def _answer(self, stream: SocketStream, method: str, path: str, body: bytes) -> bool:
        """Whether the connection goes on."""
        fault = self.fault if path.endswith(self.path) else None
        if fault is not None and self.spared:
            self.spared -= 1
            fault = None
        self.met += fault is not None
        if fault == "request cut":
            return False
        if fault == "vectors 500" and b'"embeddings"' in body:
            message = b"Error executing plan: Internal error: Error finding id"
            await _send(stream, 500, b'{"error":"InternalError","message":"%b"}' % message)
            return True
        if fault == "answer 418":
            await _send(stream, 418, b"{}")
            return True
        answer = await self._server.request(
            method, path, content=body, headers={"content-type": "application/json"}
        )
        if fault == "answer cut":
            return False
        if fault == "answer withheld":
            await anyio.sleep_forever()
        if fault == "answer 500":
            await _send(stream, 500, b'{"error":"InternalError","message":"no index"}')
        else:
            await _send(stream, answer.status_code, answer.content)
        return True


async def _send(stream: SocketStream, status: int, content: bytes) -> None:
    await stream.send(
        b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(content), content)
    )
