from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_server import transfer_cli
from chat_server.foreign_formats import detect
from chat_server.transfer_cli import export_command, import_command, read_file, token_for
from chat_server.transfer_client import TransferFailed


def test_the_token_is_the_one_given_or_the_one_that_is_kept_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "session.json"
    monkeypatch.setattr(transfer_cli, "SESSIONS", str(kept))
    with pytest.raises(TransferFailed, match="--token"):
        token_for("http://a", None)
    kept.write_text(json.dumps({"http://a": "t1", "http://b": "t2"}))
    assert token_for("http://a/", None) == "t1"
    assert token_for("http://b", None) == "t2"
    assert token_for("http://b", "given") == "given"
    with pytest.raises(TransferFailed):
        token_for("http://c", "")
    kept.write_text("{")
    with pytest.raises(TransferFailed):
        token_for("http://a", None)


def test_a_file_is_read_as_it_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "chats.json"
    file.write_text('{"messages": []}')
    assert detect(read_file(str(file))) == "openai"
    file.write_text("")
    assert bytes(read_file(str(file))) == b""


def test_a_failed_export_leaves_the_file_that_stood_there(tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_text("whole")
    with pytest.raises(SystemExit, match="cannot be reached"):
        export_command(str(file), "http://127.0.0.1:9", "t")
    assert file.read_text() == "whole"
    with pytest.raises(SystemExit, match="cannot be reached"):
        import_command(str(file), "http://127.0.0.1:9", "t", "ndjson")
