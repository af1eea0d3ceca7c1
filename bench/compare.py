"""Two runs side by side: ``python bench/compare.py A.json B.json``.

For each level and figure of A that B has too: both, and how many times as much B needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.report import LevelReport, Report, SystemReport, table  # noqa: E402 - after the path

SHARES = ("p50", "p99")
HEADLINE = {
    "CPU-ms a turn, sum": "CPU",
    "send_to_request p50 ms": "time to the model p50",
    "send_to_accepted p50 ms": "to accepted p50",
    "beyond_model p50 ms": "to run.done without the model p50",
    "beyond_model p99 ms": "p99",
}
SAME = 0.02
"""Ratios closer to 1 than this have no word."""


def word(ratio: float) -> str:
    """What B is beside A, as *ratio* is B's time over A's."""
    if abs(ratio - 1) <= SAME:
        return ""
    return "slower" if ratio > 1 else "faster"


def figures(level: LevelReport) -> Iterator[tuple[str, float]]:
    """The figures of which less is better."""
    for name, times in level.times_ms.items():
        for share in SHARES:
            yield f"{name} {share} ms", getattr(times, share)
    for part, ms in level.cpu_ms_per_turn.items():
        yield f"CPU-ms a turn, {part}", ms


def compared(a: LevelReport, b: LevelReport) -> list[tuple[str, str, str, str, str]]:
    """Rows of figure, A, B, ratio, word; a figure that is 0 in A has no ratio."""
    others = dict(figures(b))
    rows = []
    for name, figure in figures(a):
        other = others.get(name)
        if other is None:
            continue
        ratio = other / figure if figure else None
        told = (f"{ratio:.2f}", word(ratio)) if ratio is not None else ("", "")
        rows.append((name, f"{figure:.2f}", f"{other:.2f}", *told))
    return rows


def comparison(a: SystemReport, b: SystemReport, names: tuple[str, str]) -> str:
    """All levels that both have."""
    others = {(level.rate, level.first_token_ms): level for level in b.levels}
    parts = []
    for level in a.levels:
        other = others.get((level.rate, level.first_token_ms))
        if other is not None:
            head = (level.name, *names, "ratio", "")
            parts.append(table(head, compared(level, other)))
    if a.knee is not None and b.knee is not None and a.knee.kept:
        ratio = b.knee.kept / a.knee.kept
        parts.append(f"knee, turns/s: {a.knee.kept:g} and {b.knee.kept:g}, ratio {ratio:.2f}")
    return "\n\n".join(parts)


def headline(a: SystemReport, b: SystemReport, names: tuple[str, str]) -> str:
    """How many times as much B needs, in a line for each level."""
    others = {(level.rate, level.first_token_ms): level for level in b.levels}
    lines = []
    for level in a.levels:
        other = others.get((level.rate, level.first_token_ms))
        if other is not None:
            ratios = {name: figure for name, *_, figure, _ in compared(level, other)}
            told = ", ".join(f"{said} x {ratios.get(name, '')}" for name, said in HEADLINE.items())
            lines.append(f"{names[1]} beside {names[0]}, {level.name}: {told}")
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python bench/compare.py A.json B.json")
    a, b = (msgspec.json.decode(Path(path).read_bytes(), type=Report) for path in sys.argv[1:])
    for name, system in a.systems.items():
        if name in b.systems:
            print(f"== {name}")
            print(comparison(system, b.systems[name], ("A", "B")))


if __name__ == "__main__":
    main()
