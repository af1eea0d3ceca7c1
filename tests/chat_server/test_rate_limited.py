from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.rate_limited import RateLimited, Scope, whole_ms
from memory.short_term import Allowance


@pytest.mark.parametrize(("scope", "whose"), [("user", "you have sent"), ("global", "the server")])
def test_a_refusal_says_whose_limit_is_spent_and_what_is_left(scope: Scope, whose: str) -> None:
    allowance = Allowance(limit=30, remaining=0, reset_ms=1_500)
    refusal = RateLimited(scope, allowance)
    assert (refusal.code, refusal.retryable) == ("rate_limited", True)
    assert (refusal.scope, refusal.allowance) == (scope, allowance)
    assert refusal.message.startswith(whose)


@given(st.integers(0, 10**9))
def test_whoever_waits_as_long_as_was_said_has_waited_long_enough(reset_ms: int) -> None:
    refusal = RateLimited("user", Allowance(limit=1, remaining=0, reset_ms=reset_ms))
    said_s = int(refusal.message.split()[-2])
    assert 1_000 * said_s >= reset_ms > 1_000 * (said_s - 1) or (reset_ms, said_s) == (0, 1)
    assert refusal.retry_after_ms is not None
    assert refusal.retry_after_ms >= max(1, reset_ms)


@given(st.floats(-1e6, 1e6))
def test_whole_ms_are_never_too_few_and_none_of_the_past(seconds: float) -> None:
    told = whole_ms(seconds)
    assert told >= 0
    assert told >= seconds * 1_000
    assert told == 0 or told - 1 < seconds * 1_000
