"""An import while others chat: its rate, the server's memory, and what the chat feels of it.

``python bench/import_load.py [--messages N] [--turns-per-s R] [--before-s S] [--model FOLDER]``

Other users chat at a steady rate, each turn on its own schedule, first alone and then while one
user imports N made-up messages of three years. Told: send to ``accepted``, before and during.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script, from any folder

from chat_server.transfer_client import SMALL_BUFFER  # noqa: E402 - after the path is set
from tests.integration.bot import Bot, bot  # noqa: E402 - likewise
from tests.integration.running_server import RunningServer, running_server  # noqa: E402
from tests.stub_model import StubModel  # noqa: E402

BOTS = 20
PER_CONVERSATION = 40
YEARS_S = 3 * 365 * 86_400
CHUNK_LINES = 100
HURRIED = 100_000
"""Limits of messages that no turn of this runs into."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
STARTS = "bcdfglmnprst"
ENDS = ("arden", "ell", "ice", "oat", "under", "ink", "ope", "ail", "ever", "urn", "ack", "eam")
WORDS = [start + end for start in STARTS for end in ENDS]


class Chat:
    """Users who chat; ``accepted_ms`` are the waits of the turns so far."""

    def __init__(self, bots: list[Bot], turns_per_s: float) -> None:
        self._bots = bots
        self._turns_per_s = turns_per_s
        self.accepted_ms: list[float] = []
        self.failed = 0

    async def run(self) -> None:
        dice = random.Random(1)
        async with anyio.create_task_group() as turns:
            due = anyio.current_time()
            for number in range(1_000_000_000):
                turns.start_soon(self._turn, self._bots[number % len(self._bots)], dice.random())
                due += 1 / self._turns_per_s
                await anyio.sleep(max(0.0, due - anyio.current_time()))

    async def _turn(self, talker: Bot, number: float) -> None:
        begun = time.perf_counter()
        answer = await talker.say(f"{sentence(random.Random(number), 12)}?")
        if answer["type"] != "accepted":
            self.failed += 1
            return
        self.accepted_ms.append((time.perf_counter() - begun) * 1000)
        await talker.done(answer["run"])
        talker.frames.clear()

    def take(self) -> list[float]:
        taken, self.accepted_ms = self.accepted_ms, []
        return taken


def sentence(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(WORDS, k=words))


async def lines(count: int) -> AsyncIterator[bytes]:
    """Made-up messages of 5 to 45 words, in conversations of 40, spread over three years."""
    dice = random.Random(0)
    begun = time.time() - YEARS_S
    part: list[str] = []
    for number in range(count):
        line = {
            "id": f"load-{number}",
            "conversation": f"load-{number // PER_CONVERSATION}",
            "role": "assistant" if number % 2 else "user",
            "text": sentence(dice, dice.randint(5, 45)),
            "timestamp": begun + YEARS_S * number / count,
        }
        part.append(json.dumps(line))
        if len(part) == CHUNK_LINES or number == count - 1:
            yield ("\n".join(part) + "\n").encode()
            part.clear()


async def import_all(server: RunningServer, count: int) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {server.session()}"}
    # As the command's own client: a small buffer, and patience with a server that is busy.
    transport = httpx.AsyncHTTPTransport(socket_options=[SMALL_BUFFER])
    async with httpx.AsyncClient(timeout=600, transport=transport) as http:
        answer = await http.post(f"{server.url}/api/import", headers=headers, content=lines(count))
    summary: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
    return summary


def rss_mb(pid: int) -> float:
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


class Watch:
    """CPU time and the largest memory of server and Chroma."""

    def __init__(self, server: RunningServer) -> None:
        self._pids = {"server": server.process.pid, "chroma": server.child_pid("chroma")}
        self.rss_before_mb = {name: rss_mb(pid) for name, pid in self._pids.items()}
        self.rss_mb = dict(self.rss_before_mb)
        self._cpu_s = {name: cpu_s(pid) for name, pid in self._pids.items()}

    async def run(self) -> None:
        while True:
            for name, pid in self._pids.items():
                self.rss_mb[name] = max(self.rss_mb[name], rss_mb(pid))
            await anyio.sleep(0.5)

    def spent_s(self) -> dict[str, float]:
        return {name: round(cpu_s(pid) - self._cpu_s[name], 1) for name, pid in self._pids.items()}


def wait(samples: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    return {
        "turns": len(samples),
        "p50_ms": round(cuts[49], 1),
        "p90_ms": round(cuts[89], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(max(samples), 1),
    }


async def measure(server: RunningServer, chosen: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        bots = [
            await stack.enter_async_context(bot(server.url, server.session())) for _ in range(BOTS)
        ]
        chat = Chat(bots, chosen.turns_per_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(chat.run)
            await anyio.sleep(5)
            chat.take()
            await anyio.sleep(chosen.before_s)
            before = wait(chat.take())
            print(f"before:  {before}", flush=True)
            watch = Watch(server)
            tasks.start_soon(watch.run)
            summary = await import_all(server, chosen.messages)
            during = wait(chat.take())
            spent_s = watch.spent_s()
            tasks.cancel_scope.cancel()
    took_s = summary["took_ms"] / 1000
    return {
        "import": summary,
        "messages_per_s": round(summary["stored"] / took_s, 1),
        "before": before,
        "during": during,
        "ratio": {
            name: round(during[name] / before[name], 2) for name in ("p50_ms", "p90_ms", "p99_ms")
        },
        "failed_turns": chat.failed,
        "cpu_s": spent_s,
        "rss_before_mb": {name: round(mb) for name, mb in watch.rss_before_mb.items()},
        "rss_max_mb": {name: round(mb) for name, mb in watch.rss_mb.items()},
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description="An import while others chat.")
    arguments.add_argument("--messages", type=int, default=100_000)
    arguments.add_argument("--turns-per-s", type=float, default=2.0)
    arguments.add_argument("--before-s", type=float, default=60.0)
    arguments.add_argument(
        "--model", type=Path, default=ROOT / "data/models/all-MiniLM-L6-v2", metavar="FOLDER"
    )
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, StubModel().running() as model_url:
        data = Path(folder) / "data"
        shutil.copytree(chosen.model, data / "models" / chosen.model.name)
        environment = {
            "OPENAI_BASE_URL": model_url,
            "OPENAI_API_KEY": "none",
            "TANDEM_LIMITS__PER_USER": "10000",
            "TANDEM_LIMITS__GLOBAL": str(HURRIED),
        }
        with running_server(data, environment) as server:
            figures = anyio.run(measure, server.wait_ready(), chosen)
    results = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg(),
        "turns_per_s": chosen.turns_per_s,
        **figures,
    }
    print(json.dumps(results, indent=2))
    path = ROOT / "bench/results" / f"import-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
