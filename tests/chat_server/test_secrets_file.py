from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chat_server.secrets_file import load_or_make, secret_path
from chat_server.settings import ConfigError

NONE = SecretStr("")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_given_secret_is_taken_and_nothing_is_written(tmp_path: Path) -> None:
    assert load_or_make(tmp_path, "auth", SecretStr("given")) == "given"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_made_once_and_found_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "not" / "there" / "yet"
    with capture_logs() as logs:
        made = load_or_make(data_dir, "auth", NONE)
    assert len(made) == 43
    assert load_or_make(data_dir, "auth", NONE) == made
    assert load_or_make(data_dir, "admin", NONE) != made
    assert made not in repr(logs)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    load_or_make(tmp_path, "auth", NONE)
    path = secret_path(tmp_path, "auth")
    assert path == tmp_path / "secrets" / "auth"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["auth"]


def test_permissions_that_are_too_wide_are_mended_with_a_warning(tmp_path: Path) -> None:
    made = load_or_make(tmp_path, "auth", NONE)
    path = secret_path(tmp_path, "auth")
    path.chmod(0o644)
    with capture_logs() as logs:
        assert load_or_make(tmp_path, "auth", NONE) == made
    assert mode(path) == 0o600
    [entry] = logs
    assert (entry["event"], entry["log_level"]) == ("secret.permissions_mended", "warning")
    assert entry["mode"] == "644"


def test_servers_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: load_or_make(tmp_path, "auth", NONE), range(64)))
    assert len(set(made)) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_secret_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    load_or_make(tmp_path, "auth", NONE)
    path = secret_path(tmp_path, "auth")
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        load_or_make(tmp_path, "auth", NONE)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("not a folder")
    with pytest.raises(ConfigError, match="secrets"):
        load_or_make(tmp_path, "auth", NONE)
