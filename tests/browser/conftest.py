"""Chromium, the fake server, and pages that report what they complain about."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    ViewportSize,
    sync_playwright,
)

from tests.browser.fake_server import FakeServer

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 10_000
Scheme = Literal["light", "dark"]


def find_chromium() -> str | None:
    """The browser on PATH; none is ever downloaded."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A running browser; the test is skipped where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip(f"Chromium is not installed (none of {', '.join(NAMES)} is on PATH)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of this folder.

    Not for the session: Playwright's loop counts as running in this thread until it is
    stopped, and the tests after these need a loop of their own.
    """
    with launched() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What pages complained about; a test that expects complaints clears the list."""
    heard: list[str] = []
    yield heard
    assert heard == []


@pytest.fixture
def context(
    chromium: Browser, complaints: list[str], server: FakeServer
) -> Iterator[BrowserContext]:
    """A browser of its own; it goes before *server* does."""
    with new_context(chromium, complaints) as opened:
        yield opened


@pytest.fixture
def page(context: BrowserContext, server: FakeServer) -> Page:
    """The page, connected."""
    opened = context.new_page()
    return connected(opened, server.url)


def connected(page: Page, url: str) -> Page:
    page.goto(url)
    page.locator("html[data-connection=online]").wait_for()
    return page


@contextlib.contextmanager
def new_context(
    chromium: Browser, complaints: list[str], *, width: int = 1200, scheme: Scheme = "light"
) -> Iterator[BrowserContext]:
    size = ViewportSize(width=width, height=800)
    context = chromium.new_context(viewport=size, color_scheme=scheme)
    _listen(context, complaints)
    try:
        yield context
    finally:
        context.close()


def _listen(context: BrowserContext, complaints: list[str]) -> None:
    context.set_default_timeout(PATIENCE_MS)

    def console(message: ConsoleMessage) -> None:
        # A lost connection is what several tests are about; the browser reports each one.
        if message.type in {"error", "warning"} and not _is_network(message.text):
            complaints.append(message.text)

    context.on("console", console)
    context.on("weberror", lambda error: complaints.append(str(error.error)))


def _is_network(text: str) -> bool:
    return text.startswith(("WebSocket connection to", "Failed to load resource"))
