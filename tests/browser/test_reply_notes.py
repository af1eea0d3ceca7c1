"""What stands under a reply: the memories it was written with, and how it came to be."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_server import FakeServer, scripted
from tests.browser.fake_store import Json, Reply
from tests.browser.test_connection import eventually
from tests.browser.test_page import open_seeded, own, replies, user_of, write

pytestmark = pytest.mark.browser

PEANUTS: Json = {
    "id": "m-1",
    "text": "I cannot eat peanuts",
    "score": 0.9,
    "timestamp": 1_777_800_000.0,
    "conversation": "earlier",
    "why": ["words", "meaning"],
}


def test_what_was_remembered_is_listed_under_the_reply(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("No satay, then.",), memories=(PEANUTS,)))
    write(page, "What shall I cook?")
    remembered = page.locator(".remembered")
    expect(remembered.locator("li")).to_be_hidden()
    remembered.get_by_text("Remembered 1 thing").click()
    expect(remembered.locator("li")).to_contain_text("I cannot eat peanuts")
    expect(remembered.locator("li")).to_contain_text("May 2026")
    expect(remembered.locator("li")).to_contain_text("same words, similar meaning")
    assert remembered.locator("a").get_attribute("href") == "#/c/earlier/m-1"


def test_the_best_memories_are_listed_first_and_not_all(page: Page, server: FakeServer) -> None:
    scores = (0.3, 0.9, 0.5, 0.1, 0.7, 0.6, 0.2)
    memories = tuple(PEANUTS | {"id": f"m-{s}", "text": f"fact {s}", "score": s} for s in scores)
    server.script.replies.append(Reply(pieces=("All considered.",), memories=memories))
    write(page, "What shall I cook?")
    page.get_by_text("Remembered 7 things").click()
    quotes = page.locator(".remembered .quote")
    expect(quotes).to_have_text(["fact 0.9", "fact 0.7", "fact 0.6", "fact 0.5", "fact 0.3"])
    expect(page.locator(".remembered li").last).to_have_text("and 2 more")


def test_a_memory_is_shown_where_it_was_said(page: Page, server: FakeServer) -> None:
    lines = [("user", f"line {number}") for number in range(170)]
    user_of(page, server).seed("earlier", "Long ago", lines, ago_s=86_400)
    memory = PEANUTS | {"id": "earlier-20", "text": "line 20"}
    server.script.replies.append(Reply(pieces=("As you said.",), memories=(memory,)))
    write(page, "What shall I cook?")
    for _ in range(2):
        page.locator(".reply .remembered summary").click()
        page.locator(".reply .remembered a").click()
        sought = page.locator(".message", has=page.get_by_text("line 20", exact=True))
        expect(sought).to_be_in_viewport()
        expect(sought).to_be_focused()
        expect(sought).to_have_class(re.compile("sought"))
        expect(own(page).last).not_to_be_in_viewport()
        expect(sought).not_to_have_class(re.compile("sought"))
        page.go_back()
        expect(own(page)).to_have_text(["What shall I cook?"])


def test_a_memory_that_is_gone_is_said_to_be(page: Page, server: FakeServer) -> None:
    user_of(page, server).seed("earlier", "Long ago", [("user", "line 0")], ago_s=86_400)
    server.script.replies.append(Reply(pieces=("As you said.",), memories=(PEANUTS,)))
    write(page, "What shall I cook?")
    page.locator(".reply .remembered summary").click()
    page.locator(".reply .remembered a").click()
    expect(own(page)).to_have_text("line 0")
    expect(page.locator(".notice")).to_contain_text("not to be found")


def test_a_reply_that_was_cut_off_says_so(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("Once upon",), finish_reason="length"))
    write(page, "Tell me everything")
    note = page.locator(".reply .note")
    expect(note).to_have_text("Cut off at the model's token limit")
    write(page, "And briefly?")
    expect(replies(page).last).to_have_text("All right.")
    expect(note.last).to_be_hidden()


def test_an_offline_reply_says_so_also_after_a_reload(page: Page, server: FakeServer) -> None:
    words = "Answered from memory: no language model configured"
    for _ in range(2):
        server.script.replies.append(Reply(pieces=("You told me so.",), model="offline"))
    write(page, "What do you know?")
    note = page.locator(".reply .note")
    expect(note).to_have_text(re.compile(f"^{words}. Set OPENAI_API_KEY"))
    write(page, "What else?")
    expect(note.last).to_have_text(words)
    expect(note.first).to_contain_text("Set OPENAI_API_KEY")
    page.reload()
    expect(note.first).to_have_text(words)
    expect(note.last).to_have_text(re.compile(f"^{words}. Set OPENAI_API_KEY"))


def test_a_failed_reply_says_why_and_can_be_asked_again(page: Page, server: FakeServer) -> None:
    error: Json = {"code": "model_timeout", "message": "too slow", "retryable": True}
    server.script.replies.append(Reply(pieces=("Well",), status="failed", error=error))
    write(page, "Why?")
    note = page.locator(".reply .note").first
    expect(note).to_have_text("The language model took too long.")
    page.get_by_role("button", name="Ask again").click()
    expect(replies(page)).to_have_text(["All right."])
    expect(own(page)).to_have_text(["Why?"])
    [frame] = server.sent("regenerate")
    assert frame["message"] == f"m-{server.sent()[0]['id']}"


def test_a_reply_from_memory_says_why_the_model_did_not_write_it(
    page: Page, server: FakeServer
) -> None:
    error: Json = {"code": "model_unavailable", "message": "down", "retryable": True}
    reply = Reply(pieces=("You said so.",), status="failed", error=error, model="offline")
    server.script.replies.append(reply)
    write(page, "What did I say?")
    note = page.locator(".reply .note")
    expect(note).to_have_text("The language model could not be reached. Answered from memory")
    page.reload()
    expect(note).to_have_text("Answered from memory")


def test_a_reply_that_is_not_stored_yet_says_so_until_it_is(page: Page, server: FakeServer) -> None:
    server.script.replies.append(Reply(pieces=("Well, hello.",), kept=True))
    write(page, "Hello?")
    note = page.locator(".reply .note")
    expect(note).to_have_text("Kept by the server until it can be stored")
    [conversation] = user_of(page, server).conversations.values()
    stored = conversation.messages[-1]
    frame: Json = {"type": "message.created", "conversation": conversation.id}
    server.say(frame | {"message": stored})
    expect(note).to_be_hidden()
    expect(replies(page)).to_have_text(["Well, hello."])


def test_a_question_whose_reply_never_came_says_so_and_can_be_asked_again(
    page: Page, server: FakeServer
) -> None:
    open_seeded(page, server, [("user", "Anybody there?")])
    conversation = user_of(page, server).conversations["seeded"]
    conversation.messages[0] |= {"client_id": "q1", "reply": "interrupted"}
    server.script.replies.append(scripted("Here I am."))
    page.reload()
    note = page.locator(".own .note")
    expect(note).to_have_text("Interrupted before it was answered")
    page.get_by_role("button", name="Ask again").click()
    expect(own(page)).to_have_text(["Anybody there?"])
    expect(replies(page)).to_have_text(["Here I am."])
    expect(note).to_be_hidden()
    eventually(page, lambda: len(server.sent()) == 1)
    [frame] = server.sent()
    assert (frame["id"], frame["retry"]) == ("q1", True)
