"""The page's live state under whatever order of breaks, losses and repetitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from tests.browser.fake_server import FakeServer

pytestmark = pytest.mark.browser

SOURCE = (Path(__file__).parent / "live_world.js").read_text()
LOAD = """async (source) => {
    const module = new Blob([source], { type: "text/javascript" });
    window.world = await import(URL.createObjectURL(module));
}"""
KINDS = [
    *("grow", "grow", "grow", "deliver", "deliver", "begin", "end"),
    *("lose", "repeat", "swap", "cut", "connect", "connect", "reset"),
]
Step = tuple[str, int, int]
steps = st.tuples(st.sampled_from(KINDS), st.integers(0, 7), st.integers(1, 4))


@pytest.fixture(scope="module")
def worlds(chromium: Browser) -> Iterator[Page]:
    """A page of nothing that has the module."""
    server = FakeServer()
    server.start()
    page = chromium.new_page()
    page.goto(f"{server.url}logo.svg")
    page.evaluate(LOAD, SOURCE)
    yield page
    page.close()
    server.stop()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(story=st.lists(steps, min_size=10, max_size=60))
def test_what_is_shown_is_the_beginning_and_in_the_end_all_of_it(
    worlds: Page, story: list[Step]
) -> None:
    assert worlds.evaluate("(story) => window.world.live(story)", story) == 0
