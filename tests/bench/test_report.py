from __future__ import annotations

from bench.compare import comparison, headline, word
from bench.level import Level, Load
from bench.report import Report, SystemReport, level_report, level_text, table


def level(accepted_ms: float, cpu_s: float) -> Level:
    return Level(
        load=Load(rate=5, first_token_ms=0),
        times_ms={"send_to_accepted": [accepted_ms] * 4},
        turns=4,
        took_s=2.0,
        cpu_s={"server": cpu_s, "stub": 1.0},
    )


def test_a_table_lines_its_columns_up() -> None:
    assert table(("ms", "p50"), [("long name", "1.0")]) == "ms         p50\nlong name  1.0"


def test_portions_of_a_level_add_up() -> None:
    both = level(10, 0.1)
    both.add(level(20, 0.3))
    assert both.distributions()["send_to_accepted"].mean == 15
    assert both.cpu_ms_per_turn == {"server": 50.0, "stub": 250.0, "sum": 50.0}


def test_a_level_is_told_with_its_errors() -> None:
    failed = level(10, 0.1)
    failed.errors = {"busy": 2}
    told = level_text("tandem", level_report(failed))
    assert "errors: busy 2" in told
    assert "(d) send to accepted" in told


def test_a_comparison_gives_ratios_of_the_second_to_the_first() -> None:
    a, b = (SystemReport(levels=[level_report(level(*it))]) for it in ((10, 0.1), (20, 0.05)))
    rows = [line.split() for line in comparison(a, b, ("A", "B")).splitlines()]
    assert ["send_to_accepted", "p50", "ms", "10.00", "20.00", "2.00", "slower"] in rows
    assert ["CPU-ms", "a", "turn,", "sum", "25.00", "12.50", "0.50", "faster"] in rows
    assert word(1.01) == ""
    told = headline(a, b, ("A", "B"))
    assert told.startswith("B beside A, 5/s, first token after 0 ms: CPU x 0.50,")


def test_a_level_that_only_one_has_is_not_compared() -> None:
    empty = SystemReport(levels=[])
    assert comparison(SystemReport(levels=[level_report(level(10, 0.1))]), empty, ("A", "B")) == ""
    assert Report(made_at="", circumstances={}, systems={"tandem": empty}).systems
