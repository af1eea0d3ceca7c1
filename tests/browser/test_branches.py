"""Saying something else, asking for another reply, and going from one version to another."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import connected
from tests.browser.fake_server import FakeServer, scripted
from tests.browser.fake_store import Refusal, Reply
from tests.browser.test_connection import eventually
from tests.browser.test_page import open_seeded, own, replies, user_of, write

pytestmark = pytest.mark.browser

LINES = [("user", "one"), ("assistant", "eins"), ("user", "two"), ("assistant", "zwei")]


def editor(page: Page) -> Locator:
    return page.get_by_label("Edit your message")


def edit(page: Page, number: int, text: str) -> None:
    """Says *text* in the place of the own message *number*."""
    page.locator(".own").nth(number).hover()
    page.locator(".own").nth(number).get_by_role("button", name="Edit this message").click()
    editor(page).fill(text)
    editor(page).press("Enter")


def regenerate(page: Page, number: int = -1) -> None:
    page.locator(".reply").nth(number).hover()
    page.locator(".reply").nth(number).get_by_role("button", name="another reply").click()


def expect_line(page: Page, *texts: str) -> None:
    expect(page.locator(".message .text")).to_have_text(list(texts))


def test_something_else_is_said_in_the_place_of_the_first_message(
    page: Page, server: FakeServer
) -> None:
    server.script.replies.extend([scripted("Hello."), scripted("Goodbye.")])
    write(page, "Hi")
    expect_line(page, "Hi", "Hello.")
    edit(page, 0, "Bye")
    expect_line(page, "Bye", "Goodbye.")
    expect(page.locator(".own .branch")).to_have_text("2/2")
    [frame] = server.sent("edit")
    assert (frame["message"], frame["text"]) == (f"m-{server.sent()[0]['id']}", "Bye")
    page.reload()
    expect_line(page, "Bye", "Goodbye.")


def test_what_followed_an_edited_message_gives_way_at_once(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    server.script.replies.append(Reply(pieces=("drei",), hold_after=0))
    edit(page, 1, "three")
    expect(page.locator(".own .text")).to_have_text(["one", "three"])
    expect(page.locator(".reply .text").first).to_have_text("eins")
    expect(page.locator(".thinking")).to_be_visible()
    server.release()
    expect_line(page, "one", "eins", "three", "drei")
    expect(page.locator("#box")).to_be_focused()


def test_an_edit_that_changes_nothing_is_none(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    edit(page, 0, "one ")
    expect(editor(page)).to_have_count(0)
    expect(page.locator(".own").first.get_by_role("button", name="Edit")).to_be_focused()
    page.keyboard.press("Enter")
    editor(page).fill("something else")
    page.keyboard.press("Escape")
    expect(editor(page)).to_have_count(0)
    expect_line(page, "one", "eins", "two", "zwei")
    assert server.sent("edit") == []


def test_an_edit_that_is_too_long_says_so(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    edit(page, 0, "é" * 6_001)
    expect(page.locator(".editor .note")).to_have_text("Too long: 12,002 of 12,000 bytes")
    expect(page.locator(".editor").get_by_role("button", name="Send")).to_be_disabled()
    assert server.sent("edit") == []


def test_an_edit_survives_a_lost_connection(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    server.script.ignore_sends = True
    edit(page, 1, "three")
    eventually(page, lambda: len(server.sent("edit")) == 1)
    expect_line(page, "one", "eins", "three")
    server.script.ignore_sends = False
    server.drop()
    expect_line(page, "one", "eins", "three", "All right.")
    first, second = server.sent("edit")
    assert first == second


def test_a_refused_edit_can_be_written_anew_or_discarded(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    refusal = Refusal(code="unknown_message", retryable=False)
    server.script.refusals.extend([refusal, refusal])
    edit(page, 1, "three")
    note = page.locator(".own .note").last
    expect(note).to_have_text("Not sent. That message does not exist any more.")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(editor(page)).to_have_value("three")
    editor(page).press("Enter")
    expect(note).to_contain_text("Not sent.")
    page.get_by_role("button", name="Discard").click()
    expect_line(page, "one", "eins", "two", "zwei")


def test_another_reply_grows_in_the_place_of_the_one_before(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    server.script.replies.append(Reply(pieces=("un", "o"), hold_after=1))
    regenerate(page, 0)
    expect_line(page, "one", "un")
    expect(page.get_by_role("button", name="another reply")).to_have_count(0)
    server.release()
    expect_line(page, "one", "uno")
    expect(page.locator(".reply .branch")).to_have_text("2/2")
    [frame] = server.sent("regenerate")
    assert frame["message"] == "seeded-0"


def test_another_reply_can_be_stopped(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    server.script.replies.append(Reply(pieces=("du", "e"), hold_after=1))
    regenerate(page)
    expect(replies(page).last).to_have_text("du")
    page.locator("#stop").click()
    expect(page.locator(".reply .note").last).to_have_text("Stopped")
    expect_line(page, "one", "eins", "two", "du")


def test_another_reply_that_is_refused_leaves_the_one_that_is_there(
    page: Page, server: FakeServer
) -> None:
    open_seeded(page, server, LINES)
    server.script.refusals.append(Refusal(code="model_refused", retryable=False))
    regenerate(page)
    expect(page.locator(".reply .note").last).to_have_text("The language model refused to answer.")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator(".reply .note").last).to_have_text("")
    expect_line(page, "one", "eins", "two", "zwei")


def test_another_reply_without_a_word_leaves_the_one_that_is_there(
    page: Page, server: FakeServer
) -> None:
    open_seeded(page, server, LINES)
    error = {"code": "model_timeout", "message": "too slow", "retryable": True}
    server.script.replies.append(Reply(pieces=(), status="failed", error=error))
    regenerate(page)
    expect(page.locator(".notice")).to_contain_text("The language model took too long.")
    expect_line(page, "one", "eins", "two", "zwei")


def test_versions_are_gone_through_with_the_keyboard(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    for number, text in enumerate(("due", "deux"), start=2):
        server.script.replies.append(scripted(text))
        regenerate(page)
        expect(page.locator(".branch")).to_have_text(f"{number}/{number}")
    page.locator(".branch button.earlier").focus()
    for place, text in (("2/3", "due"), ("1/3", "zwei")):
        page.keyboard.press("Enter")
        expect(page.locator(".branch")).to_have_text(place)
        expect(replies(page).last).to_have_text(text)
        expect(page.get_by_role("log")).to_have_text(f"Version {place[0]} of 3: {text}")
    expect(page.locator(".branch button.earlier")).to_be_disabled()
    expect(page.locator(".branch button.later")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".branch")).to_have_text("2/3")
    expect(page.locator(".branch button.later")).to_be_focused()
    page.reload()
    expect(replies(page).last).to_have_text("due")
    expect(page.locator(".branch")).to_have_text("2/3")


def test_a_version_brings_what_followed_it(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    edit(page, 0, "uno")
    expect_line(page, "uno", "All right.")
    page.get_by_role("button", name="the version before").click()
    expect_line(page, "one", "eins", "two", "zwei")
    write(page, "four")
    expect_line(page, "one", "eins", "two", "zwei", "four", "All right.")


def test_all_tabs_show_the_same_version(
    context: BrowserContext, page: Page, server: FakeServer
) -> None:
    open_seeded(page, server, LINES)
    other = connected(context.new_page(), page.url)
    server.script.replies.append(Reply(pieces=("du", "e"), hold_after=1))
    regenerate(page)
    expect_line(other, "one", "eins", "two", "du")
    server.release()
    expect_line(other, "one", "eins", "two", "due")
    expect(other.locator(".branch")).to_have_text("2/2")
    edit(other, 0, "uno")
    for tab in (page, other):
        expect_line(tab, "uno", "All right.")
    page.get_by_role("button", name="the version before").click()
    for tab in (page, other):
        expect_line(tab, "one", "eins", "two", "due")


def test_a_version_that_cannot_be_shown_is_said_to_be(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    server.script.replies.append(scripted("due"))
    regenerate(page)
    expect(page.locator(".branch")).to_have_text("2/2")
    server.script.refuse_heads.append(Refusal(code="unknown_message", retryable=False))
    page.get_by_role("button", name="the version before").click()
    expect(page.locator(".notice")).to_contain_text("does not exist any more")
    expect(replies(page).last).to_have_text("due")


def test_what_is_said_meanwhile_is_not_hidden_by_another_reply(
    page: Page, server: FakeServer
) -> None:
    open_seeded(page, server, LINES)
    server.script.replies.append(Reply(pieces=("due",), hold_after=1))
    regenerate(page)
    expect(replies(page).last).to_have_text("due")
    write(page, "and three?")
    expect(replies(page).last).to_have_text("All right.")
    expect(own(page).last).to_have_text("and three?")


def test_what_cannot_be_said_anew_has_no_button_for_it(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, LINES)
    user_of(page, server).conversations["seeded"].messages[2]["status"] = "deleted"
    page.reload()
    expect(page.locator(".own .note").last).to_have_text("Deleted")
    expect(page.locator(".own").nth(1).get_by_role("button", name="Edit")).to_have_count(0)
    server.script.ignore_sends = True
    write(page, "On its way")
    expect(page.locator(".own .note").last).to_have_text("Sending…")
    expect(page.locator(".own").last.get_by_role("button", name="Edit")).to_have_count(0)


def test_the_box_to_edit_is_not_wider_than_a_phone(page: Page, server: FakeServer) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    open_seeded(page, server, LINES)
    page.locator(".own").first.get_by_role("button", name="Edit this message").click()
    expect(editor(page)).to_be_focused()
    editor(page).fill("long " * 100)
    box = page.locator(".editor").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    expect(page.locator(".message.editing")).to_have_class(re.compile("own"))
