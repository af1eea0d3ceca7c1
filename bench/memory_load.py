"""What hot and warm memories cost: ``python bench/memory_load.py``.

Latency of a search with its question's embedding, RAM of many users, a cold user's first search
with and without a warm copy, and how long the event loop stood meanwhile. Texts are made-up words,
as frequent as words are (Zipf); vectors and marks of the messages are random, those of the
questions are the embedder's.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.figures import percentile  # noqa: E402 - after the path is set
from bench.processes import Failed  # noqa: E402
from bench.store_systems import DIMENSION, Tandem, open_tandem  # noqa: E402
from memory.embedding import Embedded  # noqa: E402
from memory.hot import Search, open_hot_memories  # noqa: E402
from memory.hot_entries import HotLimits  # noqa: E402
from memory.hot_memory import HotMemory  # noqa: E402
from memory.long_term import StoredPage  # noqa: E402
from memory.messages import ConversationId, Message, MessageId, UserId, Vector  # noqa: E402
from memory.onnx_embedder import OnnxEmbedder  # noqa: E402
from memory.recalled import Recall  # noqa: E402
from memory.token_marks import TokenMarks  # noqa: E402
from memory.warm import WarmMemories  # noqa: E402

MODEL = ROOT / ".cache" / "models" / "all-MiniLM-L6-v2"
VOCABULARY = 30_000
TALK_MESSAGES = 20
COLD_MESSAGES = 1_000
SAMPLE_S = 0.001
ROOMY = 4_000_000_000
PLAIN = "What did I say about my dog and the vet?"
"""13 pieces, [CLS] and [SEP] included."""


class Latency(msgspec.Struct):
    """Of searches in a memory of so many ``messages``, embedding included unless said.

    Made-up words have twice as many word pieces as plain ones, and embedding takes in proportion:
    ``plain_embedding_p50_ms`` is of ``PLAIN``.
    """

    messages: int
    p50_ms: float
    p99_ms: float
    search_p50_ms: float
    loop_stood_ms: float
    cpu_p50_ms: float
    embedding_p50_ms: float
    plain_embedding_p50_ms: float


class Ram(msgspec.Struct):
    """``text_bytes`` of a message are counted apart: UTF-8."""

    users: int
    messages: int
    rss_bytes: int
    text_bytes: int
    counted_bytes: int

    @property
    def beside_text_bytes(self) -> float:
        """RAM for one message, without its text."""
        return (self.rss_bytes - self.text_bytes) / (self.users * self.messages)


class Cold(msgspec.Struct):
    """Milliseconds until a user of ``COLD_MESSAGES`` who was not in RAM is searched completely.

    ``collector_ms``: the longest time for which Python collected garbage, which stops everything.
    """

    warm_copy: bool
    took_ms: list[float]
    cpu_ms: list[float]
    loop_stood_ms: float
    collector_ms: float


class Report(msgspec.Struct):
    """All of a run."""

    latencies: list[Latency] = []
    ram: Ram | None = None
    cold: list[Cold] = []


class Talker:
    """Makes messages with vectors and marks."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        ranks = np.arange(1, VOCABULARY + 1)
        self._words = [_word(rank) for rank in ranks.tolist()]
        self._shares = np.cumsum(1 / ranks) / np.sum(1 / ranks)

    def text(self, words: int) -> str:
        """So many words."""
        places = np.searchsorted(self._shares, self._numbers.random(words))
        return " ".join(self._words[min(place, VOCABULARY - 1)] for place in places.tolist())

    def message(self, user: UserId, number: int) -> tuple[Message, Embedded]:
        """The *number*-th of *user*, of 5 to 35 words."""
        words = self._dice.randint(5, 35)
        message = Message(
            id=MessageId(f"m{self._dice.getrandbits(128):026x}"),
            user=user,
            conversation=ConversationId(f"{user}-{number // TALK_MESSAGES}"),
            role="assistant" if number % 2 else "user",
            text=self.text(words),
            timestamp=1.7e9 + 60 * number,
            depth=number % TALK_MESSAGES,
            client_id=f"{self._dice.getrandbits(130):026x}",
        )
        vector = self._numbers.standard_normal(DIMENSION, np.float32)
        pieces = max(3, words // 2)
        marks = TokenMarks(
            self._numbers.integers(1_000, 30_000, pieces, np.uint16),
            self._numbers.integers(0, 2**63, (pieces, DIMENSION // 64), np.uint64),
        )
        unit: Vector = vector / np.linalg.norm(vector)
        return message, Embedded(unit, marks)


class Standstill:
    """The longest time for which the event loop ran nothing else."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self.collector_ms = 0.0
        """The longest time for which Python collected garbage."""
        self._collecting_since = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Within the block."""
        gc.callbacks.append(self._collected)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch)
                await anyio.sleep(5 * SAMPLE_S)
                yield
                tasks.cancel_scope.cancel()
        finally:
            gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, _facts: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since = time.perf_counter()
        else:
            took_ms = 1000 * (time.perf_counter() - self._collecting_since)
            self.collector_ms = max(self.collector_ms, took_ms)

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(SAMPLE_S)
            over = time.perf_counter() - before - SAMPLE_S
            self.longest_ms = max(self.longest_ms, 1000 * over)


async def measure_latency(embedder: OnnxEmbedder, messages: int, searches: int) -> Latency:
    """Of one user with so many *messages*."""
    talker, user = Talker(1), UserId("deep")
    limits = HotLimits(messages=messages, size_bytes=ROOMY)
    whole, alone, cpu, plain, standstill = [], [], [], [], Standstill()
    async with open_hot_memories(_Nothing(), limits) as memories:
        memory = await memories.get(user, None)
        for number in range(messages):
            message, embedded = talker.message(user, number)
            memory.add(message, embedded.vector, marks=embedded.marks)
        async with standstill.watched():
            for number in range(searches + 5):
                text = f"What did I say about {talker.text(4)} and the {talker.text(2)}?"
                began, spent = time.perf_counter(), time.process_time()
                (asked,) = await embedder.embed_marked([text])
                embedded_at = time.perf_counter()
                await memories.search(user, memory, _search(text, asked))
                ended = time.perf_counter()
                if number >= 5:
                    whole.append(1000 * (ended - began))
                    alone.append(1000 * (ended - embedded_at))
                    cpu.append(1000 * (time.process_time() - spent))
                began = time.perf_counter()
                await embedder.embed_marked([PLAIN])
                plain.append(1000 * (time.perf_counter() - began))
    embedding = sorted(each - of_it for each, of_it in zip(whole, alone, strict=True))
    whole.sort()
    return Latency(
        messages=messages,
        p50_ms=percentile(whole, 0.5),
        p99_ms=percentile(whole, 0.99),
        search_p50_ms=percentile(sorted(alone), 0.5),
        loop_stood_ms=standstill.longest_ms,
        cpu_p50_ms=percentile(sorted(cpu), 0.5),
        embedding_p50_ms=percentile(embedding, 0.5),
        plain_embedding_p50_ms=percentile(sorted(plain), 0.5),
    )


def measure_ram(users: int, messages: int) -> Ram:
    """RSS before and after, of *users* with so many *messages* each."""
    talker = Talker(2)
    talker.message(UserId("first"), 0)
    gc.collect()
    before, text_bytes, held = _rss_bytes(), 0, []
    for user in range(users):
        memory = HotMemory(max_messages=messages, max_bytes=ROOMY)
        for number in range(messages):
            message, embedded = talker.message(UserId(f"user{user}"), number)
            text_bytes += len(message.text)
            memory.add(message, embedded.vector, marks=embedded.marks)
        held.append(memory)
    gc.collect()
    return Ram(
        users=users,
        messages=messages,
        rss_bytes=_rss_bytes() - before,
        text_bytes=text_bytes,
        counted_bytes=sum(memory.size_bytes for memory in held),
    )


async def measure_cold(folder: Path, users: int) -> list[Cold]:
    """Users whose ``COLD_MESSAGES`` are in a real Chroma; without copies first, then with.

    They were said in the last weeks, one each hour.
    """
    talker, first_at = Talker(3), time.time() - 3600 * COLD_MESSAGES
    names = [UserId(f"cold{number}") for number in range(users)]
    async with open_tandem(folder) as tandem:
        for user in names:
            pairs: list[tuple[Message, Vector]] = []
            for number in range(COLD_MESSAGES):
                message, embedded = talker.message(user, number)
                said_at = first_at + 3600 * number
                message = msgspec.structs.replace(message, timestamp=said_at)
                pairs.append((message, embedded.vector))
            for start in range(0, COLD_MESSAGES, 100):
                await tandem.append_many(pairs[start : start + 100])
        # As the server does when it is ready.
        gc.collect()
        gc.freeze()
        return [
            await _cold(tandem, folder / "warm", names, warm_copy=each) for each in (False, True)
        ]


async def _cold(tandem: Tandem, folder: Path, users: list[UserId], *, warm_copy: bool) -> Cold:
    warm = WarmMemories(folder, fingerprint="random", exclusive=True)
    limits = HotLimits(messages=2_000, size_bytes=ROOMY)
    took_ms: list[float] = []
    cpu_ms: list[float] = []
    standstill = Standstill()
    vector = np.ones(DIMENSION, np.float32) / np.float32(DIMENSION**0.5)
    async with (
        open_hot_memories(tandem.long_term, limits, warm=warm) as memories,
        standstill.watched(),
    ):
        for user in users:
            began, cpu = time.perf_counter(), time.process_time()
            memory = await memories.get(user, None, wait_s=30)
            found = memory.search("What was it?", vector, limit=10)
            took_ms.append(round(1000 * (time.perf_counter() - began), 1))
            cpu_ms.append(round(1000 * (time.process_time() - cpu), 1))
            if found.partial or memories.figures().warm_loads != len(took_ms) * warm_copy:
                raise Failed("a cold user was not read as planned")
            await anyio.sleep(0.05)
    return Cold(
        warm_copy=warm_copy,
        took_ms=sorted(took_ms),
        cpu_ms=sorted(cpu_ms),
        loop_stood_ms=standstill.longest_ms,
        collector_ms=standstill.collector_ms,
    )


class _Nothing:
    """A store without messages."""

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        """None of *user*'s."""
        del user
        return frozenset()

    async def newest(self, user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        """None of *user*'s *limit*, nor *before*."""
        del user, limit, before
        return StoredPage((), np.zeros((0, DIMENSION), np.float32), None)


def _search(text: str, asked: Embedded) -> Search:
    def search(memory: HotMemory) -> Recall:
        return memory.search(text, asked.vector, limit=10, marks=asked.marks)

    return search


def _word(rank: int) -> str:
    letters = "etaoinshrdlucmfwyp"
    word = ""
    while rank:
        rank, place = divmod(rank, len(letters))
        word += letters[place]
    return word + "x"


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def text(report: Report) -> str:
    """*report* as a table."""
    lines = [
        (
            "| messages | p50 ms | p99 ms | CPU p50 ms | search alone p50 ms | embedding p50 ms"
            " | of a plain question | loop stood ms |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {it.messages} | {it.p50_ms:.1f} | {it.p99_ms:.1f} | {it.cpu_p50_ms:.1f} |"
        f" {it.search_p50_ms:.1f} | {it.embedding_p50_ms:.1f} | {it.plain_embedding_p50_ms:.1f} |"
        f" {it.loop_stood_ms:.1f} |"
        for it in report.latencies
    ]
    if report.ram is not None:
        ram = report.ram
        lines.append(
            f"RAM: {ram.users} users with {ram.messages} messages: {ram.rss_bytes / 1e6:.0f} MB, "
            f"{ram.beside_text_bytes:.0f} bytes a message beside its text "
            f"(counted: {ram.counted_bytes / 1e6:.0f} MB)"
        )
    for cold in report.cold:
        what = "with a warm copy" if cold.warm_copy else "from Chroma"
        median, worst = percentile(cold.took_ms, 0.5), cold.took_ms[-1]
        cpu = percentile(cold.cpu_ms, 0.5)
        lines.append(
            f"cold, {COLD_MESSAGES} messages, {what}: {median:.0f} ms, at most {worst:.0f} ms, "
            f"{cpu:.0f} ms of CPU; the loop stood {cold.loop_stood_ms:.1f} ms at most "
            f"(for collecting garbage {cold.collector_ms:.1f})"
        )
    return "\n".join(lines)


async def measure(plan: argparse.Namespace, folder: Path) -> Report:
    """All that *plan* asks for."""
    report = Report()
    if plan.users:
        report.ram = measure_ram(plan.users, 1_000)
    embedder = OnnxEmbedder.open(plan.model, threads=1)
    try:
        for messages in plan.messages:
            report.latencies.append(await measure_latency(embedder, messages, plan.searches))
    finally:
        await embedder.aclose()
    if plan.cold:
        report.cold = await measure_cold(folder, plan.cold)
    return report


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, nargs="*", default=[1_000, 10_000, 50_000])
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--cold", type=int, default=10, help="users who come cold")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--json", type=Path)
    plan = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = anyio.run(measure, plan, Path(folder))
    print(text(report))
    if plan.json is not None:
        plan.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


if __name__ == "__main__":
    main()
