from __future__ import annotations

import pytest
from typer.testing import CliRunner

from chat_server import transfer_terminal
from chat_server.cli import cli


def test_the_commands_pass_on_what_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []
    monkeypatch.setattr(transfer_terminal, "import_file", lambda *it: called.append(it))
    monkeypatch.setattr(transfer_terminal, "export_file", lambda *it: called.append(it))
    runner = CliRunner(env={"TANDEM_URL": "http://a", "TANDEM_TOKEN": "t1"})
    for arguments in (
        ["import", "all.ndjson"],
        ["import", "-", "--format", "chatgpt", "--url", "http://b"],
        ["export", "all.ndjson", "--token", "t2"],
    ):
        assert runner.invoke(cli, arguments).exit_code == 0
    assert called == [
        ("all.ndjson", "http://a", "t1", None),
        ("-", "http://b", "t1", "chatgpt"),
        ("all.ndjson", "http://a", "t2"),
    ]


def test_a_format_that_is_not_known_is_refused() -> None:
    refused = CliRunner().invoke(cli, ["import", "-", "--format", "xml"])
    assert refused.exit_code == 2
