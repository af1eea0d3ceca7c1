"""The short form of what ``make chaos`` does to the wire: nothing lost, doubled or cut."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.chaos.wire_campaign import Campaign, ground, new_nonce
from tests.chaos.wire_plan import MOMENTS, REPLAYS, Plan, moment_plans, plan_of
from tests.chaos.wire_scenes import WORKERS

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

SEEDED = 24
AT_MOMENTS = 16
"""Each fault at one or two of the moments; all of them are for the long form."""


def chosen() -> list[Plan]:
    nonce = new_nonce()
    at_moments = moment_plans(nonce)
    every = len(MOMENTS) + len(REPLAYS) - 5  # no divisor of it: other moments for each fault
    return [*(plan_of(seed, nonce) for seed in range(SEEDED)), *at_moments[::every][:AT_MOMENTS]]


@pytest.mark.parametrize("environment", [{}, WORKERS], ids=["one process", "two workers"])
def test_whatever_the_line_does_every_tab_ends_with_what_is_stored(
    environment: dict[str, str], tmp_path: Path, prepared_model_folder: Path
) -> None:
    with ground(tmp_path, prepared_model_folder, environment) as here:
        report = anyio.run(Campaign(here).run, chosen())
    assert report.broken == {}
    assert sum(report.faults.values()) > SEEDED
    assert report.counts["resumed"] > 0
