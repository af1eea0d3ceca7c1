from __future__ import annotations

import pytest

from memory.upkeep.terminal import counted, told


def test_without_a_terminal_each_step_is_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with told() as report:
        for step, done in (("copying", 0.1), ("copying", 0.5), ("checking", 0.9)):
            report(step, done)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "copying\nchecking\n")


def test_one_is_not_called_many() -> None:
    shown = [counted(number, "user") for number in (0, 1, 2_630)]
    assert shown == ["0 users", "1 user", "2,630 users"]
