"""Users who talk: WebSocket clients that send at given times, whatever the server does."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from secrets import token_hex

import anyio
import httpx
import msgspec
from anyio.abc import TaskGroup
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

OPEN_AT_ONCE = 16
OPEN_WITHIN_S = 30.0
ENDED_WITHIN_S = 30.0
"""After the last message of a level; a reply that is not over then counts as lost."""
TURNS_PER_CONVERSATION = 8

_SUBJECTS = ("my sister", "our neighbour", "the old teacher", "my dog Biscuit", "a colleague")
_DOINGS = ("is moving to", "came back from", "dreams of", "writes a book about", "is afraid of")
_THINGS = ("Lisbon", "the lighthouse", "a garden of pears", "the night train", "paper kites")
_ASKS = (
    "What would you give as a present?",
    "Do you remember what I told you about it last week?",
    "Please keep that in mind for the summer.",
    "How do I bring it up without hurting anyone?",
)


class Frame(msgspec.Struct):
    """What a client reads of any frame."""

    type: str
    re: str | None = None
    run: str | None = None
    code: str | None = None
    message: msgspec.Raw = msgspec.Raw()
    status: str | None = None
    timings_ms: dict[str, float] = {}


class Turn(msgspec.Struct, kw_only=True):
    """A message and its reply as its sender saw them; seconds of the monotonic clock."""

    text: str
    conversation: str
    due_s: float
    sent_s: float = 0.0
    message: str | None = None
    accepted_s: float | None = None
    first_delta_s: float | None = None
    done_s: float | None = None
    timings_ms: dict[str, float] = {}
    error: str | None = None


class User:
    """One connection; never has two messages under way."""

    def __init__(self, socket: ClientConnection, token: str, free: Callable[[User], None]) -> None:
        self.token = token
        self.turn: Turn | None = None
        self.over = anyio.Event()
        self._socket = socket
        self._free = free
        self._decoder = msgspec.json.Decoder(Frame)
        self._conversation = ""
        self._said = 0

    async def say(self, text: str, due_s: float) -> Turn:
        """Send *text*, now and then in a new conversation."""
        if self._said % TURNS_PER_CONVERSATION == 0:
            self._conversation = token_hex(8)
        self._said += 1
        self.over = anyio.Event()
        turn = self.turn = Turn(text=text, conversation=self._conversation, due_s=due_s)
        frame = {
            "type": "send",
            "id": token_hex(8),
            "text": text,
            "conversation": turn.conversation,
        }
        data = msgspec.json.encode(frame).decode()
        turn.sent_s = time.monotonic()
        await self._socket.send(data)
        return turn

    async def listen(self) -> None:
        """Read until the connection ends."""
        try:
            async for data in self._socket:
                await self._read(self._decoder.decode(data))
        except ConnectionClosed as closed:
            self.end(f"closed {closed.rcvd.code if closed.rcvd else 1006}")

    async def _read(self, frame: Frame) -> None:
        now, turn = time.monotonic(), self.turn
        if frame.type == "ping":
            await self._socket.send('{"type":"pong"}')
        if turn is None:
            return
        match frame.type:
            case "run.delta":
                turn.first_delta_s = turn.first_delta_s or now
            case "accepted":
                turn.accepted_s = now
                turn.message = msgspec.json.decode(frame.message, type=str)
            case "run.done":
                turn.done_s, turn.timings_ms = now, frame.timings_ms
                self.end(None if frame.status == "completed" else frame.status)
            case "error":
                turn.error = frame.code
                if frame.run is None:
                    self.end(frame.code)

    def end(self, error: str | None) -> None:
        """The turn is over, or is given up."""
        if self.turn is not None:
            self.turn.error = self.turn.error or error
            self.turn = None
            self._free(self)
            self.over.set()


class Crowd:
    """Users of one server; ``starved`` counts messages for which no user was free."""

    def __init__(self, url: str, tasks: TaskGroup) -> None:
        self.users: list[User] = []
        self.starved = 0
        self._url = url
        self._idle: deque[User] = deque()
        self._tasks = tasks

    async def grow(self, size: int) -> None:
        """Have at least *size* users connected."""
        limiter = anyio.CapacityLimiter(OPEN_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for _ in range(size - len(self.users)):
                tasks.start_soon(self._enter, limiter)

    async def offer(self, rate: float, turns: int, *, seed: int) -> AsyncIterator[Turn]:
        """Send *turns* messages at random times, *rate* a second on average, and yield each.

        Open loop: a message is sent when it is due (Poisson arrivals, the same ones for the same
        *seed*). Gives up once a fifth of the messages found no free user: the server is behind
        for good.
        """
        chance = random.Random(seed)
        texts = sentences(chance)
        due_s = time.monotonic()
        starved_before = self.starved
        for _ in range(turns):
            due_s += chance.expovariate(rate)
            text = next(texts)
            await anyio.sleep(max(0.0, due_s - time.monotonic()))
            if not self._idle:
                self.starved += 1
                if self.starved - starved_before > 10 + turns / 5:
                    return
                continue
            yield await self._idle.popleft().say(text, due_s)

    async def settle(self) -> None:
        """Wait until every reply is over; what is not over in time is given up as ``lost``."""
        with anyio.move_on_after(ENDED_WITHIN_S):
            for user in self.users:
                if user.turn is not None:
                    await user.over.wait()
        for user in self.users:
            if user.turn is not None:
                user.end("lost")

    async def _enter(self, limiter: anyio.CapacityLimiter) -> None:
        # A client of their own: with the cookie of another, all would be one user.
        async with limiter, httpx.AsyncClient(timeout=OPEN_WITHIN_S, verify=False) as http:  # noqa: S501  # plain HTTP; spares loading the certificates
            answer = await http.post(f"{self._url}/api/session")
            token: str = answer.raise_for_status().json()["token"]
            address = self._url.replace("http", "ws", 1) + "/ws"
            socket = await connect(address, compression=None, ping_interval=None, max_size=None)
            hello = {"type": "hello", "v": 1, "token": token}
            await socket.send(msgspec.json.encode(hello).decode())
            await socket.recv()
            user = User(socket, token, self._idle.append)
            self.users.append(user)
            self._idle.append(user)
            self._tasks.start_soon(user.listen)


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[Crowd]:
    """Users of the server at *url*, none yet; their connections end with the context."""
    async with anyio.create_task_group() as tasks:
        yield Crowd(url, tasks)
        tasks.cancel_scope.cancel()


def sentences(chance: random.Random) -> Iterator[str]:
    """Different messages of about 20 tokens, without end."""
    for number in count(1):
        told = " ".join(chance.choice(words) for words in (_SUBJECTS, _DOINGS, _THINGS))
        yield f"{told}, day {number}. {chance.choice(_ASKS)}"
