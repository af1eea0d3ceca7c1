"""What the connection layer costs beside a bare echo on the same uvicorn: ``python bench/wire.py``.

Servers, stub model and generator are processes of their own. Measured are the RAM of an idle
authenticated connection, connecting, streaming to many connections, how soon the first word of a
reply is passed on, coming back after missed events, and readers that have stopped reading.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.figures import Distribution, distribution  # noqa: E402 - after the path is set
from bench.generator import crowd  # noqa: E402
from bench.level import Bench, Load  # noqa: E402
from bench.processes import Failed, running  # noqa: E402
from bench.report import circumstances, save, table  # noqa: E402
from bench.systems import Stub, System, open_stub, open_system  # noqa: E402
from chat_server.authentication import Authenticator, Identity  # noqa: E402
from memory.messages import UserId  # noqa: E402

SETTLE_S = 2.0
SAMPLE_S = 0.5
KILOBYTE, MEGABYTE = 1_000, 1_000_000
STREAM_CONNECTIONS = 1_000
TABS = 50
"""Connections of one user: as many as the server admits by default."""
MISSED = 1_000
EVENTS_PER_TURN = 3
WATCHED = 50
FIRST_TOKEN_MS = 300.0
"""The question is stored long before: what is measured is the way of the word."""


class Plan(msgspec.Struct, frozen=True):
    """How much is measured."""

    idle: int = 8_000
    stream_tokens: int = 400
    first_turns: int = 200
    resumes: int = 200
    replies: int = 6
    reply_tokens: int = 1_500


QUICK = Plan(
    idle=1_000, stream_tokens=120, first_turns=30, resumes=30, replies=3, reply_tokens=1_500
)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the result; ``ok`` is missing where there is no target."""

    name: str
    measured: str
    bare: str = ""
    target: str = ""
    ok: bool | None = None


class Report(msgspec.Struct, kw_only=True):
    made_at: str
    circumstances: dict[str, str]
    plan: Plan
    figures: list[Figure]
    raw: dict[str, Any]


class Generator:
    """The process that has the connections."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def do(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Have a command carried out; its answer.

        Raises:
            Failed: the generator has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise Failed("the generator has no pipes")
        stdin.write(msgspec.json.encode([name, arguments]) + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise Failed(f"the generator ended during {name}\n{self._log.read_text()[-3000:]}")
        answer: dict[str, Any] = msgspec.json.decode(line)
        return answer


@contextmanager
def generator(url: str, folder: Path) -> Iterator[Generator]:
    """A generator for the server at *url*; its connections end with the context."""
    log = folder / f"generator-{token_hex(4)}.log"
    argv = [sys.executable, str(ROOT / "bench" / "wire_clients.py"), url]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            yield Generator(process, log)
        finally:
            process.kill()


@contextmanager
def open_bare(folder: Path) -> Iterator[System]:
    argv = [sys.executable, str(ROOT / "bench" / "wire_bare.py")]
    with running(argv, folder / "bare.log", {}) as program:
        yield System("bare", program)


def say(line: str) -> None:
    print(f"... {line}", file=sys.stderr, flush=True)


def rss(system: System) -> int:
    return system.usage().rss_bytes["server"]


@contextmanager
def most_rss(system: System) -> Iterator[Callable[[], int]]:
    """The most RAM that *system* had while the context lasts, once that has ended."""
    seen = [rss(system)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            seen.append(rss(system))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(seen)
    finally:
        ended.set()
        watcher.join()


class Measurement:
    """Both servers, and what was found."""

    def __init__(self, plan: Plan, folder: Path, secret: str) -> None:
        self._plan = plan
        self._folder = folder
        self._authenticator = Authenticator(secret, guests=True)
        self.figures: list[Figure] = []
        self.raw: dict[str, Any] = {}

    def tokens(self, prefix: str, users: int, tabs: int = 1) -> list[str]:
        """*tabs* tokens for each of *users* users; made offline."""
        made = [
            self._authenticator.token(Identity(UserId(f"{prefix}-{number}")))
            for number in range(users)
        ]
        return [token for token in made for _ in range(tabs)]

    def note(self, name: str, measured: str, **more: Any) -> None:
        self.figures.append(Figure(name=name, measured=measured, **more))

    def idle(self, bare: System, tandem: System) -> None:
        """RAM of a connection, and how fast they come."""
        count = self._plan.idle
        found: dict[str, tuple[float, float]] = {}
        for system, tokens in (
            (bare, [""] * count),
            (tandem, self.tokens("idle", count)),
        ):
            say(f"{system.name}: {count:,} idle connections")
            with generator(system.url, self._folder) as clients:
                clients.do("connect", group="warm", tokens=tokens[:50])
                clients.do("close", group="warm")
                time.sleep(SETTLE_S)
                before = rss(system)
                took_s = clients.do("connect", group="idle", tokens=tokens)["took_s"]
                time.sleep(SETTLE_S)
                found[system.name] = (rss(system) - before) / count, count / took_s
                clients.do("close", group="idle")
            time.sleep(SETTLE_S)
        self.raw["idle"] = found
        (bare_bytes, bare_rate), (own_bytes, own_rate) = found["bare"], found["tandem"]
        self.note(
            f"RAM of an idle connection ({count:,})",
            f"{own_bytes / KILOBYTE:.1f} kB",
            bare=f"{bare_bytes / KILOBYTE:.1f} kB",
            target="<= 1.6x",
            ok=own_bytes <= 1.6 * bare_bytes,
        )
        self.note(
            "connect + hello, a second",
            f"{own_rate:,.0f}",
            bare=f"{bare_rate:,.0f}",
            target=">= 50 %",
            ok=own_rate >= 0.5 * bare_rate,
        )

    def stream(self, bare: System, tandem: System, stub: Stub) -> None:
        """Frames a second to many connections: pieces of 60 replies, each to 50 of them."""
        count, tokens = STREAM_CONNECTIONS, self._plan.stream_tokens
        say(f"frames to {count:,} connections")
        with generator(bare.url, self._folder) as clients:
            clients.do("connect", group="stream", tokens=[""] * count)
            clients.do("stream", group="stream", frames=10)
            cpu_s = bare.usage().cpu_s["server"]
            streamed = clients.do("stream", group="stream", frames=tokens // 2)
            bare_cpu_s = bare.usage().cpu_s["server"] - cpu_s
        bare_rate = streamed["frames"] / streamed["took_s"]
        # A piece each 20 ms is more than one frame each 25 ms: coalesced, the most there can be.
        with generator(tandem.url, self._folder) as clients:
            listeners = self.tokens("stream", count // TABS, TABS)
            clients.do("connect", group="stream", tokens=listeners)
            stub.answer(tokens=20, first_token_ms=100, token_ms=5)
            clients.do("listen", group="stream")
            stub.answer(tokens=tokens, first_token_ms=1_000, token_ms=20)
            cpu_s = tandem.usage().cpu_s["server"]
            own = clients.do("listen", group="stream")
            own_cpu_s = tandem.usage().cpu_s["server"] - cpu_s
        own_rate = own["frames"] / own["took_s"]
        self.raw["stream"] = {
            "bare": streamed | {"cpu_s": bare_cpu_s},
            "tandem": own | {"cpu_s": own_cpu_s},
        }
        self.note(
            f"frames/s to {count:,} connections",
            f"{own_rate:,.0f}",
            bare=f"{bare_rate:,.0f}",
            target=">= 50 %",
            ok=own_rate >= 0.5 * bare_rate,
        )
        self.note(
            "CPU of a frame, turns and all",
            f"{own_cpu_s / own['frames'] * 1e6:.1f} us",
            bare=f"{bare_cpu_s / streamed['frames'] * 1e6:.1f} us",
        )

    async def first_delta(self, tandem: System, stub: Stub) -> None:
        """From the model's first word to the frame."""
        say("first words")
        load = Load(rate=5.0, first_token_ms=FIRST_TOKEN_MS, tokens=20, token_ms=20.0)
        async with crowd(tandem.url) as users:
            bench = Bench(tandem, users, stub)
            level = await bench.run(load, self._plan.first_turns, seed=1, progress=lambda _: None)
        times = level.times_ms
        waits = times.get("delta_wait") or [0.0] * len(times["first_delta"])
        relayed = distribution(
            [took - wait for took, wait in zip(times["first_delta"], waits, strict=False)]
        )
        outside = distribution(times["byte_to_delta"])
        self.raw["first_delta"] = {"relayed": relayed, "outside": outside}
        self.note(
            "first word passed on, in the server",
            _p50_p99(relayed),
            target="p50 <= 1 ms",
            ok=relayed.p50 <= 1.0,
        )
        self.note("the same from the stub's socket to the client's", _p50_p99(outside))

    def resume(self, tandem: System, stub: Stub) -> None:
        """Coming back after many missed events."""
        say(f"{MISSED:,} missed events")
        stub.answer(tokens=10, first_token_ms=0, token_ms=0)
        with generator(tandem.url, self._folder) as clients:
            clients.do("connect", group="back", tokens=self.tokens("back", 1))
            turns = MISSED // EVENTS_PER_TURN + 10
            found = clients.do(
                "resume", group="back", turns=turns, times=self._plan.resumes, missed=MISSED
            )
        took = distribution(found["took_ms"])
        self.raw["resume"] = {"took_ms": took, "bytes": found["bytes"]}
        self.note(
            f"resume with {MISSED:,} missed events ({found['bytes'] / KILOBYTE:,.0f} kB)",
            _p50_p99(took),
            target="p50 <= 20 ms, p99 <= 100 ms",
            ok=took.p50 <= 20.0 and took.p99 <= 100.0,
        )

    def stalled(self, tandem: System, stub: Stub) -> None:
        """Connections that get replies and do not read them, beside ones that are served."""
        count, users = STREAM_CONNECTIONS, STREAM_CONNECTIONS // TABS
        stub.answer(tokens=self._plan.reply_tokens, first_token_ms=100, token_ms=1)
        found: dict[str, dict[str, Any]] = {}
        with generator(tandem.url, self._folder) as clients:
            clients.do("connect", group="watched", tokens=self.tokens("watched", WATCHED))
            for paused in (False, True):
                say(f"{count:,} readers{' that have stopped' if paused else ''}")
                group = "stalled" if paused else "reading"
                # One more tab for each user: who speaks, and reads.
                tokens = self.tokens(group, users, TABS)
                clients.do("connect", group=group, tokens=tokens[::TABS])
                clients.do("connect", group=group, tokens=tokens, small=True)
                time.sleep(SETTLE_S)
                before = rss(tandem)
                with most_rss(tandem) as most:
                    done = clients.do(
                        "chatter", group=group, turns=self._plan.replies, paused=paused
                    )
                done["rss"] = most() - before
                done["codes"] = clients.do("close_codes", group=group)["codes"]
                clients.do("close", group=group)
                found[group] = done
                time.sleep(SETTLE_S)
        pings = {group: distribution(done.pop("ping_ms")) for group, done in found.items()}
        self.raw["stalled"] = {"found": found, "ping_ms": pings}
        more_mb = (found["stalled"]["rss"] - found["reading"]["rss"]) / MEGABYTE
        self.note(
            f"RAM of {count:,} readers that have stopped",
            f"{more_mb:+.1f} MB",
            target="<= 64 MB more",
            ok=more_mb <= 64,
        )
        self.note(
            "others' answers meanwhile",
            _p50_p99(pings["stalled"]),
            bare=f"{_p50_p99(pings['reading'])} (all read)",
            target="p99 within 20 %",
            ok=pings["stalled"].p99 <= 1.2 * pings["reading"].p99,
        )


def _p50_p99(found: Distribution) -> str:
    return f"p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms"


def measure(plan: Plan, parts: set[str], folder: Path) -> Report:
    secret = token_hex(32)
    found = Measurement(plan, folder, secret)
    facts = circumstances()
    more = {
        "TANDEM_AUTH__SECRET": secret,
        "TANDEM_SERVER__MAX_CONNECTIONS": str(plan.idle + STREAM_CONNECTIONS),
        "TANDEM_SERVER__MAX_CONNECTIONS_PER_USER": str(TABS + 1),
    }
    with (
        open_stub(folder) as stub,
        open_bare(folder) as bare,
        open_system("tandem", folder, stub, more) as tandem,
    ):
        if "idle" in parts:
            found.idle(bare, tandem)
        if "stream" in parts:
            found.stream(bare, tandem, stub)
        if "first" in parts:
            anyio.run(partial(found.first_delta, tandem, stub))
        if "resume" in parts:
            found.resume(tandem, stub)
        if "stalled" in parts:
            found.stalled(tandem, stub)
    return Report(
        made_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        circumstances=facts,
        plan=plan,
        figures=found.figures,
        raw=found.raw,
    )


PARTS = ("idle", "stream", "first", "resume", "stalled")


def text(report: Report) -> str:
    """The result for a terminal."""
    marks = {True: "met", False: "MISSED", None: ""}
    return table(
        ("", "tandem", "bare", "target", ""),
        [
            (figure.name, figure.measured, figure.bare, figure.target, marks[figure.ok])
            for figure in report.figures
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short form of about a minute")
    parser.add_argument("--idle", type=int, help="idle connections (8,000)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    if given.idle:
        plan = msgspec.structs.replace(plan, idle=given.idle)
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        report = measure(plan, set(given.parts), Path(folder))
    print(text(report))
    print(json.dumps({"missed": [it.name for it in report.figures if it.ok is False]}))
    print(f"kept in {save(report, 'wire').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
