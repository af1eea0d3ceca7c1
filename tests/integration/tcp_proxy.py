"""A line between client and server that a test can cut, hold and mend."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream


class TcpProxy:
    """Passes on what comes to ``url``; ``target`` may be replaced."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.opened = 0
        self.passed_bytes = 0
        self._streams: set[SocketStream] = set()
        self._refusing = False

    async def cut(self, *, refuse: bool = False) -> None:
        """Breaks all connections, without a farewell; *refuse*: and the next ones, too."""
        self._refusing = refuse
        for stream in list(self._streams):
            await anyio.aclose_forcefully(stream)

    def mend(self) -> None:
        self._refusing = False

    async def serve(self, client: SocketStream) -> None:
        if self._refusing:
            await anyio.aclose_forcefully(client)
            return
        self.opened += 1
        host, _, port = self.target.partition("://")[2].rpartition(":")
        with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            server = await anyio.connect_tcp(host, int(port))
            self._streams |= {client, server}
            async with client, server, anyio.create_task_group() as tasks:
                tasks.start_soon(self._pump, client, server, tasks.cancel_scope)
                tasks.start_soon(self._pump, server, client, tasks.cancel_scope)
        self._streams -= {client}

    async def _pump(
        self, source: ByteReceiveStream, sink: ByteSendStream, end: anyio.CancelScope
    ) -> None:
        with contextlib.suppress(
            anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError
        ):
            while True:
                data = await source.receive()
                self.passed_bytes += len(data)
                await sink.send(data)
        end.cancel()


@contextlib.asynccontextmanager
async def tcp_proxy(target: str) -> AsyncIterator[TcpProxy]:
    """A proxy on a free port of loopback to the server at *target*."""
    proxy = TcpProxy(target)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # anyio's, not Django's
    proxy.url = f"http://127.0.0.1:{port}"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()
    await listener.aclose()
