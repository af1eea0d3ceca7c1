from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from chat_server.settings import (
    DEFAULT_SYSTEM_PROMPT,
    SECRET_KEYS,
    ConfigError,
    Settings,
)
from chat_server.settings_file import load_settings, variable

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an empty folder, with none of our variables."""
    for name in os.environ:
        if name.startswith("TANDEM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "config.toml") -> Path:
    path = Path.cwd() / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return str(caught.value)


def test_without_a_file_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)
    assert settings.model.system_prompt == DEFAULT_SYSTEM_PROMPT
    assert settings.data_dir == Path("data")


def test_the_file_in_this_folder_is_read() -> None:
    written("[server]\nport = 9001\n")
    settings = load_settings()
    assert (settings.server.port, settings.server.host) == (9001, "127.0.0.1")


def test_the_environment_overlays_single_keys_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written('data_dir = "here"\n[server]\nport = 9001\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("TANDEM_SERVER__PORT", "9002")
    settings = load_settings()
    assert (settings.server.port, settings.server.host) == (9002, "0.0.0.0")  # noqa: S104  # nothing listens
    monkeypatch.setenv("TANDEM_DATA_DIR", "there")
    assert load_settings().data_dir == Path("there")


def test_lists_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_SERVER__ALLOWED_ORIGINS", '["https://one.test"]')
    assert load_settings().server.allowed_origins == ["https://one.test"]
    monkeypatch.setenv("TANDEM_SERVER__ALLOWED_ORIGINS", "https://one.test")
    assert refused() == "TANDEM_SERVER__ALLOWED_ORIGINS: a list is written as JSON"
    monkeypatch.setenv("TANDEM_SERVER__ALLOWED_ORIGINS", '["https://one.test", 2]')
    assert refused().startswith("TANDEM_SERVER__ALLOWED_ORIGINS: server.allowed_origins.1: input")


def test_the_global_limit_is_called_global_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    written("[limits]\nglobal = 7\n")
    assert load_settings().limits.global_ == 7
    monkeypatch.setenv("TANDEM_LIMITS__GLOBAL", "8")
    assert load_settings().limits.global_ == 8
    monkeypatch.setenv("TANDEM_LIMITS__GLOBAL", "none")
    assert refused().startswith("TANDEM_LIMITS__GLOBAL: limits.global: ")


def test_another_file_is_named_by_the_environment_or_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written("[server]\nport = 1\n")
    monkeypatch.setenv("TANDEM_CONFIG", str(written("[server]\nport = 2\n", "other.toml")))
    assert load_settings().server.port == 2
    assert load_settings(written("[server]\nport = 3\n", "third.toml")).server.port == 3


def test_a_named_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(Path("gone.toml")) == "gone.toml: no such configuration file"
    monkeypatch.setenv("TANDEM_CONFIG", "gone too.toml")
    assert refused() == "gone too.toml: no such configuration file"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nprot = 1\n", "server.prot"),
        ("[servers]\nport = 1\n", "servers"),
        ("port = 1\n", "port"),
        ("[limits]\nglobal_ = 1\n", "limits.global_"),
    ],
)
def test_an_unknown_key_in_the_file_is_named(text: str, key: str) -> None:
    path = written(text)
    assert refused() == f"{path.name}: {key}: unknown key"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("TANDEM_SERVER__PROT", "server.prot"),
        ("TANDEM_SERVERS__PORT", "servers"),
        ("TANDEM_PORT", "port"),
    ],
)
def test_an_unknown_key_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    monkeypatch.setenv(name, "1")
    message = refused()
    assert name in message
    assert "unknown key" in message
    assert key in message


def test_what_is_wrong_is_named_with_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("[server]\nport = 70000\n")
    assert refused().startswith(f"{path.name}: server.port: input should be less than")
    monkeypatch.setenv("TANDEM_SERVER__PORT", "many")
    assert refused().startswith("TANDEM_SERVER__PORT: server.port: input should be a valid integer")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    written('[server]\nport = -1\n[chroma]\nplacement = "random"\n[redis]\nnew = 1\n')
    message = refused()
    assert all(key in message for key in ("server.port", "chroma.placement", "redis.new"))


def test_a_file_that_is_not_toml_is_named() -> None:
    path = written("[server\n")
    assert refused().startswith(f"{path.name}: ")
    path.write_bytes(b'data_dir = "\xff"')
    assert refused().startswith(f"{path.name}: ")


@pytest.mark.parametrize(("section", "key"), sorted(SECRET_KEYS))
def test_a_secret_in_the_file_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, section: str, key: str
) -> None:
    path = written(f'[{section}]\n{key} = "hush-hush"\n')
    message = refused()
    name = variable((section, key))
    assert message == f"{path.name}: {section}.{key} is a secret; set {name} instead"
    path.write_text(f'[{section}]\n{key} = ""\n')
    monkeypatch.setenv(name, "hush-hush")
    settings = load_settings()
    assert getattr(settings.auth, key).get_secret_value() == "hush-hush"
    assert "hush" not in repr(settings)


def test_a_secret_of_the_wrong_kind_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_AUTH", '{"secret": ["hush-hush"]}')
    message = refused()
    assert "auth.secret" in message
    assert "hush" not in message


def test_onnx_serves_one_model_only(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written('[embedding]\nmodel = "all-mpnet-base-v2"\n')
    assert "torch" in refused()
    assert refused().startswith(f'{path.name}: embedding: backend "onnx" serves')
    path.write_text('[embedding]\nmodel = "all-mpnet-base-v2"\nbackend = "torch"\n')
    assert load_settings().embedding.model == "all-mpnet-base-v2"
    path.write_text('[embedding]\nmodel = "sentence-transformers/all-MiniLM-L6-v2"\n')
    assert load_settings().embedding.backend == "onnx"
    monkeypatch.setenv("TANDEM_EMBEDDING__MODEL", "another")
    assert refused().startswith("TANDEM_EMBEDDING__MODEL: embedding: backend")


def test_there_is_at_least_one_worker() -> None:
    written("[server]\nworkers = 2\n")
    assert load_settings().server.workers == 2
    written("[server]\nworkers = 0\n")
    assert "server.workers" in refused()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TANDEM_REDIS__URL", "nonsense"),
        ("TANDEM_CHROMA__URL", "localhost:8000"),
        ("TANDEM_MODEL__BASE_URL", "ftp://models"),
        ("TANDEM_LIMITS__HTTP", "lots"),
    ],
)
def test_an_address_or_limit_that_is_none_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    assert refused().startswith(f"{key}: ")


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]  # that is the point
    with pytest.raises(ValueError, match="frozen"):
        settings.data_dir = Path()  # type: ignore[misc]  # likewise


def test_every_key_says_what_it_is_and_has_a_variable() -> None:
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert all(key.description for key in kind.model_fields.values()), section
        else:
            assert field.description, section
    assert variable(("server", "port")) == "TANDEM_SERVER__PORT"


def test_the_configuration_file_of_the_project_is_valid() -> None:
    load_settings(ROOT / "config.toml")
