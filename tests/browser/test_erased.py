"""A message that is erased goes at once from every open tab."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import connected
from tests.browser.fake_server import FakeServer
from tests.browser.fake_store import Reply
from tests.browser.test_page import open_seeded, own, replies, user_of, write
from tests.browser.test_reply_notes import PEANUTS

pytestmark = pytest.mark.browser

FORGOTTEN = """async () => {
    const { Outbox } = await import("/outbox.js");
    const outbox = new Outbox({ send: () => {}, onChange: () => {} });
    const said = { type: "send", conversation: "c", text: "The code is 1234" };
    const accepted = outbox.add(said);
    outbox.accepted(accepted.id, "r");
    const asked = outbox.add(said);
    outbox.forget(accepted.id);
    outbox.forget(asked.id);
    return [outbox.replyLost("r"), outbox.get(asked.id) === undefined, Object.values(localStorage)];
}"""

LINES = [("user", "The code is 1234"), ("assistant", "Noted."), ("user", "And bees?")]


def test_its_words_go_from_all_tabs_and_one_quiet_line_stays(
    page: Page, context: BrowserContext, server: FakeServer
) -> None:
    open_seeded(page, server, LINES)
    other = connected(context.new_page(), page.url)
    for tab in (page, other):
        expect(own(tab).first).to_have_text("The code is 1234")
    server.erase(user_of(page, server), "seeded-0")
    for tab in (page, other):
        gone = tab.locator(".message").first
        expect(gone).to_have_class(re.compile("deleted"))
        expect(gone.locator(".note")).to_have_text("Deleted")
        expect(gone.locator(".text")).to_be_hidden()
        expect(gone.get_by_role("button")).to_have_count(0)
        expect(tab.locator("#messages")).not_to_contain_text("1234")
        expect(own(tab).last).to_have_text("And bees?")
        box = gone.locator(".body").bounding_box()
        assert box is not None
        assert box["height"] < 40
    page.reload()
    expect(page.locator(".message .note").first).to_have_text("Deleted")


def test_a_reply_goes_with_what_was_remembered_for_it(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("No satay, then.",), memories=(PEANUTS,)))
    write(page, "What shall I cook?")
    expect(page.get_by_text("Remembered 1 thing")).to_be_visible()
    expect(replies(page)).to_have_text("No satay, then.")
    user = user_of(page, server)
    (conversation,) = user.conversations.values()
    server.erase(user, conversation.messages[-1]["id"])
    gone = page.locator(".message.reply")
    expect(gone.locator(".note")).to_have_text("Deleted")
    expect(gone.locator(".remembered")).to_be_hidden()
    expect(gone.get_by_role("button")).to_have_count(0)
    expect(page.locator("#messages")).not_to_contain_text("satay")
    expect(page.locator("#messages")).not_to_contain_text("peanuts")


def test_what_quotes_it_as_remembered_does_not_any_more(page: Page, server: FakeServer) -> None:
    user_of(page, server).seed("earlier", "Long ago", LINES, ago_s=86_400)
    quoted = PEANUTS | {"id": "earlier-0", "text": "The code is 1234"}
    server.script.replies.append(Reply(pieces=("As you said.",), memories=(PEANUTS, quoted)))
    write(page, "What did I say?")
    expect(page.get_by_text("Remembered 2 things")).to_be_visible()
    server.erase(user_of(page, server), "earlier-0")
    expect(page.get_by_text("Remembered 1 thing")).to_be_visible()
    expect(page.locator("#messages")).not_to_contain_text("1234")
    expect(replies(page)).to_have_text("As you said.")


def test_an_open_box_to_edit_it_closes(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    own(page).first.hover()
    page.locator(".own").first.get_by_role("button", name="Edit this message").click()
    expect(page.locator(".editor textarea")).to_be_focused()
    server.erase(user_of(page, server), "seeded-0")
    expect(page.locator(".editor")).to_have_count(0)
    expect(page.locator(".own .note").first).to_have_text("Deleted")


def test_who_was_away_reads_it_anew(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    expect(own(page).first).to_have_text("The code is 1234")
    server.drop()
    server.erase(user_of(page, server), "seeded-0")
    expect(page.locator(".message .note").first).to_have_text("Deleted")
    expect(page.locator("#messages")).not_to_contain_text("1234")


def test_the_outbox_does_not_keep_its_words_nor_ask_for_its_reply_again(page: Page) -> None:
    asked_again, is_gone, kept = page.evaluate(FORGOTTEN)
    assert (asked_again, is_gone) == (False, True)
    assert not any("1234" in value for value in kept)
