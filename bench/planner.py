"""What the planner does with small talk and with questions: ``python bench/planner.py``.

The lines are those of ``recall_set``: small talk in seven languages, and what its users ask. Prints
a table, the lines that were decided wrongly, and the time a plan takes.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script, from any folder

from memory.planner import plan_for  # noqa: E402 - after the path is set

RECALL_SET = ROOT / "bench" / "recall_set"
SMALL_TALK = RECALL_SET / "small_talk.json"
ROUNDS = 20


def small_talk() -> list[str]:
    return [each["text"] for each in json.loads(SMALL_TALK.read_text("utf-8"))]


def questions() -> list[str]:
    found: list[str] = []
    for file in sorted(set(RECALL_SET.glob("*.json")) - {SMALL_TALK}):
        user = json.loads(file.read_text("utf-8"))
        found += [each["text"] for each in user["questions"] + user["unanswerable"]]
    return found


def took_us(lines: list[str]) -> float:
    """Microseconds that one plan takes on average."""
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        for line in lines:
            plan_for(line)
    return (time.perf_counter() - begun) / ROUNDS / len(lines) * 1e6


def main() -> None:
    print(f"{'':12}{'lines':>7}{'none':>7}{'recent':>8}{'relevant':>10}{'deep':>6}{'skipped':>10}")
    for name, lines in (("small talk", small_talk()), ("questions", questions())):
        kinds = Counter(plan_for(line).kind for line in lines)
        skipped = (kinds["none"] + kinds["recent"]) / len(lines)
        row = f"{name:12}{len(lines):>7}{kinds['none']:>7}{kinds['recent']:>8}"
        print(f"{row}{kinds['relevant']:>10}{kinds['deep']:>6}{skipped:>10.1%}")
    print("small talk that is searched for:", [each for each in small_talk() if _searches(each)])
    print("questions that are skipped:", [each for each in questions() if not _searches(each)])
    print(f"a plan takes {took_us(small_talk() + questions()):.0f} microseconds")


def _searches(line: str) -> bool:
    return plan_for(line).searches


if __name__ == "__main__":
    main()
