from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.time_expressions import times_named

ASKED = datetime(2025, 11, 20, 12, tzinfo=UTC).timestamp()


def holds(text: str, day: str) -> bool:
    at = datetime.fromisoformat(f"{day}T13:00:00+00:00").timestamp()
    return any(span.start <= at < span.end for span in times_named(text, ASKED))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("What did I plant last spring?", "2025-04-10", "2025-07-10"),
        ("in May 2023", "2023-05-31", "2023-06-01"),
        ("back in December", "2024-12-24", "2025-11-19"),
        ("two weeks ago", "2025-11-06", "2025-11-14"),
        ("what I said yesterday", "2025-11-19", "2025-11-17"),
        ("vor drei Monaten", "2025-08-22", "2025-11-01"),
        ("im M\u00e4rz 2024", "2024-03-01", "2024-04-01"),
        ("hace dos semanas", "2025-11-06", "2025-11-14"),
        ("en enero", "2025-01-15", "2025-02-01"),
        ("en ao\u00fbt", "2025-08-15", "2025-09-01"),
        ("w pa\u017adzierniku", "2025-10-01", "2025-11-01"),
        ("2024\u5e745\u67083\u65e5", "2024-05-03", "2024-05-04"),
        ("7\u6708\u306b\u4f55\u3092?", "2025-07-02", "2025-08-02"),
        ("on 2024-02-29", "2024-02-29", "2024-02-28"),
        ("am 12.05.2024", "2024-05-12", "2024-12-05"),
        ("in 2023", "2023-08-01", "2024-01-01"),
    ],
)
def test_a_named_time_is_resolved(text: str, inside: str, outside: str) -> None:
    assert holds(text, inside)
    assert not holds(text, outside)


@pytest.mark.parametrize("text", ["May I ask?", "Version 3.5 of 10", "march on", "99 red balloons"])
def test_where_no_time_is_named_few_are_found(text: str) -> None:
    assert not holds(text, "2023-05-05")


@given(st.text(), st.floats(allow_nan=False))
def test_any_text_at_any_time_is_read(text: str, asked_at: float) -> None:
    assert all(span.start < span.end for span in times_named(text, asked_at))


ODD = ["99", "1", "last", "ago", "2023", "0000-00", "31.2.2024", "2024-2-31", "years", "week"]


@given(st.lists(st.sampled_from(ODD)))
def test_odd_dates_are_read(words: list[str]) -> None:
    assert all(span.start < span.end for span in times_named(" ".join(words), ASKED))
