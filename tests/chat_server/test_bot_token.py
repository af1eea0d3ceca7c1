from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_server.authentication import Authenticator
from chat_server.bot_token import MOST_DAYS, make_bot_token
from chat_server.errors import ChatError
from chat_server.secrets_file import load_or_make
from chat_server.settings import AuthSettings, ConfigError, Settings


def settings(folder: Path, secret: str = "") -> Settings:
    return Settings(data_dir=folder, auth=AuthSettings(secret=SecretStr(secret)))


def test_a_server_with_the_same_secret_knows_the_bot(tmp_path: Path) -> None:
    secret = load_or_make(tmp_path, "session-secret", SecretStr(""))
    server = Authenticator(secret, guests=False)
    assert server.identify(make_bot_token(settings(tmp_path), "bot-1", 30)).user == "bot-1"
    named, other = (
        server.identify(make_bot_token(settings(tmp_path), None, MOST_DAYS)).user for _ in range(2)
    )
    assert named.startswith("guest-")
    assert named != other


def test_a_secret_of_the_environment_is_taken_before_the_kept_one(tmp_path: Path) -> None:
    token = make_bot_token(settings(tmp_path, "given"), "bot-1", 1)
    assert Authenticator("given", guests=True).identify(token).user == "bot-1"
    assert not list(tmp_path.iterdir()), "nothing is made"


def test_it_ends_after_its_days_and_renewing_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Authenticator("given", guests=True)
    identity = server.identify(make_bot_token(settings(tmp_path, "given"), "bot-1", 2))
    renewed = server.token(identity)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86_400 - 60)
    assert server.identify(renewed).user == "bot-1"
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86_400 + 60)
    with pytest.raises(ChatError):
        server.identify(renewed)


def test_without_a_secret_the_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"session-secret.*start the server once"):
        make_bot_token(settings(tmp_path), None, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("user", ["", "two words", "a/b", "x" * 65, "käse"])
def test_a_user_that_could_not_be_written_down_is_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(ConfigError, match="--user"):
        make_bot_token(settings(tmp_path, "given"), user, 1)


@pytest.mark.parametrize("days", [0, -1, MOST_DAYS + 1])
def test_days_out_of_range_are_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(ConfigError, match="--days"):
        make_bot_token(settings(tmp_path, "given"), None, days)
