from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chat_server.command_rate import BURST, PER_S, CommandRate


@given(st.lists(st.floats(0, 5), max_size=400))
def test_never_more_than_a_burst_and_the_rate_are_let_through(pauses_s: list[float]) -> None:
    rate, now_s, let = CommandRate(0.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        let += rate.spend(now_s)
        assert let <= BURST + PER_S * now_s + 1e-6


def test_the_rate_is_sustained_for_ever() -> None:
    rate = CommandRate(0.0)
    assert all(rate.spend(number / PER_S) for number in range(2_000))


def test_after_a_burst_the_time_is_told_until_another_one() -> None:
    rate = CommandRate(5.0)
    assert all(rate.spend(5.0) for _ in range(BURST))
    assert not rate.spend(5.0)
    wait_s = rate.full_in_s(5.0)
    assert wait_s == BURST / PER_S
    assert all(rate.spend(5.0 + wait_s) for _ in range(BURST))


def test_what_costs_less_lasts_longer() -> None:
    rate = CommandRate(0.0)
    assert sum(rate.spend(0.0, 0.2) for _ in range(1_000)) in range(599, 602)
