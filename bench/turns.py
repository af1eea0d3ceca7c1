"""How long a turn takes and what it costs, at several rates: ``python bench/turns.py``.

Generator, stub model, server and its children are processes of their own. With ``--against
naive`` the naive server (``naive.py``) is measured in alternation, and the ratios come first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.compare import comparison, headline  # noqa: E402 - after the path is set
from bench.generator import crowd  # noqa: E402
from bench.knee import find_knee  # noqa: E402
from bench.level import Bench, Level, Load  # noqa: E402
from bench.report import (  # noqa: E402
    LevelReport,
    Report,
    SystemReport,
    circumstances,
    knee_text,
    level_report,
    level_text,
    save,
)
from bench.systems import open_stub, open_system  # noqa: E402

WARM_UP = Load(rate=10, first_token_ms=0)
WARM_UP_TURNS = 20
KNEE_BEGIN = 30.0


class Plan:
    """What is measured, from the command line."""

    def __init__(self, given: argparse.Namespace) -> None:
        quick: bool = given.quick
        self.systems = ["tandem", *given.against]
        self.rates: list[float] = given.rates or [5.0, 20.0, 50.0]
        self.first_tokens_ms: list[float] = given.first_token_ms or (
            [0.0] if quick else [0.0, 400.0]
        )
        self.turns: int | None = given.turns or (None if quick else 2000)
        self.level_s = 6.0
        self.portions = 1 if quick else given.portions
        self.idle_s = 2.0 if quick else 10.0
        self.knee_s = 0.0 if given.no_knee else (3.0 if quick else 15.0)

    def turns_at(self, rate: float) -> int:
        return self.turns or int(rate * self.level_s)


def say(line: str) -> None:
    """Progress: one line that is written over, where somebody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


async def measure_levels(benches: list[Bench], plan: Plan) -> dict[str, list[LevelReport]]:
    """All levels on all servers, in alternation, each level in ``plan.portions``."""
    found: dict[str, list[LevelReport]] = {bench.system.name: [] for bench in benches}
    for first_token_ms in plan.first_tokens_ms:
        for rate in plan.rates:
            load = Load(rate=rate, first_token_ms=first_token_ms)
            levels = {bench.system.name: Level(load=load) for bench in benches}
            for portion in range(plan.portions):
                turns = plan.turns_at(rate) // plan.portions
                for bench in benches:
                    level = await bench.run(
                        load, turns, seed=int(1000 * rate) + portion, progress=say
                    )
                    levels[bench.system.name].add(level)
            for name, level in levels.items():
                found[name].append(level_report(level))
                say("")
                print(level_text(name, found[name][-1]), end="\n\n", flush=True)
    return found


async def probe(bench: Bench, seconds: float, rate: float) -> Level:
    load = Load(rate=rate, first_token_ms=0)
    return await bench.run(load, int(rate * seconds), seed=int(rate), progress=say)


async def measure(plan: Plan, folder: Path) -> Report:
    facts = circumstances()
    async with AsyncExitStack() as stack:
        stub = stack.enter_context(open_stub(folder))
        benches: list[Bench] = []
        for name in plan.systems:
            say(f"{name} starts")
            system = stack.enter_context(open_system(name, folder, stub))
            users = await stack.enter_async_context(crowd(system.url))
            benches.append(Bench(system, users, stub))
        for bench in benches:
            await bench.run(WARM_UP, WARM_UP_TURNS, seed=-1, progress=say)
            await bench.measure_idle(plan.idle_s)
        levels = await measure_levels(benches, plan)
        systems = {name: SystemReport(levels=found) for name, found in levels.items()}
        for bench in benches if plan.knee_s else ():
            name = bench.system.name
            knee = await find_knee(partial(probe, bench, plan.knee_s), begin=KNEE_BEGIN)
            systems[name].knee = knee
            say("")
            print(knee_text(name, knee), end="\n\n", flush=True)
    return Report(
        made_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"), circumstances=facts, systems=systems
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short form, less than a minute")
    parser.add_argument("--rates", type=float, nargs="+", help="turns a second")
    parser.add_argument("--turns", type=int, help="turns of a level (2000)")
    parser.add_argument("--first-token-ms", type=float, nargs="+", help="the stub's (0 400)")
    parser.add_argument("--against", nargs="*", default=[], choices=["workers", "naive"])
    parser.add_argument("--portions", type=int, default=2, help="of a level, in alternation")
    parser.add_argument("--no-knee", action="store_true")
    return parser.parse_args()


def in_folder(work: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        work(Path(folder))


def main() -> None:
    plan = Plan(arguments())

    def work(folder: Path) -> None:
        report = anyio.run(partial(measure, plan, folder), backend_options={"use_uvloop": True})
        for name in plan.systems[1:]:
            names = ("tandem", name)
            print(f"== {name} beside tandem: how many times as much it needs")
            both = report.systems["tandem"], report.systems[name]
            print(headline(*both, names), comparison(*both, names), sep="\n\n")
        print(f"kept in {save(report, 'turns').relative_to(ROOT)}")

    in_folder(work)


if __name__ == "__main__":
    main()
