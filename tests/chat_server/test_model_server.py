from __future__ import annotations

import pytest

from chat_server.model_server import model_name, model_server
from chat_server.settings import ConfigError, ModelSettings, Settings
from memory.messages import OFFLINE_MODEL


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_key_and_an_address_nobody_writes_but_memory() -> None:
    assert model_server(Settings()) == (None, None)
    assert model_name(Settings()) == OFFLINE_MODEL


def test_a_key_or_an_address_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert model_server(Settings()) == ("key", None)
    assert model_name(Settings()) == "gpt-4o-mini"
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://here")
    assert model_server(Settings()) == (None, "http://here")
    assert model_name(Settings()) == "gpt-4o-mini"


def test_the_setting_outweighs_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://here")
    settings = Settings(model=ModelSettings(base_url="http://there"))
    assert model_server(settings) == (None, "http://there")


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "here")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        model_server(Settings())
