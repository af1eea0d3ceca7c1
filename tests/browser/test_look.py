"""Themes, widths, keyboard, contrast."""

from __future__ import annotations

import itertools

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Scheme, connected, new_context
from tests.browser.fake_server import FakeServer, scripted
from tests.browser.test_page import replies, write

pytestmark = pytest.mark.browser

PHONE = 390
LEGIBLE = 4.5
"""Contrast of text with what is behind it: WCAG 2.2, success criterion 1.4.3."""
PAIRS = [
    ("ink", "ground"),
    ("ink", "panel"),
    ("ink", "own"),
    ("ink", "code"),
    ("soft", "ground"),
    ("soft", "panel"),
    ("soft", "raised"),
    ("soft", "code"),
    ("accent", "ground"),
    ("accent", "raised"),
    ("on-accent", "accent"),
    ("memory", "ground"),
    ("memory", "memory-ground"),
    ("fault", "ground"),
]


def luminance(page: Page, name: str) -> float:
    """Relative luminance of a colour of the style sheet, 0 to 1, as WCAG defines it."""
    colour = page.evaluate(
        """(name) => {
            const probe = document.createElement("p");
            probe.style.color = `var(--${name})`;
            document.body.append(probe);
            const { color } = getComputedStyle(probe);
            probe.remove();
            return color.match(/[\\d.]+/g).map(Number);
        }""",
        name,
    )
    shares = [part / 255 for part in colour[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    weighted: float = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return weighted


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(
    chromium: Browser, server: FakeServer, complaints: list[str], scheme: Scheme
) -> None:
    with new_context(chromium, complaints, scheme=scheme) as context:
        page = connected(context.new_page(), server.url)
        for text, behind in PAIRS:
            light, dark = sorted((luminance(page, text), luminance(page, behind)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= LEGIBLE, (text, behind)


def test_the_system_decides_about_the_theme(
    chromium: Browser, server: FakeServer, complaints: list[str]
) -> None:
    with new_context(chromium, complaints, scheme="dark") as context:
        page = connected(context.new_page(), server.url)
        assert luminance(page, "ground") < 0.05
        page.emulate_media(color_scheme="light")
        assert luminance(page, "ground") > 0.8


def test_a_chosen_theme_is_kept(page: Page, server: FakeServer) -> None:
    assert luminance(page, "ground") > 0.8
    page.get_by_role("button", name="Switch to the dark theme").click()
    assert luminance(page, "ground") < 0.05
    page.reload()
    assert luminance(page, "ground") < 0.05
    page.get_by_role("button", name="Switch to the light theme").click()
    assert luminance(page, "ground") > 0.8
    assert page.evaluate("() => localStorage.getItem('tandem.theme')") is None


def test_nothing_is_wider_than_a_phone(
    chromium: Browser, server: FakeServer, complaints: list[str]
) -> None:
    long_word, long_line = "x" * 300, f"```\n{'code ' * 80}\n```\n"
    server.script.replies.append(scripted(long_word, "\n\n", long_line))
    with new_context(chromium, complaints, width=PHONE) as context:
        page = connected(context.new_page(), server.url)
        write(page, long_word)
        expect(replies(page).locator("pre")).to_be_visible()
        widths = page.evaluate(
            """() => ["html", "body", "#page", "#scroller"].map(
                (name) => document.querySelector(name).scrollWidth)"""
        )
        assert max(widths) <= PHONE


def test_the_list_is_a_drawer_on_a_phone(
    chromium: Browser, server: FakeServer, complaints: list[str]
) -> None:
    with new_context(chromium, complaints, width=PHONE) as context:
        page = connected(context.new_page(), server.url)
        write(page, "In the drawer")
        title = page.locator("#conversations .title")
        expect(title).to_be_hidden()
        page.get_by_role("button", name="Conversations").click()
        expect(title).to_be_visible()
        expect(page.locator("#new-chat")).to_be_focused()
        page.keyboard.press("Escape")
        expect(title).to_be_hidden()
        expect(page.locator("#drawer-button")).to_be_focused()
        page.keyboard.press("Enter")
        title.click()
        expect(title).to_be_hidden()


def test_every_control_has_a_name_and_can_be_reached(page: Page, server: FakeServer) -> None:
    server.script.replies.append(scripted("`a`\n```\nb\n```"))
    write(page, "Tab through")
    expect(replies(page).locator("pre")).to_be_visible()
    page.locator("#box").fill("something to send")
    page.locator("#new-chat").focus()
    reached = set()
    for _ in itertools.repeat(None, 12):
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.type"))
        page.keyboard.press("Tab")
    assert {"new-chat", "theme", "scroller", "box", "send", "button"} <= reached
    for button in page.get_by_role("button").all():
        assert button.evaluate("(b) => b.ariaLabel || b.textContent.trim() || b.title")


def test_a_guest_is_called_guest(page: Page) -> None:
    expect(page.locator("#user")).to_have_text("Guest")
    expect(page.locator("#user")).to_have_attribute("title", "guest-1")


def test_reduced_motion_stops_the_animations(page: Page, server: FakeServer) -> None:
    page.emulate_media(reduced_motion="reduce")
    server.script.refuse_connections = True
    server.drop()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    animation = page.locator(".dot").evaluate("(dot) => getComputedStyle(dot).animationName")
    assert animation == "none"
