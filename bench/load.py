"""The load test: 100 chats at once, 50 saves in parallel, then a ramp: ``python bench/load.py``.

Verifies that no error came and that what was accepted stands in the history, once. Then it looks
for the knee and says where time and CPU went, and what to buy next.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import anyio
import httpx
import msgspec
from anyio.to_thread import run_sync

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.bottleneck import Bottleneck, find_bottleneck, shares  # noqa: E402
from bench.figures import Distribution, distribution, since  # noqa: E402
from bench.generator import Crowd, Turn, User, crowd, sentences  # noqa: E402
from bench.knee import Knee, find_knee  # noqa: E402
from bench.level import Bench, Level, Load  # noqa: E402
from bench.processes import machine_times  # noqa: E402
from bench.report import circumstances, knee_text, save, table  # noqa: E402
from bench.systems import open_stub, open_system  # noqa: E402

CHATS, SAVES = 100, 50
SAVE_ROUNDS = 3
KNEE_BEGIN = 20.0
READ_AT_ONCE = 8
READ_WITHIN_S = 30.0
PAGE = 100


class Found(msgspec.Struct, kw_only=True):
    """What became of the messages: ``lost`` were accepted and are not in the history, ``twice``
    stand there more than once, ``unanswered`` got a reply that is not there.
    """

    accepted: int
    errors: dict[str, int]
    lost: int = 0
    twice: int = 0
    unanswered: int = 0

    @property
    def well(self) -> bool:
        return not (self.errors or self.lost or self.twice or self.unanswered)


class LoadReport(msgspec.Struct, kw_only=True):
    """A whole load test; times in milliseconds."""

    made_at: str
    circumstances: dict[str, str]
    took_s: float
    chats: dict[str, Distribution]
    saves: dict[str, Distribution]
    found: Found
    bottleneck: Bottleneck
    knee: Knee | None = None


Said = list[tuple[User, Turn]]


async def chat(user: User, turns: int, pause_s: float, said: Said) -> None:
    """One user who answers each reply after a pause."""
    chance = random.Random(user.token)
    texts = sentences(chance)
    await anyio.sleep(chance.random() * pause_s)
    for _ in range(turns):
        said.append((user, await user.say(next(texts), time.monotonic())))
        await user.over.wait()
        await anyio.sleep(chance.uniform(0.5, 1.5) * pause_s)


async def saves(users: list[User], pause_s: float, said: Said) -> None:
    """All of *users* save a message at the same moment, a few times over; nobody waits for the
    replies before the next save is due.
    """
    texts = sentences(random.Random(2))
    for _ in range(SAVE_ROUNDS):
        await anyio.sleep(pause_s)
        async with anyio.create_task_group() as together:
            for user in users:
                together.start_soon(_save, user, next(texts), said)
        for user in users:
            await user.over.wait()


async def _save(user: User, text: str, said: Said) -> None:
    said.append((user, await user.say(text, time.monotonic())))


async def talk(users: Crowd, given: argparse.Namespace) -> tuple[Said, Said]:
    """Chats and saves at the same time; what was said in each."""
    chatted: Said = []
    saved: Said = []
    async with anyio.create_task_group() as tasks:
        for user in users.users[:CHATS]:
            tasks.start_soon(chat, user, given.turns, given.pause_s, chatted)
        tasks.start_soon(saves, users.users[CHATS : CHATS + SAVES], given.pause_s, saved)
    return chatted, saved


async def verify(url: str, said: Said) -> Found:
    """Hold what was accepted against the histories."""
    errors = Counter(turn.error for _, turn in said if turn.error is not None)
    found = Found(accepted=sum(turn.message is not None for _, turn in said), errors=dict(errors))
    limiter = anyio.CapacityLimiter(READ_AT_ONCE)
    conversations = {(user.token, turn.conversation) for user, turn in said}
    stored: Counter[str] = Counter()
    answered: Counter[str] = Counter()

    async def read(token: str, conversation: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        path = f"/api/conversations/{conversation}/messages"
        async with limiter:
            answer = await http.get(path, headers=headers, params={"limit": PAGE})
        for message in answer.raise_for_status().json()["messages"]:
            stored[message["id"]] += 1
            answered[message.get("reply_to", "")] += 1

    async with (
        httpx.AsyncClient(base_url=url, timeout=READ_WITHIN_S) as http,
        anyio.create_task_group() as tasks,
    ):
        for token, conversation in conversations:
            tasks.start_soon(read, token, conversation)
    for _, turn in said:
        if turn.message is not None:
            found.lost += stored[turn.message] == 0
            found.twice += stored[turn.message] > 1 or answered[turn.message] > 1
            found.unanswered += turn.done_s is not None and answered[turn.message] == 0
    return found


def times_ms(said: Said) -> dict[str, Distribution]:
    accepted = [
        (turn.accepted_s - turn.sent_s) * 1000 for _, turn in said if turn.accepted_s is not None
    ]
    first = [
        (turn.first_delta_s - turn.sent_s) * 1000
        for _, turn in said
        if turn.first_delta_s is not None
    ]
    return {"send to accepted": distribution(accepted), "send to first word": distribution(first)}


async def probe(bench: Bench, seconds: float, rate: float) -> Level:
    load = Load(rate=rate, first_token_ms=0)
    return await bench.run(load, int(rate * seconds), seed=int(rate), progress=lambda _: None)


async def measure(given: argparse.Namespace, folder: Path) -> LoadReport:
    facts = circumstances()
    with open_stub(folder) as stub, open_system("tandem", folder, stub) as system:
        async with crowd(system.url) as users:
            await users.grow(CHATS + SAVES)
            await run_sync(partial(stub.answer, tokens=50, first_token_ms=0.0, token_ms=20.0))
            counted, before = await run_sync(system.histograms), system.usage()
            busy, ticks = machine_times()
            chatted, saved = await talk(users, given)
            after, (busy_after, ticks_after) = system.usage(), machine_times()
            took_s = after.at_s - before.at_s
            report = LoadReport(
                made_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                circumstances=facts,
                took_s=round(took_s, 1),
                chats=times_ms(chatted),
                saves=times_ms(saved),
                found=await verify(system.url, [*chatted, *saved]),
                bottleneck=find_bottleneck(
                    since(await run_sync(system.histograms), counted),
                    {part: used - before.cpu_s[part] for part, used in after.cpu_s.items()},
                    took_s,
                    (busy_after - busy) / (ticks_after - ticks),
                ),
            )
            if given.knee_s:
                bench = Bench(system, users, stub)
                report.knee = await find_knee(partial(probe, bench, given.knee_s), begin=KNEE_BEGIN)
    return report


def text(report: LoadReport) -> str:
    found, bottleneck = report.found, report.bottleneck
    rows = [
        (
            f"{kind}: {name}",
            str(it.count),
            *(f"{ms:.0f}" for ms in (it.p50, it.p90, it.p99, it.max)),
        )
        for kind, times in (("chats", report.chats), ("saves", report.saves))
        for name, it in times.items()
    ]
    stage_shares = shares(bottleneck.stages_ms)
    stages = [
        (stage, f"{ms:.1f}", f"{100 * stage_shares[stage]:.0f} %")
        for stage, ms in bottleneck.stages_ms.items()
    ]
    cores = [(part, f"{used:.2f}") for part, used in bottleneck.cores.items()]
    counts = (
        f"accepted {found.accepted}, errors {found.errors or 'none'}, lost {found.lost}, "
        f"twice {found.twice}, unanswered {found.unanswered}"
    )
    parts = [
        f"{CHATS} chats and {SAVES} parallel saves, {report.took_s:g} s",
        table(("ms", "count", "p50", "p90", "p99", "max"), rows),
        counts,
        table(("time of a turn, beside the model's", "mean ms", "share"), stages),
        table(("CPU by process", "cores"), cores),
        bottleneck.advice,
    ]
    if report.knee is not None:
        parts.append(knee_text("ramp", report.knee))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=10, help="of each chat")
    parser.add_argument("--pause-s", type=float, default=2.0, help="between reply and answer")
    parser.add_argument("--knee-s", type=float, default=10.0, help="a step of the ramp; 0: none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        report = anyio.run(
            partial(measure, given, Path(folder)), backend_options={"use_uvloop": True}
        )
    print(text(report))
    print(f"kept in {save(report, 'load').relative_to(ROOT)}")
    if not report.found.well:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
