from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_server.foreign_formats import detect
from chat_server.transfer_client import TransferFailed
from chat_server.transfer_terminal import export_file, import_file, read_file, token_for


def test_the_token_is_the_one_given_or_the_one_that_is_kept_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    kept = tmp_path / "tandem" / "session.json"
    kept.parent.mkdir()
    with pytest.raises(TransferFailed, match="--token"):
        token_for("http://a", None)
    kept.write_text(json.dumps({"http://a": "t1", "http://b": "t2"}))
    assert token_for("http://a/", None) == "t1"
    assert token_for("http://b", None) == "t2"
    assert token_for("http://b", "given") == "given"
    with pytest.raises(TransferFailed):
        token_for("http://c", "")


def test_a_file_is_read_as_it_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "chats.json"
    file.write_text('{"messages": []}')
    assert detect(read_file(str(file))) == "openai"
    file.write_text("")
    assert bytes(read_file(str(file))) == b""


def test_sessions_that_cannot_be_read_are_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "tandem").mkdir()
    (tmp_path / "tandem" / "session.json").write_text("{")
    with pytest.raises(SystemExit, match="no list of sessions"):
        export_file(str(tmp_path / "all"), "http://a", None)


def test_a_failed_export_leaves_the_file_that_stood_there(tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_text("whole")
    with pytest.raises(SystemExit, match="cannot be reached"):
        export_file(str(file), "http://127.0.0.1:9", "t")
    assert file.read_text() == "whole"
    with pytest.raises(SystemExit, match="cannot be reached"):
        import_file(str(file), "http://127.0.0.1:9", "t", "ndjson")
