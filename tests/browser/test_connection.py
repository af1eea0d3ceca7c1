"""What the page makes of lost connections, refusals and limits."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.fake_server import FakeServer, scripted
from tests.browser.fake_store import Refusal, Reply
from tests.browser.test_page import own, replies, write

pytestmark = pytest.mark.browser

PATIENCE_S = 10.0


def eventually(page: Page, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def test_a_reply_survives_a_connection_lost_in_its_middle(page: Page, server: FakeServer) -> None:
    pieces = ("One ", "two 🎉 ", "three ", "four ", "five")
    server.script.replies.append(Reply(pieces=pieces, drop_after=2, hold_after=4))
    write(page, "Count")
    expect(replies(page)).to_have_text("One two 🎉 three four")
    server.release()
    expect(replies(page)).to_have_text("One two 🎉 three four five")
    expect(own(page)).to_have_count(1)
    expect(replies(page)).to_have_count(1)
    assert len(server.sent()) == 1


def test_a_reply_that_ended_meanwhile_is_read(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("One ", "two"), hold_after=1))
    write(page, "Count")
    expect(replies(page)).to_have_text("One")
    server.script.refuse_connections = True
    server.drop()
    server.release()
    eventually(page, lambda: not next(iter(server.users.values())).runs)
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    server.script.refuse_connections = False
    expect(replies(page)).to_have_text("One two")
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Connected")


def test_an_unanswered_message_is_sent_again_under_its_id(page: Page, server: FakeServer) -> None:
    server.script.ignore_sends = True
    write(page, "Can you hear me?")
    expect(page.locator(".own .note")).to_have_text("Sending…")
    eventually(page, lambda: len(server.sent()) == 1)
    server.script.ignore_sends = False
    server.drop()
    expect(replies(page)).to_have_text("All right.")
    expect(own(page)).to_have_text("Can you hear me?")
    expect(page.locator(".own .note")).to_have_text("")
    first, second = server.sent()
    assert second == first | {"retry": True}


def test_a_message_that_was_stored_is_not_shown_twice(page: Page, server: FakeServer) -> None:
    server.script.ignore_sends = True
    write(page, "Stored already")
    eventually(page, lambda: len(server.sent()) == 1)
    frame = server.sent()[0]
    user = next(iter(server.users.values()))
    user.seed(str(frame["conversation"]), "Stored", [("user", "Stored already")], ago_s=60)
    messages = user.conversations[str(frame["conversation"])].messages
    messages[0]["client_id"] = frame["id"]
    server.script.ignore_sends = False
    server.drop()
    eventually(page, lambda: len(server.sent()) == 2)
    expect(page.locator(".own .note")).to_have_text("")
    expect(own(page)).to_have_count(1)


def test_what_is_written_without_a_connection_is_sent_later(page: Page, server: FakeServer) -> None:
    server.script.refuse_connections = True
    server.drop()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    write(page, "Are you there?")
    expect(page.locator(".own .note")).to_have_text("Waiting to be sent")
    assert server.sent() == []
    server.script.refuse_connections = False
    expect(replies(page)).to_have_text("All right.")


def test_an_unsent_message_survives_a_reload(page: Page, server: FakeServer) -> None:
    server.script.ignore_sends = True
    write(page, "Do not forget me")
    eventually(page, lambda: len(server.sent()) == 1)
    server.script.ignore_sends = False
    page.reload()
    expect(replies(page)).to_have_text("All right.")
    first, second = server.sent()
    assert (first["id"], second["retry"]) == (second["id"], True)
    page.reload()
    expect(own(page)).to_have_text("Do not forget me")
    assert len(server.sent()) == 2


def test_a_limit_counts_down_and_then_the_message_goes(page: Page, server: FakeServer) -> None:
    refusal = Refusal(code="rate_limited", retryable=True, retry_after_ms=2_500)
    server.script.refusals.append(refusal)
    write(page, "Too fast")
    note = page.locator("#limit-note")
    expect(note).to_have_text("You can write again in 3 s")
    expect(page.locator(".own .note")).to_contain_text("Will be sent")
    page.locator("#box").fill("Next")
    expect(page.locator("#send")).to_be_disabled()
    expect(note).to_have_text("You can write again in 1 s")
    expect(replies(page)).to_have_text("All right.")
    expect(note).to_have_text("")
    expect(page.locator("#send")).to_be_enabled()
    assert len({str(frame["id"]) for frame in server.sent()}) == 1


def test_the_last_messages_of_a_limit_are_counted(page: Page, server: FakeServer) -> None:
    user = {"limit": 30, "remaining": 2, "reset_ms": 30_000}
    server.say({"type": "limits", "user": user})
    expect(page.locator("#limit-note")).to_contain_text("2 messages left, one more in")
    expect(page.locator("#limit-note")).not_to_have_class("blocked")


def test_a_refused_message_says_why_and_can_be_edited(page: Page, server: FakeServer) -> None:
    server.script.refusals.append(Refusal(code="text_too_long", retryable=False))
    write(page, "Refuse me")
    expect(page.locator(".own .note")).to_have_text("Not sent. The message is too long.")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    page.get_by_role("button", name="Edit").click()
    expect(page.locator("#box")).to_have_value("Refuse me")
    expect(own(page)).to_have_count(0)


def test_a_message_that_could_not_be_stored_is_tried_again(page: Page, server: FakeServer) -> None:
    refusal = Refusal(code="not_stored", retryable=True, retry_after_ms=100)
    server.script.refusals.extend([refusal] * 2)
    write(page, "Store me")
    expect(replies(page)).to_have_text("All right.")
    assert len({str(frame["id"]) for frame in server.sent()}) == 1
    assert len(server.sent()) == 3


def test_a_message_that_fails_five_times_waits_for_its_writer(
    page: Page, server: FakeServer
) -> None:
    server.script.refusals.extend([Refusal(code="busy", retryable=True, retry_after_ms=10)] * 5)
    write(page, "Busy?")
    expect(page.locator(".own .note")).to_contain_text("Not sent.")
    page.get_by_role("button", name="Retry").click()
    expect(replies(page)).to_have_text("All right.")


def test_messages_keep_their_order_behind_one_that_waits(page: Page, server: FakeServer) -> None:
    server.script.refusals.append(Refusal(code="not_stored", retryable=True, retry_after_ms=1_000))
    server.script.replies.extend([scripted("one"), scripted("two")])
    write(page, "first")
    expect(page.locator(".own .note").first).to_contain_text("Trying again")
    write(page, "second")
    expect(page.locator(".message .text")).to_have_text(["first", "one", "second", "two"])
    assert [frame["text"] for frame in server.sent()] == ["first", "first", "second"]


def test_a_session_that_ended_is_renewed_once(page: Page, server: FakeServer) -> None:
    server.script.close_on_hello.append(4501)
    server.drop(4401)
    eventually(page, lambda: not server.script.close_on_hello)
    expect(page.locator("#connection")).to_have_text("Connected")
    server.script.close_on_hello.extend([4501, 4501])
    server.drop()
    expect(page.locator("#connection-line")).to_have_text("Your session was not accepted.")


def test_a_session_that_the_server_does_not_know_can_be_started_anew(
    page: Page, server: FakeServer
) -> None:
    write(page, "I am somebody")
    expect(replies(page)).to_have_text("All right.")
    server.users.clear()
    page.reload()
    expect(page.locator("#connection-line")).to_have_text("Your session is not valid any more.")
    page.get_by_role("button", name="Start a new session").click()
    expect(page.locator("#user")).to_have_attribute("data-user", "guest-2")
    expect(page.locator("#conversations li")).to_have_count(0)
    write(page, "I am new here")
    expect(replies(page)).to_have_text("All right.")
    page.reload()
    expect(own(page)).to_have_text("I am new here")


def test_a_connection_ended_for_good_says_why_and_waits(page: Page, server: FakeServer) -> None:
    server.script.close_on_hello.append(4504)
    server.drop()
    expect(page.locator("#connection-line")).to_contain_text("too many tabs")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#connection")).to_have_text("Connected")


def test_a_silent_connection_is_given_up(context: BrowserContext, server: FakeServer) -> None:
    server.script.heartbeat_s = -9.5
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    server.script.heartbeat_s = 25.0
    expect(page.locator("#connection")).to_have_text("Connected")


def test_a_ping_is_answered(page: Page, server: FakeServer) -> None:
    server.say({"type": "ping"})
    eventually(page, lambda: {"type": "pong"} in server.frames)


def test_the_page_says_that_the_browser_is_offline(
    context: BrowserContext, page: Page, server: FakeServer
) -> None:
    server.script.refuse_connections = True
    context.set_offline(True)
    server.drop()
    expect(page.locator("#connection-line")).to_contain_text("You are offline")
    server.script.refuse_connections = False
    context.set_offline(False)
    expect(page.locator("#connection")).to_have_text("Connected")
