"""The page after a break: what was missed is told, nothing is lost, doubled or read for nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_server import FakeServer, scripted
from tests.browser.fake_store import FakeRun, Json, Reply
from tests.browser.test_connection import eventually
from tests.browser.test_page import open_seeded, own, replies, user_of, write
from tests.browser.test_reply_notes import PEANUTS

pytestmark = pytest.mark.browser

DIALS = """() => {
    window.dialled = [];
    window.WebSocket = class extends WebSocket {
        constructor(...wanted) { super(...wanted); window.dialled.push(Date.now()); }
    };
}"""
"""Notes by the page's clock when it dials."""


def begin_reply(page: Page, server: FakeServer, *pieces: str, hold_after: int) -> FakeRun:
    """The page shows the first pieces of a reply that is held there."""
    server.script.replies.append(Reply(pieces=pieces, hold_after=hold_after))
    write(page, "Go on")
    expect(replies(page).last).to_have_text("".join(pieces[:hold_after]).strip())
    [run] = user_of(page, server).runs.values()
    return run


def go_on_talking(page: Page, server: FakeServer) -> None:
    """A message and its reply: whatever the page asked for before has been answered by then."""
    server.script.replies.append(scripted("Round trip."))
    write(page, "Still there?")
    expect(replies(page).last).to_have_text("Round trip.")


@pytest.mark.parametrize("code", [1012, 4400, 4401, 4408, 4411, 4412])
def test_what_was_missed_follows_and_nothing_is_read(
    page: Page, server: FakeServer, code: int
) -> None:
    run = begin_reply(page, server, "One ", "two 🎉 ", "three", hold_after=1)
    server.reads.clear()
    server.script.refuse_connections = True
    server.drop(code)
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    server.release()
    eventually(page, lambda: not user_of(page, server).runs)
    server.script.refuse_connections = False
    expect(replies(page)).to_have_text("One two 🎉 three")
    expect(page.locator("#connection")).to_have_text("Connected")
    go_on_talking(page, server)
    assert set(server.reads) <= {"session"}
    seen = {"epoch": "e1", "seq": 3}
    assert server.hellos[-1]["resume"] == seen
    assert server.hellos[-1]["runs"] == [{"run": run.id, "offset": 4}]


def test_a_reply_goes_on_where_it_was(page: Page, server: FakeServer) -> None:
    run = begin_reply(page, server, "a🎉 ", "b ", "c", hold_after=1)
    server.reads.clear()
    server.drop()
    eventually(page, lambda: len(server.hellos) == 2)
    assert server.hellos[1]["runs"] == [{"run": run.id, "offset": 3}]
    server.release()
    expect(replies(page)).to_have_text("a🎉 b c")
    assert server.reads == []


def test_what_was_said_elsewhere_meanwhile_is_shown(page: Page, server: FakeServer) -> None:
    write(page, "Here")
    expect(replies(page)).to_have_text("All right.")
    server.script.refuse_connections = True
    server.drop()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    server.reads.clear()
    [conversation] = user_of(page, server).conversations.values()
    created: Json = {"type": "message.created", "conversation": conversation.id}
    server.miss(created | {"message": said("m2", "Elsewhere", conversation.tail())})
    updated = conversation.view() | {"title": "Renamed elsewhere"}
    server.miss({"type": "conversation.updated", "conversation": updated})
    server.script.refuse_connections = False
    expect(own(page)).to_have_text(["Here", "Elsewhere"])
    expect(page.locator("#conversations .title")).to_have_text("Renamed elsewhere")
    assert server.reads == []


def test_what_is_forgotten_is_read_anew(page: Page, server: FakeServer) -> None:
    begin_reply(page, server, "One ", "two", hold_after=1)
    server.script.refuse_connections = True
    server.drop()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    server.reads.clear()
    server.release()
    user = user_of(page, server)
    eventually(page, lambda: not user.runs)
    user.forget_events()
    server.script.refuse_connections = False
    expect(replies(page)).to_have_text("One two")
    [conversation] = user.conversations
    eventually(page, lambda: {"list", conversation} <= set(server.reads))
    go_on_talking(page, server)
    expect(own(page)).to_have_text(["Go on", "Still there?"])


def test_a_reset_reads_everything_anew_and_goes_on(page: Page, server: FakeServer) -> None:
    run = begin_reply(page, server, "One ", "two ", "three", hold_after=2)
    server.reads.clear()
    user = user_of(page, server)
    user.forget_events()
    server.say({"type": "reset", "epoch": f"e{user.epoch}", "seq": 0})
    eventually(page, lambda: {"list", run.conversation} <= set(server.reads))
    eventually(page, lambda: len(server.sent("attach")) > 0)
    assert server.sent("attach")[0]["offset"] == 8
    server.release()
    expect(replies(page)).to_have_text("One two three")
    server.drop()
    eventually(page, lambda: len(server.hellos) == 2)
    assert server.hellos[1]["resume"] == {"epoch": f"e{user.epoch}", "seq": len(user.events)}


def test_a_gap_between_deltas_is_asked_for(page: Page, server: FakeServer) -> None:
    run = begin_reply(page, server, "abc", "def", hold_after=1)
    server.reads.clear()
    run.text = "abc1234"
    server.say({"type": "run.delta", "run": run.id, "offset": 7, "text": "5"})
    server.say({"type": "run.delta", "run": run.id, "offset": 0, "text": "abc"})
    expect(replies(page)).to_have_text("abc12345")
    [attach] = server.sent("attach")
    assert (attach["run"], attach["offset"]) == (run.id, 3)
    assert server.reads == []


def test_a_hole_in_the_order_is_filled_by_a_new_connection(page: Page, server: FakeServer) -> None:
    write(page, "First")
    expect(replies(page)).to_have_text("All right.")
    server.reads.clear()
    conversation = page.url.rsplit("/", 1)[-1]
    second, third = said("m2", "Second", "run-1"), said("m3", "Third", "m2")
    server.miss({"type": "message.created", "conversation": conversation, "message": second})
    server.say({"type": "message.created", "conversation": conversation, "message": third})
    expect(own(page)).to_have_text(["First", "Second", "Third"])
    assert len(server.hellos) == 2
    assert server.reads == []


def test_an_event_is_taken_once(page: Page, server: FakeServer) -> None:
    write(page, "Once")
    expect(replies(page)).to_have_text("All right.")
    conversation = page.url.rsplit("/", 1)[-1]
    old: Json = {"type": "message.created", "seq": 1, "conversation": conversation}
    server.say(old | {"message": said("m9", "Long ago", None)})
    go_on_talking(page, server)
    expect(own(page)).to_have_text(["Once", "Still there?"])


def test_the_text_of_the_end_holds(page: Page, server: FakeServer) -> None:
    run = begin_reply(page, server, "One ", "two and more", hold_after=2)
    server.reads.clear()
    run.text = "One too"
    server.release()
    expect(replies(page)).to_have_text("One too")
    go_on_talking(page, server)
    assert server.reads == []


def test_a_text_that_came_to_harm_on_its_way_is_read(page: Page, server: FakeServer) -> None:
    server.reads.clear()
    server.script.replies.append(Reply(pieces=("One ", "two"), garbled="One tvo"))
    write(page, "Count")
    expect(replies(page)).to_have_text("One two")
    [conversation] = user_of(page, server).conversations
    eventually(page, lambda: server.reads == [conversation])


def test_what_was_remembered_is_told_again_after_a_reload(page: Page, server: FakeServer) -> None:
    reply = Reply(pieces=("No ", "satay."), memories=(PEANUTS,), hold_after=1)
    server.script.replies.append(reply)
    write(page, "What shall I cook?")
    expect(page.get_by_text("Remembered 1 thing")).to_be_visible()
    page.reload()
    expect(replies(page)).to_have_text("No")
    expect(page.get_by_text("Remembered 1 thing")).to_be_visible()
    server.release()
    expect(replies(page)).to_have_text("No satay.")
    expect(page.get_by_text("Remembered 1 thing")).to_be_visible()


def test_a_conversation_opened_without_a_connection_is_read(page: Page, server: FakeServer) -> None:
    open_seeded(page, server, [("user", "Here")])
    user_of(page, server).seed("other", "Other", [("user", "There")], ago_s=60)
    server.script.refuse_connections = True
    server.drop()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    page.evaluate("location.hash = '#/c/other'")
    expect(page.locator("#loading")).to_be_visible()
    server.script.refuse_connections = False
    expect(own(page)).to_have_text("There")


def test_a_restart_is_told_and_the_page_comes_back_at_once(page: Page, server: FakeServer) -> None:
    server.say({"type": "goaway", "reason": "restart", "deadline_ms": 10_000})
    expect(page.locator(".notice")).to_contain_text("about to restart")
    page.evaluate(DIALS)
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)
    closed_at = page.evaluate("Date.now()")
    server.drop(4400)
    for _ in range(50):
        page.clock.run_for(1)  # a pause would be longer than all of these
        page.wait_for_timeout(10)
        if page.evaluate("window.dialled.length"):
            break
    [dialled_at] = page.evaluate("window.dialled")
    assert dialled_at - closed_at <= 50


def test_a_token_that_ended_is_renewed_and_nothing_is_lost(page: Page, server: FakeServer) -> None:
    begin_reply(page, server, "One ", "two", hold_after=1)
    server.reads.clear()
    server.drop(4401)
    eventually(page, lambda: len(server.hellos) == 2)
    server.release()
    expect(replies(page)).to_have_text("One two")
    assert server.reads == ["session"]
    assert "resume" in server.hellos[1]


def test_a_server_that_had_enough_is_left_alone_as_long_as_it_says(
    page: Page, server: FakeServer
) -> None:
    page.evaluate(DIALS)
    asked_at = page.evaluate("Date.now()")
    error: Json = {"type": "error", "code": "too_many_commands", "message": "slower"}
    server.say(error | {"retryable": True, "retry_after_ms": 1_500})
    server.drop(4429)
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    eventually(page, lambda: len(server.hellos) == 2)
    assert page.evaluate("window.dialled[0]") - asked_at >= 1_500
    expect(page.locator("#connection")).to_have_text("Connected")


def said(id_: str, text: str, parent: str | None) -> Json:
    message: Json = {"id": id_, "parent": parent, "role": "user", "text": text}
    return message | {"timestamp": 1_777_800_000.0, "status": "completed"}
