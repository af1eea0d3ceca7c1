"""Makes the pictures of the page in docs/: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, Scheme, connected, find_chromium
from tests.browser.fake_server import FakeServer
from tests.browser.fake_store import FakeUser, Json, Reply

DOCS = Path(__file__).parents[2] / "docs"
SIZE = ViewportSize(width=1180, height=850)
DAY_S = 86_400.0
ALLERGY = "I'm allergic to peanuts, and Lena has stopped eating meat."
PAN = "We finally bought a proper cast-iron pan."
PIECES = (
    (
        "You have the pan for it, so: **mushrooms with crisp sage on soft polenta**. "
        "No meat for Lena, and no peanuts anywhere near it.\n\n"
    ),
    (
        "1. Start the polenta; it wants half an hour and little else.\n"
        "2. Get the iron *really* hot, then brown the mushrooms in two rounds.\n"
        "3. Sage and butter last, off the heat.\n\n"
    ),
    "Shall I write you a shopping list?",
)


def main() -> None:
    server = FakeServer()
    server.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        picture(browser, server, "light")
        picture(browser, server, "dark")
        browser.close()
    server.stop()


def picture(browser: Browser, server: FakeServer, scheme: Scheme) -> None:
    """One conversation that remembers two others, in the colours of *scheme*."""
    context = browser.new_context(
        viewport=SIZE, color_scheme=scheme, device_scale_factor=1.5, reduced_motion="reduce"
    )
    page = connected(context.new_page(), server.url)
    fill(server.users[str(page.locator("#user").get_attribute("data-user"))])
    page.goto(f"{server.url}#/c/dinner")
    page.reload()
    expect(page.locator(".reply")).to_have_count(1)
    converse(page, server)
    page.screenshot(path=DOCS / f"screenshot-{scheme}.png")
    context.close()


def fill(user: FakeUser) -> None:
    thanks = ("assistant", "Noted.")
    chats = [
        ("dinner", "Dinner on Friday", "Lena is coming for dinner on Friday.", 0.01),
        ("backups", "Backups of the photo server", "Where do the backups go?", 1.1),
        ("pan", "Seasoning a new pan", PAN, 4.0),
        ("sailing", "Names for the boat", "We need a name for the boat.", 9.0),
        ("lena", "Lena's birthday", ALLERGY, 23.0),
        ("porto", "Moving to Porto", "We are moving to Porto in March.", 61.0),
    ]
    for id_, title, text, ago_days in chats:
        user.seed(id_, title, [("user", text), thanks], ago_s=ago_days * DAY_S)
    user.conversations["dinner"].messages[-1]["text"] = "How nice! Say hello from me."


def converse(page: Page, server: FakeServer) -> None:
    memories = (
        memory("lena", ALLERGY, 23.0, ["words", "meaning"]),
        memory("pan", PAN, 4.0, ["meaning"]),
    )
    server.script.replies.append(Reply(pieces=PIECES, memories=memories))
    page.locator("#box").fill("What could I cook for the two of us?")
    page.locator("#box").press("Enter")
    expect(page.locator(".reply .text").last).to_contain_text("shopping list?")
    page.locator(".remembered summary").last.click()
    # A mouse that rests on something draws its hover.
    page.mouse.move(0, 0)
    expect(page.locator(".remembered li").last).to_be_in_viewport()


def memory(conversation: str, text: str, ago_days: float, why: list[str]) -> Json:
    return {
        "id": f"{conversation}-0",
        "text": text,
        "score": 0.8,
        "timestamp": time.time() - ago_days * DAY_S,
        "conversation": conversation,
        "why": why,
    }


if __name__ == "__main__":
    main()
