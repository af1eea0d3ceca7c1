"""What a person does with the page, against a server that follows a script."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import connected
from tests.browser.fake_server import FakeServer, scripted
from tests.browser.fake_store import FakeUser, Reply

pytestmark = pytest.mark.browser


def write(page: Page, text: str) -> None:
    page.locator("#box").fill(text)
    page.locator("#box").press("Enter")


def own(page: Page) -> Locator:
    return page.locator(".own .text")


def replies(page: Page) -> Locator:
    return page.locator(".reply .text")


def user_of(page: Page, server: FakeServer) -> FakeUser:
    return server.users[str(page.locator("#user").get_attribute("data-user"))]


def open_seeded(page: Page, server: FakeServer, lines: list[tuple[str, str]]) -> None:
    user_of(page, server).seed("seeded", "Seeded", lines, ago_s=3600)
    page.goto(f"{server.url}#/c/seeded")
    page.reload()
    expect(own(page).last).to_be_visible()


def test_a_reply_is_shown_while_it_is_written(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("It is ", "sunny."), hold_after=1))
    write(page, "How is the weather?")
    expect(own(page)).to_have_text("How is the weather?")
    expect(replies(page)).to_have_text("It is")
    server.release()
    expect(replies(page)).to_have_text("It is sunny.")
    expect(page.locator("#stop")).to_be_hidden()


def test_what_is_typed_is_told_once_the_keys_rest(page: Page, server: FakeServer) -> None:
    page.locator("#box").press_sequentially("Where is my boat", delay=5)
    expect_drafts(server, ["Where is my boat"])
    page.locator("#box").press("End")
    page.keyboard.type("?")
    expect_drafts(server, ["Where is my boat", "Where is my boat?"])
    page.locator("#box").press("Enter")
    expect(replies(page)).to_have_text("All right.")
    kinds = [frame["type"] for frame in server.frames if frame["type"] in {"draft", "send"}]
    assert kinds == ["draft", "draft", "send"]


def expect_drafts(server: FakeServer, texts: list[str]) -> None:
    """Wait until exactly these have come."""
    ends_at = time.monotonic() + 10
    while True:
        drafts = [frame["text"] for frame in server.frames if frame["type"] == "draft"]
        if drafts == texts:
            return
        assert time.monotonic() < ends_at, drafts
        time.sleep(0.02)


def test_shift_and_enter_begins_a_line(page: Page, server: FakeServer) -> None:
    page.locator("#box").fill("one")
    page.locator("#box").press("Shift+Enter")
    page.keyboard.type("two")
    assert server.sent() == []
    page.locator("#box").press("Enter")
    expect(replies(page)).to_have_text("All right.")
    assert server.sent()[0]["text"] == "one\ntwo"


def test_the_box_grows_with_what_is_written(page: Page) -> None:
    low = page.locator("#box").bounding_box()
    page.locator("#box").fill("one\ntwo\nthree")
    high = page.locator("#box").bounding_box()
    assert low is not None
    assert high is not None
    assert high["height"] > low["height"] * 1.8


def test_a_box_that_is_full_shows_whole_lines(page: Page) -> None:
    page.locator("#box").fill("\n".join(str(number) for number in range(60)))
    lines = page.locator("#box").evaluate(
        """(box) => {
            const height = parseFloat(getComputedStyle(box).lineHeight);
            return [box.clientHeight / height, box.scrollTop / height];
        }"""
    )
    assert lines == [round(shown) for shown in lines]
    assert 5 < lines[0] < 60
    assert lines[0] + lines[1] == 60


def test_a_text_that_is_too_long_cannot_be_sent(page: Page, server: FakeServer) -> None:
    write(page, "é" * 6_001)
    expect(page.locator("#count")).to_have_text("Too long: 12,002 of 12,000 bytes")
    expect(page.locator("#send")).to_be_disabled()
    assert server.sent() == []


def test_a_stopped_reply_keeps_what_was_shown(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("One ", "two ", "three"), hold_after=2))
    write(page, "Count")
    expect(replies(page)).to_have_text("One two")
    page.locator("#stop").click()
    expect(page.locator(".reply .note")).to_have_text("Stopped")
    expect(replies(page)).to_have_text("One two")
    expect(page.locator("#stop")).to_be_hidden()


def test_the_history_is_there_after_a_reload(page: Page, server: FakeServer) -> None:
    write(page, "Remember me")
    expect(replies(page)).to_have_text("All right.")
    page.reload()
    expect(own(page)).to_have_text("Remember me")
    expect(replies(page)).to_have_text("All right.")
    expect(page).to_have_title("Remember me · Tandem")


def test_a_list_that_comes_last_still_names_the_page(page: Page, server: FakeServer) -> None:
    write(page, "Remember me")
    expect(replies(page)).to_have_text("All right.")
    server.script.hold_list = True
    page.reload()
    expect(replies(page)).to_have_text("All right.")
    expect(page.locator("#heading")).to_have_text("")
    expect(page).to_have_title("Tandem")
    server.release()
    expect(page.locator("#heading")).to_have_text("Remember me")
    expect(page).to_have_title("Remember me · Tandem")


def test_a_reply_being_written_goes_on_after_a_reload(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("half ", "whole"), hold_after=1))
    write(page, "Go")
    expect(replies(page)).to_have_text("half")
    page.reload()
    expect(replies(page)).to_have_text("half")
    server.release()
    expect(replies(page)).to_have_text("half whole")
    expect(replies(page)).to_have_count(1)


def test_markup_stays_text(page: Page, server: FakeServer) -> None:
    attack = "<script>document.title='x'</script><img src=x onerror=alert(1)>"
    server.script.replies.append(scripted(attack, "\n\n[go](javascript:alert(1)) ![i](http://x/y)"))
    write(page, attack)
    expect(own(page)).to_have_text(attack)
    expect(replies(page)).to_contain_text(attack)
    expect(replies(page)).to_contain_text("[go](javascript:alert(1))")
    expect(page.locator("#messages :is(script, img, a[href^=javascript])")).to_have_count(0)


def test_an_emoji_that_is_split_over_deltas_is_whole(page: Page, server: FakeServer) -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    server.script.replies.append(Reply(pieces=(*family, " and 🎉", "!"), hold_after=3))
    write(page, "Emoji")
    expect(replies(page)).to_have_text(family[:3])
    server.release()
    expect(replies(page)).to_have_text(f"{family} and 🎉!")


def test_an_unknown_conversation_is_called_one(page: Page, server: FakeServer) -> None:
    page.goto(f"{server.url}#/c/nowhere")
    expect(page.locator("#unread-words")).to_contain_text("does not exist")
    expect(page.locator("#heading")).to_have_text("Unknown conversation")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.locator("#unread").get_by_role("button", name="New chat").click()
    expect(page.get_by_text("What should we pick up?")).to_be_visible()
    expect(page.locator("#heading")).to_have_text("New chat")


def test_conversations_are_listed_and_opened(page: Page, server: FakeServer) -> None:
    write(page, "First chat")
    expect(replies(page)).to_have_text("All right.")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("What should we pick up?")).to_be_visible()
    write(page, "Second chat")
    titles = page.locator("#conversations .title")
    expect(titles).to_have_text(["Second chat", "First chat"])
    titles.last.click()
    expect(own(page)).to_have_text("First chat")
    expect(page.locator("a[aria-current=page] .title")).to_have_text("First chat")


def test_a_deleted_conversation_goes(page: Page, server: FakeServer) -> None:
    write(page, "Soon gone")
    expect(replies(page)).to_have_text("All right.")
    id_ = page.url.rsplit("/", 1)[-1]
    server.say({"type": "conversation.deleted", "conversation": {"id": id_}})
    expect(page.get_by_text("What should we pick up?")).to_be_visible()
    expect(page.locator("#conversations li")).to_have_count(0)


def test_earlier_messages_are_read_when_the_reader_gets_there(
    page: Page, server: FakeServer
) -> None:
    open_seeded(page, server, [("user", f"line {number}") for number in range(70)])
    expect(own(page).last).to_have_text("line 69")
    expect(own(page)).to_have_count(50)
    page.locator("#scroller").evaluate("element => { element.scrollTop = 0; }")
    expect(own(page)).to_have_count(70)
    expect(own(page).first).to_have_text("line 0")
    expect(own(page).nth(20)).to_be_in_viewport()
    expect(page.locator("#older")).to_be_hidden()


def test_a_growing_reply_does_not_move_a_reader_who_went_up(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, [("user", f"line {number}") for number in range(40)])
    lines = tuple(f"more {number}\n\n" for number in range(40))
    server.script.replies.append(Reply(pieces=lines, hold_after=1))
    write(page, "Tell me more")
    expect(replies(page)).to_have_text("more 0")
    expect(own(page).last).to_be_in_viewport()
    page.locator("#scroller").evaluate("element => { element.scrollTop = 0; }")
    expect(page.locator("#to-end")).to_be_visible()
    server.release()
    expect(replies(page)).to_contain_text("more 39")
    assert page.locator("#scroller").evaluate("element => element.scrollTop") == 0
    page.locator("#to-end").click()
    expect(page.get_by_text("more 39", exact=True)).to_be_in_viewport()


def test_only_a_finished_reply_is_announced(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("One ", "two"), hold_after=1))
    write(page, "Count")
    expect(replies(page)).to_have_text("One")
    log = page.get_by_role("log")
    expect(log).to_have_text("")
    server.release()
    expect(log).to_have_text("Tandem: One two")


def test_two_tabs_show_the_same(context: BrowserContext, page: Page, server: FakeServer) -> None:
    write(page, "From the first tab")
    expect(replies(page)).to_have_text("All right.")
    other = connected(context.new_page(), page.url)
    expect(own(other)).to_have_text("From the first tab")
    server.script.replies.append(Reply(pieces=("seen ", "twice"), hold_after=1))
    write(other, "From the second tab")
    for tab in (page, other):
        expect(own(tab).last).to_have_text("From the second tab")
        expect(replies(tab).last).to_have_text("seen")
    page.locator("#stop").click()
    for tab in (page, other):
        expect(tab.locator(".reply .note").last).to_have_text("Stopped")
        expect(own(tab)).to_have_count(2)


def test_a_reply_stands_behind_its_question(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("late",), hold_after=0))
    server.script.replies.append(scripted("soon"))
    write(page, "slow question")
    expect(page.locator(".thinking")).to_be_visible()
    write(page, "quick question")
    expect(replies(page).last).to_have_text("soon")
    server.release()
    order = ["slow question", "late", "quick question", "soon"]
    expect(page.locator(".message .text")).to_have_text(order)
    page.reload()
    expect(page.locator(".message .text")).to_have_text(order)


def test_code_is_copied(context: BrowserContext, page: Page, server: FakeServer) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    server.script.replies.append(scripted("```py\nx = '<b>'\n", "```\nDone."))
    write(page, "Code")
    expect(page.locator("figcaption")).to_have_text(re.compile("py"))
    page.get_by_role("button", name="Copy this code").click()
    expect(page.locator("figcaption button")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == "x = '<b>'"
