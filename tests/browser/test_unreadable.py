"""What the page does while the server cannot read what it has stored."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_server import FakeServer
from tests.browser.test_connection import eventually
from tests.browser.test_page import own, replies, write

pytestmark = pytest.mark.browser

LIST = "The list could not be loaded. The server cannot read it right now; trying again."
MESSAGES = "The messages could not be loaded. The server cannot read it right now; trying again."


@pytest.fixture
def unreadable(page: Page, server: FakeServer) -> Page:
    """A page whose conversation and list cannot be read, connected."""
    write(page, "Are you there?")
    expect(replies(page)).to_have_text("All right.")
    server.script.unreadable = True
    page.clock.install()
    page.reload()
    expect(page.locator("#list-note")).to_have_text(LIST)
    expect(page.locator("#unread-words")).to_have_text(MESSAGES)
    expect(page.locator("#connection")).to_have_text("Connected")
    return page


def test_what_could_not_be_read_is_read_again_by_itself(
    unreadable: Page, server: FakeServer
) -> None:
    eventually(unreadable, lambda: len(server.reads) > 7)
    expect(unreadable.locator("#list-note")).to_have_text(LIST)
    expect(unreadable.locator("#unread-words")).to_have_text(MESSAGES)
    server.script.unreadable = False
    expect(own(unreadable)).to_have_text("Are you there?")
    expect(unreadable.locator("#conversations .title")).to_have_text("Are you there?")
    expect(unreadable.locator("#list-note")).to_have_text("")
    expect(unreadable.get_by_role("button", name="Try again")).to_have_count(0)


def test_the_list_can_be_asked_for_at_once(unreadable: Page, server: FakeServer) -> None:
    server.script.unreadable = False
    unreadable.clock.pause_at(unreadable.evaluate("Date.now()") / 1000 + 0.1)
    unreadable.locator("#list-retry").click()
    title = unreadable.locator("#conversations .title")

    def is_drawn() -> bool:
        unreadable.clock.run_for(2)  # an answer comes when it comes; it is drawn by this clock
        return title.count() == 1

    eventually(unreadable, is_drawn)
    expect(title).to_have_text("Are you there?")
    expect(unreadable.locator("#list-retry")).to_be_hidden()


def test_a_conversation_that_is_left_is_not_read_again(
    unreadable: Page, server: FakeServer
) -> None:
    unreadable.locator("#new-chat").click()
    expect(unreadable.get_by_text("What should we pick up?")).to_be_visible()
    expect(unreadable.locator("#unread")).to_be_hidden()
    server.reads.clear()
    unreadable.clock.fast_forward(12_000)
    eventually(unreadable, lambda: len(server.reads) > 1)
    assert set(server.reads) == {"list"}
