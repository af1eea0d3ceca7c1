from __future__ import annotations

from bench.knee import find_knee, kept_up
from bench.level import Level, Load


def level(rate: float, accepted_ms: float, errors: dict[str, int] | None = None) -> Level:
    return Level(
        load=Load(rate=rate, first_token_ms=0),
        times_ms={"send_to_accepted": [accepted_ms]},
        errors=errors or {},
    )


def test_a_level_with_errors_late_answers_or_none_at_all_was_not_kept_up_with() -> None:
    assert kept_up(level(5, 100))
    assert not kept_up(level(5, 300))
    assert not kept_up(level(5, 100, {"starved": 1}))
    assert not kept_up(Level(load=Load(rate=5, first_token_ms=0)))


async def test_the_knee_is_found_from_below_and_from_above() -> None:
    for begin in (10.0, 200.0):
        tried: list[float] = []

        async def probe(rate: float, tried: list[float] = tried) -> Level:
            tried.append(rate)
            return level(rate, 20 if rate <= 63 else 900)

        knee = await find_knee(probe, begin=begin)
        assert knee.lost is not None
        assert knee.kept <= 63 < knee.lost < 1.1 * knee.kept
        assert [rate for rate, _ in knee.tried] == tried


async def test_a_server_that_keeps_up_with_nothing_has_no_knee() -> None:
    async def probe(rate: float) -> Level:
        return level(rate, 900)

    knee = await find_knee(probe, begin=10)
    assert knee.kept == 0
    assert knee.lost is not None
    assert knee.lost <= 1
