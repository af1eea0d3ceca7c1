"""One message in the terminal: sent, answered, stopped."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError, Future
from typing import Final

import anyio
from anyio.from_thread import BlockingPortal

from chat_server.client import Client, ClientError, Reply, ServerError
from chat_server.terminal_input import LineInput
from chat_server.terminal_screen import Screen

LOOK_EVERY_S: Final = 0.05
"""How often is looked whether a reply is over, while lines may be typed."""
REPEATED: Final = {
    "not_stored": "not stored yet; trying again",
    "store_unknown": "it is not certain that it is stored; trying again",
    "store_busy": "the server is busy storing other messages; trying again",
}
"""What is said of a message that is repeated here: the server's words tell others to do it."""


class Speaking:
    """Sends messages and shows their replies; Ctrl-C stops a reply, a second one leaves."""

    def __init__(
        self, portal: BlockingPortal, client: Client, lines: LineInput, screen: Screen
    ) -> None:
        self._portal = portal
        self._client = client
        self._lines = lines
        self._screen = screen
        self._reply: Reply | None = None
        self._pause: anyio.CancelScope | None = None
        self._asked_to_stop = False

    def say(self, text: str, conversation: str) -> bool:
        """Send *text* and show the reply to its end; ``False``: the user wants to leave.

        Raises:
            ClientError: it was refused, or there is no answer.
        """
        self._asked_to_stop = False
        future = self._portal.start_task_soon(self._follow, text, conversation)
        while not future.done():
            try:
                self._wait(future)
            except KeyboardInterrupt:
                if self._asked_to_stop:
                    future.cancel()
                    return False
                self._stop()
        try:
            return future.result()
        except CancelledError:
            return False

    def _wait(self, future: Future[bool]) -> None:
        """Wait for the end; on a terminal only a moment, for what may be typed meanwhile."""
        if not self._lines.interactive:
            future.exception()
            return
        line = self._lines.typed(LOOK_EVERY_S)
        if line is None:
            return
        if line.strip() in {"/stop", "/quit"} and not self._asked_to_stop:
            self._stop()
        if line.strip() != "/stop":
            self._lines.put_back(line)

    def _stop(self) -> None:
        self._asked_to_stop = True
        self._portal.start_task_soon(self._stop_what_goes_on)

    async def _stop_what_goes_on(self) -> None:
        """End the waiting, or the reply."""
        if self._pause is not None:
            self._pause.cancel()
        elif self._reply is None or self._reply.acceptance is None:
            self._screen.note("waiting for the server; Ctrl-C again leaves")
        else:
            try:
                await self._reply.stop()
            except ClientError as failure:
                self._screen.problem(str(failure))

    async def _follow(self, text: str, conversation: str) -> bool:
        """Send, and wait as long as the server says where it will not take more for now."""
        reply = self._client.send(text, conversation=conversation)
        while True:
            self._reply = reply
            try:
                await self._show(reply)
            except ServerError as refusal:
                if reply.acceptance is not None or refusal.retry_after_ms is None:
                    raise
                if not await self._count_down(refusal, refusal.retry_after_ms):
                    self._screen.problem("not sent")
                    return True
                reply = self._client.send(text, conversation=conversation, id=reply.id)
            else:
                return True
            finally:
                self._reply = None

    async def _show(self, reply: Reply) -> None:
        begun = False
        async for piece in reply:
            if not begun:
                begun = True
                self._screen.memories(reply.memories)
            self._screen.piece(piece)
        self._screen.ended(await reply.result())

    async def _count_down(self, refusal: ServerError, wait_ms: int) -> bool:
        """Wait for *wait_ms*, counting; ``False``: the user does not want to wait."""
        self._screen.problem(REPEATED.get(refusal.code, refusal.message))
        with anyio.CancelScope() as pause, self._screen.countdown() as show:
            self._pause = pause
            for left_s in range(math.ceil(wait_ms / 1000), 0, -1):
                show(f"sending again in {left_s} s; Ctrl-C gives up")
                await anyio.sleep(1)
        self._pause = None
        self._asked_to_stop = False
        return not pause.cancelled_caught
