"""The short form of ``make chaos``: some kills, and the faults that nothing else brings about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.fault import Fault, NotHere, Place
from tests.chaos.fault_table import FAULTS
from tests.chaos.kill_loop import KillLoop

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

KILLS = 6
BACK_WITHIN_S = 15.0
"""Three are promised of a machine that has time for it."""
CHOSEN = ("full disk", "fsync fails with EIO")


def test_kills_under_load_break_no_promise(tmp_path: Path, prepared_model_folder: Path) -> None:
    outcome = KillLoop(KILLS, seed=7).run(tmp_path / "kills", prepared_model_folder)
    assert outcome.findings == []
    assert len(outcome.kills) == KILLS
    back_s = [kill.accepted_s for kill in outcome.kills if kill.victim == "chroma"]
    assert all(seconds is None or seconds < BACK_WITHIN_S for seconds in back_s)


@pytest.mark.parametrize(
    "fault", [it for it in FAULTS if it.name in CHOSEN], ids=lambda fault: fault.name
)
def test_a_fault_breaks_no_promise(
    fault: Fault, tmp_path: Path, prepared_model_folder: Path
) -> None:
    place = Place(tmp_path / "fault", prepared_model_folder, short=True)
    place.folder.mkdir()
    try:
        assert fault.make(place)
    except NotHere as reason:
        pytest.skip(str(reason))
