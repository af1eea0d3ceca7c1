"""The page against the real server with its real children: what a new user does first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import connected, new_context
from tests.browser.test_page import own, replies, write
from tests.integration.running_server import running_server
from tests.stub_model import Mode, StubModel

pytestmark = [
    pytest.mark.browser,
    pytest.mark.redis,
    pytest.mark.chroma,
    pytest.mark.model_files,
]


def test_a_person_writes_reads_the_stream_reloads_and_is_known_after_a_restart(
    chromium: Browser, complaints: list[str], tmp_path: Path, prepared_model_folder: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_model_folder, data / "models" / prepared_model_folder.name)
    stub = StubModel(Mode(tokens=60, token_ms=25))
    with stub.running() as base_url, new_context(chromium, complaints) as context:
        environment = {"OPENAI_BASE_URL": base_url}
        with running_server(data, environment) as server:
            server.wait_ready()
            address = server.url
            page = connected(context.new_page(), address)
            write(page, "My boat is called Gaivota.")
            expect(own(page)).to_have_text("My boat is called Gaivota.")
            expect(replies(page)).to_contain_text("word3")
            expect(page.locator("#stop")).to_be_visible()
            assert "word60" not in (replies(page).text_content() or ""), "it streams"
            expect(replies(page)).to_contain_text("word60", timeout=20_000)

            page.reload()
            expect(own(page)).to_have_text("My boat is called Gaivota.")
            expect(replies(page)).to_contain_text("word60")
            stub.mode = Mode(echo="Gaivota")
        with running_server(data, environment, "--port", address.rpartition(":")[2]) as server:
            server.wait_ready()
            page.locator("html[data-connection=online]").wait_for(timeout=20_000)
            page.locator("#new-chat").click()
            write(page, "What is my boat called?")
            expect(replies(page)).to_contain_text("My boat is called Gaivota.")


def test_without_a_model_the_page_says_who_answered(
    chromium: Browser, complaints: list[str], tmp_path: Path, prepared_model_folder: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_model_folder, data / "models" / prepared_model_folder.name)
    with (
        running_server(data) as server,
        new_context(chromium, complaints, width=390, scheme="dark") as context,
    ):
        page = connected(context.new_page(), server.wait_ready().url)
        write(page, "My cat is called Pixel.")
        expect(page.locator(".reply .note").first).to_contain_text("Answered from memory")
