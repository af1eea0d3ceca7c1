"""The page's modules against the conformance vectors; README.md has their format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import launched
from tests.browser.fake_server import FakeServer

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parent
VECTORS = sorted(FOLDER.glob("*.json"))
Json = dict[str, Any]
SOURCE = (FOLDER / "browser_driver.js").read_text()
DRIVER = """async ([source, vector]) => {
    const module = new Blob([source], { type: "text/javascript" });
    const { drive } = await import(URL.createObjectURL(module));
    return drive(vector);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    """Gives the modules away; nobody talks to it."""
    fake = FakeServer()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def page(browser: Browser, server: FakeServer) -> Iterator[Page]:
    """A page of nothing to import modules into."""
    opened = browser.new_page()
    opened.goto(f"{server.url}logo.svg")
    yield opened
    opened.close()


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_story_ends_as_it_should(page: Page, path: Path) -> None:
    vector = json.loads(path.read_text())
    steps = vector["steps"]
    outcome = page.evaluate(DRIVER, [SOURCE, vector])
    for number, step in enumerate(steps):
        kind = next(iter(step))
        if kind in {"sent", "leaves"}:
            continue
        wanted, leaves = _following(steps, number)
        taken = outcome["taken"][number]
        assert len(taken["sent"]) == len(wanted), (number, taken["sent"])
        for frame, fields in zip(taken["sent"], wanted, strict=True):
            assert {name: frame.get(name) for name in fields} == fields, number
        assert taken["left"] == leaves, number
    _compare(outcome["state"], vector["state"])


def _following(steps: list[Json], number: int) -> tuple[list[Json], bool]:
    """What is to be sent after step *number*, and whether the client leaves then."""
    sent, leaves = [], False
    for step in steps[number + 1 :]:
        if "sent" in step:
            sent.append(step["sent"])
        elif "leaves" in step:
            leaves = True
        else:
            break
    return sent, leaves


def _compare(has: Json, wants: Json) -> None:
    for key, wanted in wants.items():
        if key in {"conversations", "messages", "runs"}:
            assert set(has[key]) == set(wanted), key
            for id_, fields in wanted.items():
                assert {name: has[key][id_].get(name) for name in fields} == fields, id_
        else:
            assert has[key] == wanted, key
