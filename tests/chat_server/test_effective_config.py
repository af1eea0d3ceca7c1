from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chat_server.effective_config import MASK, Entry, as_json, as_table, effective_config
from chat_server.settings import ConfigError
from tests.test_documentation import known_keys


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an empty folder, with none of our variables."""
    for name in os.environ:
        if name.upper().startswith(("TANDEM_", "OPENAI_", "LOG_LEVEL")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def shown() -> dict[str, Entry]:
    return {entry.key: entry for entry in effective_config()}


def test_every_setting_is_shown_with_its_default() -> None:
    entries = shown()
    assert set(known_keys()) < set(entries)
    assert entries["limits.global"] == Entry("limits.global", 10_000, "default")
    assert entries["server.allowed_origins"] == Entry("server.allowed_origins", [], "default")
    assert entries["auth.secret"] == Entry("auth.secret", "", "made at start")
    assert entries["OPENAI_API_KEY"] == Entry("OPENAI_API_KEY", None, "not set")


def test_each_value_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text("[server]\nport = 9001\ndrain_s = 1\n[limits]\nglobal = 5\n")
    monkeypatch.setenv("TANDEM_SERVER__PORT", "9002")
    monkeypatch.setenv("tandem_model__name", "llama")
    monkeypatch.setenv("TANDEM_REDIS", '{"window_messages": 4}')
    entries = shown()
    assert entries["server.port"] == Entry("server.port", 9002, "TANDEM_SERVER__PORT")
    assert entries["server.drain_s"] == Entry("server.drain_s", 1.0, "config.toml")
    assert entries["server.host"].source == "default"
    assert entries["limits.global"] == Entry("limits.global", 5, "config.toml")
    assert entries["model.name"] == Entry("model.name", "llama", "tandem_model__name")
    assert entries["redis.window_messages"] == Entry("redis.window_messages", 4, "TANDEM_REDIS")
    assert entries["redis.timeout_s"].source == "default"


def test_another_file_is_named_as_the_source(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('data_dir = "here"\n')
    entries = {entry.key: entry for entry in effective_config(file)}
    assert entries["data_dir"] == Entry("data_dir", "here", str(file))


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_AUTH__SECRET", "hush-1")
    monkeypatch.setenv("OPENAI_API_KEY", "hush-2")
    monkeypatch.setenv("TANDEM_REDIS__URL", "rediss://tandem:hush-3@cache.example:6380/0")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://:hush-4@models.example/v1")
    kept = Path("data/secrets/admin-token")
    kept.parent.mkdir(parents=True)
    kept.write_text("hush-5")
    entries = effective_config()
    for text in (as_table(entries), as_json(entries)):
        assert "hush" not in text
    by_key = {entry.key: entry for entry in entries}
    assert by_key["auth.secret"] == Entry("auth.secret", MASK, "TANDEM_AUTH__SECRET")
    assert by_key["auth.admin_token"] == Entry("auth.admin_token", MASK, str(kept))
    assert by_key["redis.url"].value == f"rediss://tandem:{MASK}@cache.example:6380/0"


def test_the_table_is_aligned_and_json_is_complete() -> None:
    entries = effective_config()
    lines = as_table(entries).splitlines()
    assert len({line.rindex("  default") for line in lines if line.endswith("  default")}) == 1
    read = json.loads(as_json(entries))
    assert read["server.port"] == {"value": 8000, "source": "default"}
    assert list(read) == [entry.key for entry in entries]


def test_a_wrong_setting_is_refused_as_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_SERVER__PROT", "1")
    with pytest.raises(ConfigError, match="prot"):
        effective_config()
