"""Processes: two on one folder, two on one store, none left, and a clock that lies."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio

from memory.chroma_process import ChromaProcess
from memory.spawn import spawn
from tests.chaos.fault import Fault, NotHere, Place, kept
from tests.chaos.logbook import Shown, StoredMessage
from tests.chaos.scene import Stage
from tests.chaos.store_files import read_records
from tests.chaos.world import (
    LIMITS,
    link_model,
    model_environment,
    set_mode,
    stub_model,
    wait_until,
)
from tests.integration.bot import Bot, Frame, bot
from tests.integration.running_server import RunningServer, running_server

FAKETIME: Final = "lib/**/faketime/libfaketimeMT.so.1"
SHOWN_WITHIN_S: Final = 20.0
TWINS: Final = 30


def killed_in_stream(place: Place) -> str:
    """The server is killed in the middle of a long reply: what was shown is kept."""
    figures: list[int] = []

    def fault(stage: Stage) -> None:
        set_mode(stage.model, tokens=200, token_ms=20)
        for _ in range(1 if place.short else 4):
            long = wait_long_reply(stage)
            stage.world.kill_server(children=place.short)
            stage.world.start()
            figures.append(long)

    books = place.scene(users=3, per_second=6).play(fault)
    return f"{len(figures)} kills, replies of {max(figures)} characters shown; {kept(books)}"


def wait_long_reply(stage: Stage) -> int:
    """Wait until some reply has been shown for two seconds; how much of it was shown."""
    began = time.monotonic()
    longest = 0

    def long() -> bool:
        nonlocal longest
        first: dict[str, float] = {}
        for entry in stage.entries():
            if isinstance(entry, Shown) and entry.t > began:
                first.setdefault(entry.run, entry.t)
                if entry.t > first[entry.run] + 2:
                    longest = max(longest, entry.offset + len(entry.text))
        return longest > 0

    wait_until(long, SHOWN_WITHIN_S, "no long reply was shown")
    return longest


def jumping_clock(place: Place) -> str:
    """The server's clock jumps two days ahead, and back: messages keep their order."""
    libraries = sorted(Path("/usr").glob(FAKETIME))
    if not libraries:
        raise NotHere("libfaketime is not installed")
    clock = place.folder / "clock"
    clock.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def fault(stage: Stage) -> None:
        for jump in ("+2d\n", "+0\n"):
            time.sleep(1.0 if place.short else 5.0)
            jumped_at = time.monotonic()
            clock.write_text(jump)
            stage.wait_accepted(jumped_at)
        time.sleep(1.0)

    books = place.scene(environment=environment).play(fault)
    return f"two days ahead and back; {kept(books)}"


def second_server(place: Place) -> str:
    """A second server on the same folder refuses and says why; the first one does not notice."""
    said = ""

    def fault(stage: Stage) -> None:
        nonlocal said
        with running_server(stage.world.data_dir, stage.world.environment) as second:
            wait_until(
                lambda: second.process.poll() is not None, 30, "the second server did not end"
            )
            assert second.process.returncode != 0
            said = second.output[-1].strip()
        assert "in use by another server" in said, said
        stage.wait_accepted(time.monotonic())

    books = place.scene().play(fault)
    return f"it says {said.partition(':')[2].strip()[-60:]!r}; {kept(books)}"


def no_descriptors(place: Place) -> str:
    """More connections come than the server may have descriptors: those who talk go on."""

    def fault(stage: Stage) -> None:
        pid = stage.world.server.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
        address = urlsplit(stage.world.url)
        with ExitStack() as stack:
            for _ in range(400):
                stack.enter_context(
                    closing(socket.create_connection((address.hostname, address.port or 80), 5))
                )
            full_at = time.monotonic()
            time.sleep(2.0)
            stage.wait_accepted(full_at, 20)
        stage.wait_accepted(time.monotonic())

    return kept(place.scene().play(fault))


def twins(place: Place) -> str:
    """Two servers on one Chroma are told the same message at once: it is stored once."""
    with ExitStack() as stack:
        model = stack.enter_context(stub_model(tokens=3))
        child = ChromaProcess(place.folder)
        chroma = spawn(anyio.run(child.prepare))
        stack.callback(chroma.wait)
        stack.callback(chroma.kill)
        wait_until(lambda: anyio.run(child.answers), 20, "Chroma does not answer")
        servers = []
        for name in ("one", "two"):
            link_model(place.folder / name, place.model_folder)
            environment = {
                **LIMITS,
                **model_environment(model),
                "TANDEM_CHROMA__URL": child.url,
                "TANDEM_AUTH__SECRET": "the-same-secret-for-both-of-them",
            }
            running = running_server(place.folder / name, environment)
            servers.append(stack.enter_context(running))
        for server in servers:
            server.wait_ready()
        times = 5 if place.short else TWINS
        accepted = anyio.run(say_to_both, servers, times)
        for server in servers:
            server.stop()
        records = read_records(child.folder / "chroma.sqlite3")
    count_once(records, accepted)
    return f"{times} messages said twice at once, {len(records)} records, each stored once"


async def say_to_both(servers: list[RunningServer], times: int) -> set[str]:
    """Say each message to both servers at once; the ids under which they were accepted."""
    token = servers[0].session()
    accepted: set[str] = set()
    async with bot(servers[0].url, token) as one, bot(servers[1].url, token) as two:
        for number in range(times):
            answers: list[Frame] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(say_once, one, number, answers)
                tasks.start_soon(say_once, two, number, answers)
            good = [answer for answer in answers if answer["type"] == "accepted"]
            assert good, f"nobody accepted number {number}: {answers}"
            accepted |= {answer["message"] for answer in good}
            for answer in good[:1]:
                await one.done(answer["run"])
    return accepted


async def say_once(client: Bot, number: int, answers: list[Frame]) -> None:
    """Say message *number*, and note the answer."""
    answers.append(
        await client.say(f"Twin {number}.", id=f"twin-{number}", conversation=f"talk-{number}")
    )


def count_once(records: list[StoredMessage], accepted: set[str]) -> None:
    """Each accepted message, and at most one reply to it."""
    questions = [record.id for record in records if record.role == "user"]
    assert sorted(questions) == sorted(accepted), f"{len(questions)} of {len(accepted)}"
    replies = [record.reply_to for record in records if record.role == "assistant"]
    assert len(replies) == len(set(replies)), "a reply was stored twice"


FAULTS: Final = (
    Fault("the server is killed in the middle of replies", (13,), killed_in_stream),
    Fault("the clock jumps two days", (30,), jumping_clock),
    Fault("two servers on one folder", (8,), second_server),
    Fault("no descriptors left", (6,), no_descriptors),
    Fault("two servers are told the same at once", (18,), twins),
)
