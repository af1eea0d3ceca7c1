"""Where the server's CPU goes at one level: ``python bench/flame.py [--rate 20]``.

Writes a flame graph of the server process to ``bench/results`` (py-spy, which must be installed)
and prints the functions that cost most, alone and with what they call.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.generator import crowd  # noqa: E402 - after the path is set
from bench.level import Bench, Level, Load  # noqa: E402
from bench.report import RESULTS, level_report, level_text, table  # noqa: E402
from bench.systems import open_stub, open_system  # noqa: E402

PY_SPY = Path(sys.executable).with_name("py-spy")
SAMPLES_PER_S = 200
SHOWN = 25
SETTLED_AFTER_S = 2.0


def record(pid: int, seconds: int, output: Path, form: str) -> None:
    """Sample *pid* for *seconds*; the samples are of CPU use, without threads that wait."""
    options = ("--duration", str(seconds), "--rate", str(SAMPLES_PER_S), "--format", form)
    subprocess.run(
        [str(PY_SPY), "record", "--pid", str(pid), *options, "--output", str(output)],
        check=True,
        capture_output=True,
    )


def shares(stacks: Iterable[str]) -> tuple[Counter[str], Counter[str], int]:
    """Samples by function, alone and with callees, and of all, from lines of collapsed stacks
    (frames from the outermost inwards between semicolons, then a blank and the count).
    """
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = [_place(frame) for frame in stack.split(";")]
        alone[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
        total += int(count)
    return alone, within, total


def _place(frame: str) -> str:
    """``function (file)``, so that the lines of a function count together."""
    return frame.rpartition(":")[0] + ")" if ":" in frame else frame


async def profile(rate: float, seconds: int, folder: Path) -> tuple[Level, Path, Path]:
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    svg, raw = (RESULTS / f"flame-{stamp}.{ending}" for ending in ("svg", "txt"))
    with open_stub(folder) as stub, open_system("tandem", folder, stub) as system:
        async with crowd(system.url) as users, anyio.create_task_group() as tasks:
            bench = Bench(system, users, stub)
            load = Load(rate=rate, first_token_ms=0)
            await bench.run(load, int(rate * SETTLED_AFTER_S), seed=0, progress=lambda _: None)
            tasks.start_soon(run_sync, record, system.program.pid, seconds, svg, "flamegraph")
            await bench.run(load, int(rate * seconds), seed=1, progress=lambda _: None)
            tasks.start_soon(run_sync, record, system.program.pid, seconds, raw, "raw")
            level = await bench.run(load, int(rate * seconds), seed=2, progress=lambda _: None)
    return level, svg, raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=20.0, help="turns a second")
    parser.add_argument("--seconds", type=int, default=20)
    given = parser.parse_args()
    if not PY_SPY.exists():
        raise SystemExit(f"py-spy is missing: {sys.executable} -m pip install py-spy")
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        run = partial(profile, given.rate, given.seconds, Path(folder))
        level, svg, raw = anyio.run(run, backend_options={"use_uvloop": True})
    print(level_text("tandem, while it was sampled", level_report(level)), end="\n\n")
    alone, within, total = shares(raw.read_text().splitlines())
    for name, counted in (("alone", alone), ("with what it calls", within)):
        rows = [(place, f"{100 * n / total:.1f} %") for place, n in counted.most_common(SHOWN)]
        print(table((f"CPU, {name}", "share"), rows), end="\n\n")
    print(f"flame graph: {svg.relative_to(ROOT)}; stacks: {raw.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
