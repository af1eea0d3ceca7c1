"""The generator of ``bench/wire.py``, a process of its own: connects, listens, and counts.

Commands come as JSON, one a line, on standard input; each is answered by one line of JSON.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import uvloop

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script

from bench.wire_link import PING, PONG, Link, Told, small_socket  # noqa: E402 - after the path is set

Answer = dict[str, Any]
AT_ONCE: Final = 64
WITHIN_S: Final = 120.0
SPEAKERS: Final = 3
"""Replies to a user at the same time: with one, 40 frames a second and tab are all there is to
send, and the bench would measure itself.
"""
PINGS_PER_S: Final = 4.0
RETRY_S: Final = 1.0
SETTLE_S: Final = 0.5
"""For what comes behind the last event that was waited for."""
DELTA: Final = b'{"type":"run.delta"'


class Event(msgspec.Struct):
    """What is read of a frame."""

    type: str
    run: str = ""
    re: str = ""
    seq: int = 0
    epoch: str = ""
    code: str = ""
    retryable: bool = False


class Clients:
    """All connections, in groups by name."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._loop = asyncio.get_running_loop()
        self._groups: dict[str, list[Link]] = {}
        self.frames = 0
        self._due = 0
        self._arrived = asyncio.Event()
        self.last_s = 0.0
        self.missed_bytes = 0
        self._decoder = msgspec.json.Decoder(Event)

    async def connect(self, group: str, tokens: list[str], *, small: bool = False) -> Answer:
        """Open a connection for each token, ``AT_ONCE`` at a time; an empty one says no hello.

        A connection is open when it was upgraded, and welcomed if it said hello.
        """
        links = self._groups.setdefault(group, [])
        begun, waiting = time.monotonic(), iter(tokens)

        async def work() -> None:
            for token in waiting:
                link, _ = await self.open(token, small=small)
                links.append(link)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())
        return {"took_s": time.monotonic() - begun, "connected": len(links)}

    async def open(
        self, token: str, told: Told | None = None, *, small: bool = False, **hello: Any
    ) -> tuple[Link, Event]:
        """A connection, and its welcome; *told* gets what comes after that."""
        ready: asyncio.Future[Event] = self._loop.create_future()

        def opened(link: Link) -> None:
            if token:
                greeting = {"type": "hello", "v": 1, "token": token, **hello}
                link.send(msgspec.json.encode(greeting))
            else:
                ready.set_result(Event("welcome"))

        def welcomed(link: Link, payload: bytes) -> None:
            event = self._decoder.decode(payload)
            link.told = told or self.count
            if event.type == "welcome":
                ready.set_result(event)
            else:
                ready.set_exception(ConnectionError(payload.decode()))

        link = Link(token, opened, welcomed if token else self.count)
        if small:
            raw = small_socket(*self._at)
            await self._loop.create_connection(lambda: link, sock=raw)
        else:
            await self._loop.create_connection(lambda: link, *self._at)
        async with asyncio.timeout(WITHIN_S):
            return link, await ready

    def count(self, _link: Link, payload: bytes) -> None:
        if payload.startswith(DELTA):
            self.frames += 1
            self.last_s = time.monotonic()
            if self.frames == self._due:
                self._arrived.set()

    async def stream(self, group: str, frames: int) -> Answer:
        """Have the bare server send *frames* to each; until all are here."""
        links = self._groups[group]
        self._due, self.frames = frames * len(links), 0
        self._arrived.clear()
        begun = time.monotonic()
        links[0].send(b"stream %d" % frames)
        async with asyncio.timeout(WITHIN_S):
            await self._arrived.wait()
        return {"frames": self.frames, "took_s": self.last_s - begun}

    async def listen(self, group: str) -> Answer:
        """Have the first connections of every user say something, each in its own conversation;
        count the pieces of the replies that all of them get, from the first to the last.
        """
        speakers = _speakers(self._groups[group], SPEAKERS)
        self.frames = 0
        firsts_s = await asyncio.gather(*(self._turn(link) for link in speakers))
        await asyncio.sleep(SETTLE_S)
        return {
            "frames": self.frames,
            "took_s": self.last_s - min(firsts_s),
            "turns": len(firsts_s),
        }

    async def _turn(self, link: Link) -> float:
        """Say something and wait until the reply is over; when its first piece came. What was not
        stored, on a busy machine, is sent again.
        """
        ended: asyncio.Queue[Event] = asyncio.Queue()
        first_s, run = 0.0, ""

        def told(link: Link, payload: bytes) -> None:
            nonlocal first_s, run
            if payload.startswith(DELTA):
                first_s = first_s or time.monotonic()
                self.count(link, payload)
            elif payload.startswith((b'{"seq":', b'{"type":"error"', b'{"type":"accepted"')):
                event = self._decoder.decode(payload)
                if event.type == "accepted":
                    run = event.run
                elif event.type == "error" or (event.type == "run.done" and event.run == run):
                    ended.put_nowait(event)

        link.told = told
        frame: dict[str, Any] = {
            "type": "send",
            "id": token_hex(8),
            "text": f"Tell me about {token_hex(4)}.",
        }
        async with asyncio.timeout(WITHIN_S):
            while True:
                link.send(msgspec.json.encode(frame))
                event = await ended.get()
                if event.type == "run.done":
                    break
                if not event.retryable:
                    raise ConnectionError(event.code)
                frame["retry"] = True
                await asyncio.sleep(RETRY_S)
        link.told = self.count
        return first_s

    async def _ping(self, link: Link, done: asyncio.Event) -> list[float]:
        """How soon *link* is answered, in ms, ``PINGS_PER_S`` times a second until *done*."""
        took_ms: list[float] = []
        answered = asyncio.Event()

        def told(_link: Link, payload: bytes) -> None:
            if payload == PONG:
                answered.set()

        link.told = told
        await asyncio.sleep(random.random() / PINGS_PER_S)
        while not done.is_set():
            answered.clear()
            begun = time.monotonic()
            link.send(PING)
            async with asyncio.timeout(WITHIN_S):
                await answered.wait()
            took_ms.append((time.monotonic() - begun) * 1000)
            await asyncio.sleep(1 / PINGS_PER_S)
        return took_ms

    async def chatter(self, group: str, turns: int, *, paused: bool) -> Answer:
        """*turns* replies to every user, one after the other, while the others are asked how soon
        they are answered; the connections that do not speak read nothing if *paused*.
        """
        links = self._groups[group]
        speakers = _speakers(links)
        silent = [link for link in links if link not in speakers]
        for link in silent if paused else ():
            link.transport.pause_reading()
        done = asyncio.Event()

        async def talk(link: Link) -> None:
            for _ in range(turns):
                await self._turn(link)

        async def talk_all() -> None:
            await asyncio.gather(*(talk(link) for link in speakers))
            done.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk_all())
            watched = [
                tasks.create_task(self._ping(link, done)) for link in self._groups["watched"]
            ]
        times = [ms for task in watched for ms in task.result()]
        return {
            "ping_ms": times,
            "silent": len(silent),
            "closed": sum(link.ended for link in silent),
        }

    async def close_codes(self, group: str) -> Answer:
        """Read again; the codes of the connections that the server has closed."""
        for link in self._groups[group]:
            if not link.ended:
                link.transport.resume_reading()
        await asyncio.sleep(2.0)
        codes: dict[str, int] = {}
        for link in self._groups[group]:
            if link.close_code is not None:
                codes[str(link.close_code)] = codes.get(str(link.close_code), 0) + 1
        return {"codes": codes}

    async def resume(self, group: str, turns: int, times: int, missed: int) -> Answer:
        """Have the user of *group* miss *missed* events, of *turns* turns, and come back *times*
        times; how long each took, from the connection to the last event.
        """
        (speaker,) = self._groups[group]
        for _ in range(turns):
            await self._turn(speaker)
        await asyncio.sleep(SETTLE_S)
        _, welcome = await self.open(speaker.token)
        point = {"epoch": welcome.epoch, "seq": welcome.seq - missed}
        took_ms = [await self._come_back(speaker.token, point, missed) for _ in range(times)]
        return {"took_ms": took_ms, "bytes": self.missed_bytes}

    async def _come_back(self, token: str, point: dict[str, Any], missed: int) -> float:
        arrived: asyncio.Future[bytes] = self._loop.create_future()
        count = self.missed_bytes = 0

        def told(_link: Link, payload: bytes) -> None:
            nonlocal count
            count += 1
            self.missed_bytes += len(payload)
            if count == missed and not arrived.done():
                arrived.set_result(payload)

        begun = time.monotonic()
        link, _ = await self.open(token, told, resume=point)
        async with asyncio.timeout(WITHIN_S):
            last = self._decoder.decode(await arrived)
        took_s = time.monotonic() - begun
        if last.seq != point["seq"] + missed:
            raise ConnectionError(f"{last.seq} came last")
        link.end()
        return took_s * 1000

    async def close(self, group: str) -> Answer:
        """Hang up on all of *group*."""
        links = self._groups.pop(group)
        for link in links:
            link.end()
        await asyncio.sleep(SETTLE_S)
        return {"closed": len(links)}


def _speakers(links: list[Link], each: int = 1) -> list[Link]:
    """The first connections of every user."""
    first: dict[str, list[Link]] = {}
    for link in links:
        first.setdefault(link.token, []).append(link)
    return [link for own in first.values() for link in own[:each]]


async def serve(url: str) -> None:
    """Carry out commands until there are no more."""
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    clients = Clients(address.hostname or "127.0.0.1", address.port or 80)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, arguments = msgspec.json.decode(line, type=tuple[str, dict[str, Any]])
        answer = await getattr(clients, name)(**arguments)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.flush()


def main() -> None:
    uvloop.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()
