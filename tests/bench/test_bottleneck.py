from __future__ import annotations

from bench.bottleneck import find_bottleneck, shares
from bench.figures import Histogram

COMMIT = {"tandem_stage_seconds/commit": Histogram({1.0: 4.0}, 0.08)}


def test_the_process_nearest_to_a_full_core_is_what_to_buy_for() -> None:
    found = find_bottleneck(COMMIT, {"server": 4.0, "chroma": 9.0, "redis": 0.1}, 10.0, 0.7)
    assert found.stages_ms["commit"] == 20
    assert found.cores == {"server": 0.4, "chroma": 0.9, "redis": 0.01}
    assert found.advice.startswith("Chroma is nearest to a full core (0.90)")


def test_a_full_machine_comes_first_while_no_process_fills_a_core() -> None:
    found = find_bottleneck({}, {"server": 6.0, "chroma": 3.0}, 10.0, 0.97)
    assert "Buy more cores first" in found.advice
    assert found.stages_ms["commit"] == 0


def test_shares_add_up_to_one() -> None:
    assert shares({"a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}
    assert shares({"a": 0.0}) == {"a": 0.0}
