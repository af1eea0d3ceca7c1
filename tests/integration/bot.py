"""A client that speaks raw JSON frames and remembers everything it was told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect

Frame = dict[str, Any]

ANSWER_WITHIN_S = 30.0


class Bot:
    """One connection; ``frames`` holds all that came, in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[Frame] = []
        self.welcome: Frame = {}

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def receive(self) -> Frame:
        with anyio.fail_after(ANSWER_WITHIN_S):
            frame: Frame = json.loads(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def until(self, matches: Callable[[Frame], bool]) -> Frame:
        """Receive until a frame *matches*."""
        while True:
            frame = await self.receive()
            if matches(frame):
                return frame

    async def until_type(self, kind: str) -> Frame:
        return await self.until(lambda frame: frame["type"] == kind)

    async def say(self, text: str, **more: Any) -> Frame:
        """Send *text* and return the answer: ``accepted`` or ``error``."""
        message = more.pop("id", None) or token_hex(8)
        await self.send(type="send", id=message, text=text, **more)
        return await self.until(
            lambda frame: frame["type"] in {"accepted", "error"} and frame.get("re") == message
        )

    async def ask(self, text: str, **more: Any) -> Frame:
        """Send *text* and return the ``run.done`` of its reply."""
        answer = await self.say(text, **more)
        assert answer["type"] == "accepted", answer
        return await self.done(answer["run"])

    async def done(self, run: str) -> Frame:
        for frame in self.frames:
            if frame["type"] == "run.done" and frame["run"] == run:
                return frame
        return await self.until(lambda frame: frame["type"] == "run.done" and frame["run"] == run)

    def streamed(self, run: str) -> str:
        """The text that the deltas of *run* add up to; each must fit the one before."""
        text = ""
        for frame in self.frames:
            if frame["type"] == "run.delta" and frame["run"] == run:
                assert frame["offset"] == len(text)
                text += frame["text"]
        return text


@asynccontextmanager
async def bot(url: str, token: str | None, **hello: Any) -> AsyncIterator[Bot]:
    """Connect, say hello, and read the welcome."""
    address = url.replace("http", "ws", 1) + "/ws"
    async with connect(address, subprotocols=["tandem.v1"], max_size=None) as socket:  # type: ignore[list-item]  # Subprotocol is a NewType of str
        client = Bot(socket)
        greeting = {"v": 1, **({"token": token} if token else {}), **hello}
        await client.send(type="hello", **greeting)
        client.welcome = await client.receive()
        assert client.welcome["type"] == "welcome", client.welcome
        yield client
