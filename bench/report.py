"""What a measurement found: JSON with its circumstances, and tables for a terminal."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.figures import Distribution
from bench.knee import Knee
from bench.level import OUTSIDE_FIGURES, SERVER_FIGURES, Level, stalls
from bench.processes import ROOT

RESULTS = ROOT / "bench" / "results"
STAGES = ("admit", "embed", "window", "commit", "recall", "first_token", "commit_reply")
PACKAGES = (
    *("starlette", "uvicorn", "uvloop", "websockets", "anyio", "msgspec", "chromadb", "redis"),
    *("openai", "aiohttp", "onnxruntime", "sentence-transformers", "torch"),
)
MEANINGS = {
    "model_request": "(a) frame received to model asked",
    "first_delta": "(b) model's first word to first delta",
    "delta_wait": "(c) of that, waited for the commit",
    "send_to_request": "(d) send to request at the stub",
    "byte_to_delta": "(d) stub's first word to delta seen",
    "send_to_accepted": "(d) send to accepted",
    "admit": "stage: admitted by Redis",
    "embed": "stage: question embedded",
    "window": "stage: window and parent found",
    "commit": "stage: question committed",
    "recall": "stage: memories found",
    "first_token": "stage: model asked to first word",
    "commit_reply": "stage: reply embedded and committed",
    "beyond_model": "(d) send to run.done, without the model",
}


class LevelReport(msgspec.Struct, kw_only=True):
    """A level as it is kept: distributions in milliseconds."""

    rate: float
    first_token_ms: float
    turns: int
    errors: dict[str, int]
    times_ms: dict[str, Distribution]
    cpu_ms_per_turn: dict[str, float]
    rss_mb: dict[str, float]
    stalls: dict[str, float]
    batch_mean: float
    others_cores: float

    @property
    def name(self) -> str:
        return f"{self.rate:g}/s, first token after {self.first_token_ms:g} ms"


class SystemReport(msgspec.Struct, kw_only=True):
    levels: list[LevelReport]
    knee: Knee | None = None


class Report(msgspec.Struct, kw_only=True):
    """A whole run; ``circumstances`` are the machine, the versions and the commit."""

    made_at: str
    circumstances: dict[str, str]
    systems: dict[str, SystemReport]


def level_report(level: Level) -> LevelReport:
    batches = level.histograms.get("tandem_commit_batch_size")
    return LevelReport(
        rate=level.load.rate,
        first_token_ms=level.load.first_token_ms,
        turns=level.turns,
        errors=level.errors,
        times_ms=level.distributions(),
        cpu_ms_per_turn=level.cpu_ms_per_turn,
        rss_mb=level.rss_mb,
        stalls=stalls(level),
        batch_mean=round(batches.mean, 2) if batches else 0.0,
        others_cores=round(level.others_cpu_s / level.took_s, 2) if level.took_s else 0.0,
    )


def circumstances() -> dict[str, str]:
    """The machine, what runs on it, and which state of the project this is."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "load_before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        "redis-server": _output("redis-server", "--version").partition("v=")[2].split(" ")[0],
        "commit": _output("git", "describe", "--always", "--dirty", "--exclude", "*"),
        **{package: version(package) for package in PACKAGES},
    }


def save(report: msgspec.Struct, kind: str) -> Path:
    """Keep *report* as JSON under a name with the time of day."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they must be, the first one to the left, the others to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def level_text(system: str, level: LevelReport) -> str:
    """A level for a terminal."""
    rows = [
        (MEANINGS[name], *(f"{figure:.1f}" for figure in (it.p50, it.p90, it.p99, it.max)))
        for name in (*SERVER_FIGURES, *OUTSIDE_FIGURES, *STAGES)
        if (it := level.times_ms.get(name)) is not None
    ]
    late = level.times_ms.get("generator_late")
    lines = [
        f"{system}: {level.name}; {level.turns} turns, errors: {_pairs(level.errors) or 'none'}",
        table(("ms", "p50", "p90", "p99", "max"), rows),
        f"CPU-ms a turn: {_pairs(level.cpu_ms_per_turn)}",
        f"RSS, MB: {_pairs(level.rss_mb)}",
    ]
    if level.stalls:
        lines.append(f"event loop: {_pairs(level.stalls)}; messages a commit: {level.batch_mean}")
    lines.append(f"programs that have no part in this used {level.others_cores:g} cores meanwhile")
    if late is not None:
        lines.append(f"the generator itself was late by {late.p50:.1f} ms (p99 {late.p99:.1f})")
    return "\n".join(lines)


def knee_text(system: str, knee: Knee) -> str:
    tried = ", ".join(f"{rate:g}/s {p99:.0f} ms" for rate, p99 in knee.tried)
    above = f", not {knee.lost:g}" if knee.lost is not None else ""
    return f"{system}: knee {knee.kept:g} turns/s{above} (p99 of accepted: {tried})"


def _pairs(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure:g}" for name, figure in figures.items())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
