"""``make chaos``: kills, planned faults, broken lines, and the fault table.

``python -m tests.chaos [--kills 200] [--short] [--seed N] [--only WORDS]``; the status is 1 when
anything does not hold. The folder ``.cache/chaos`` has the logs, the stores and ``results.json``.

``python -m tests.chaos --wire [--seed N] [--runs N] [--workers N]``: seeded runs of
broken lines only, from seed N on; with a seed just that one, as often as ``--runs`` says.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import time
from typing import Final, Literal

import msgspec
import structlog

from memory.model_files import NAME
from tests.chaos.fault import Fault, NotHere, Place
from tests.chaos.fault_table import FAULTS, KILL_LOOP, TABLE
from tests.chaos.kill_loop import KillLoop, Outcome, summary
from tests.chaos.wire_scenes import RUNS, seeded_runs
from tests.integration.running_server import ROOT

FOLDER: Final = ROOT / ".cache" / "chaos"
MODEL: Final = ROOT / ".cache" / "models" / NAME

Verdict = Literal["holds", "BROKEN", "not here"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a fault."""

    name: str
    verdict: Verdict
    seen: str
    took_s: float


def say(text: str) -> None:
    """A line on standard output, now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make(fault: Fault, *, short: bool) -> Result:
    """Make *fault* in a folder of its own; what it leaves is kept when something is broken."""
    folder = FOLDER / fault.name.replace(" ", "-").replace("(", "").replace(")", "")
    folder.mkdir(parents=True)
    began = time.monotonic()
    verdict: Verdict = "holds"
    try:
        seen = fault.make(Place(folder, MODEL, short))
    except NotHere as reason:
        verdict, seen = "not here", str(reason)
    except Exception as failure:  # noqa: BLE001  # told, and the next fault has its turn
        verdict, seen = "BROKEN", f"{type(failure).__name__}: {failure}"[-2000:]
    took_s = round(time.monotonic() - began, 1)
    say(f"{verdict:<9} {fault.name} ({took_s:.0f} s): {seen}")
    if verdict != "BROKEN":
        shutil.rmtree(folder)
    return Result(name=fault.name, verdict=verdict, seen=seen, took_s=took_s)


def kill(kills: int, seed: int) -> tuple[Result, Outcome | None]:
    """The kill loop as a result like that of a fault."""
    began = time.monotonic()
    outcome: Outcome | None = None
    try:
        outcome = KillLoop(kills, seed=seed).run(FOLDER / "kills", MODEL)
    except Exception as failure:  # noqa: BLE001  # told, and the faults have their turn
        seen = f"{type(failure).__name__}: {failure}"[-2000:]
        say(f"BROKEN    {KILL_LOOP}, seed {seed}: {seen}")
    else:
        seen = f"{len(outcome.kills)} kills, {len(outcome.findings)} broken promises"
        summary(outcome, sys.stdout.write)
    holds = outcome is not None and not outcome.findings
    verdict: Verdict = "holds" if holds else "BROKEN"
    took_s = round(time.monotonic() - began, 1)
    return Result(name=KILL_LOOP, verdict=verdict, seen=seen, took_s=took_s), outcome


def show_table(results: list[Result]) -> None:
    """The fault table, with what was seen just now."""
    verdicts = {result.name: result.verdict for result in results}
    say("\n   fault                                                     shown by")
    for row in TABLE:
        shown = [f"{name} [{verdicts.get(name, 'a test')}]" for name in row.shown_by]
        if row.later:
            shown.append(f"({row.later})")
        say(f"{row.number:>2} {row.fault:<57} {shown[0]}")
        for more in shown[1:]:
            say(f"{'':60} {more}")


def wire(options: argparse.Namespace) -> int:
    """Seeded runs of broken lines; the exit status."""
    if options.seed is None:
        seeds = list(range(options.runs or RUNS))
    else:
        seeds = [options.seed] * (options.runs or 1)
    report = seeded_runs(FOLDER / "wire", MODEL, seeds, workers=options.workers, say=say)
    say(report.said())
    return 1 if report.broken else 0


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description="Break the server in every known way.")
    parser.add_argument("--kills", type=int, default=200, help="kills of the loop; 0: none")
    parser.add_argument("--short", action="store_true", help="waits are short, variants are few")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of a run")
    parser.add_argument("--only", default="", help="faults whose names contain this")
    parser.add_argument("--wire", action="store_true", help="seeded runs of broken lines, alone")
    parser.add_argument("--runs", type=int, default=0, help="how many of them")
    parser.add_argument("--workers", type=int, default=1, help="of the server that they meet")
    options = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)  # clients log each lost line
    structlog.configure(wrapper_class=quiet)
    seed = random.randrange(10_000) if options.seed is None else options.seed
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    if options.wire:
        return wire(options)
    results: list[Result] = []
    outcome: Outcome | None = None
    if options.kills:
        result, outcome = kill(options.kills, seed)
        results.append(result)
    chosen = [fault for fault in FAULTS if options.only in fault.name]
    results += [make(fault, short=options.short) for fault in chosen]
    show_table(results)
    report = {"seed": seed, "results": results, "kills": outcome}
    (FOLDER / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    broken = [result.name for result in results if result.verdict == "BROKEN"]
    say(f"\nBROKEN: {', '.join(broken)}" if broken else "\nEverything holds.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
