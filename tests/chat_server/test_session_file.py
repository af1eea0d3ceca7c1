from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chat_server.session_file import UnreadableSessions, keep_token, kept_token, session_path

URL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def test_each_server_has_its_own_token_and_a_slash_makes_no_other_server() -> None:
    assert kept_token(URL) is None
    keep_token(URL + "/", "one")
    keep_token("https://chat.example", "two")
    keep_token(URL, "three")
    assert kept_token(URL) == kept_token(URL + "/") == "three"
    assert kept_token("https://chat.example") == "two"


def test_only_its_owner_can_read_it() -> None:
    keep_token(URL, "one")
    session_path().chmod(0o644)
    keep_token(URL, "two")
    assert stat.S_IMODE(session_path().stat().st_mode) == 0o600
    assert [path.name for path in session_path().parent.iterdir()] == ["session.json"]


def test_without_a_configuration_folder_it_is_below_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert session_path() == tmp_path / ".config" / "tandem" / "session.json"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_a_damaged_file_is_named_and_not_overwritten(content: bytes) -> None:
    session_path().parent.mkdir(parents=True)
    session_path().write_bytes(content)
    with pytest.raises(UnreadableSessions, match=r"session\.json"):
        kept_token(URL)
    with pytest.raises(UnreadableSessions):
        keep_token(URL, "one")
    assert session_path().read_bytes() == content


def test_a_folder_that_cannot_be_written_is_said(configuration_folder: Path) -> None:
    configuration_folder.mkdir()
    session_path().parent.symlink_to(configuration_folder / "gone" / "away")
    with pytest.raises(UnreadableSessions, match=r"session\.json"):
        keep_token(URL, "one")
