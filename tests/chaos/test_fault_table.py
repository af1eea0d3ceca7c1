"""The fault table names what there is."""

from __future__ import annotations

import pytest

from tests.chaos.fault_table import FAULTS, KILL_LOOP, TABLE, Row
from tests.integration.running_server import ROOT


def test_every_row_is_there_and_says_what_shows_it_or_why_nothing_does() -> None:
    assert [row.number for row in TABLE] == list(range(1, 33))
    assert all(row.shown_by or row.later for row in TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault)
def test_what_a_row_names_exists(row: Row) -> None:
    faults = {fault.name for fault in FAULTS} | {KILL_LOOP}
    for name in row.shown_by:
        file, _, function = name.partition("::")
        assert name in faults or f"def {function}(" in (ROOT / file).read_text(), name


def test_every_fault_shows_a_row() -> None:
    named = {name for row in TABLE for name in row.shown_by}
    for fault in FAULTS:
        assert fault.name in named
        assert all(fault.name in TABLE[number - 1].shown_by for number in fault.rows)
