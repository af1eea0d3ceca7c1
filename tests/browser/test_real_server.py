"""The page against the real server with its real children: what a new user does first."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, WebSocketRoute, expect

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


def test_a_break_is_resumed_and_versions_are_kept(
    chromium: Browser, complaints: list[str], tmp_path: Path, prepared_model_folder: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_model_folder, data / "models" / prepared_model_folder.name)
    stub = StubModel(Mode(tokens=80, token_ms=25))
    with (
        stub.running() as base_url,
        running_server(data, {"OPENAI_BASE_URL": base_url}) as server,
        new_context(chromium, complaints) as context,
    ):
        page = context.new_page()
        sockets: list[tuple[WebSocketRoute, WebSocketRoute]] = []
        page.route_web_socket(
            re.compile("/ws$"), lambda ws: sockets.append((ws, ws.connect_to_server()))
        )
        connected(page, server.wait_ready().url)
        write(page, "Count to eighty.")
        expect(replies(page)).to_contain_text("word3")
        reads: list[str] = []
        page.on("request", lambda request: reads.append(request.url))
        here, there = sockets[-1]
        there.close()
        here.close(code=4408)
        expect(replies(page)).to_contain_text("word79", timeout=20_000)
        expect(page.locator("#stop")).to_be_hidden()
        counted = (replies(page).text_content() or "").split()
        assert counted == list(dict.fromkeys(counted)), "nothing is doubled"
        assert len(sockets) == 2
        assert [url for url in reads if "/api/" in url] == []

        stub.mode = Mode(text="Another answer.")
        page.get_by_role("button", name="another reply").click()
        expect(replies(page)).to_have_text(["Another answer."])
        expect(page.locator(".reply .branch")).to_have_text("2/2")
        stub.mode = Mode(text="Ten it is.")
        page.locator(".own").hover()
        page.get_by_role("button", name="Edit this message").click()
        page.get_by_label("Edit your message").fill("Count to ten.")
        page.keyboard.press("Enter")
        expect(replies(page)).to_have_text(["Ten it is."])
        expect(own(page)).to_have_text(["Count to ten."])
        page.get_by_role("button", name="the version before").click()
        expect(own(page)).to_have_text(["Count to eighty."])
        page.locator(".reply .branch .earlier").click()
        expect(replies(page)).to_contain_text("word79")
        page.reload()
        expect(own(page)).to_have_text(["Count to eighty."])
        expect(replies(page)).to_contain_text("word79")


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
