"""What the documentation says is held against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from chat_server.settings import SECRET_KEYS, Section, Settings
from chat_server.settings_file import load_settings

ROOT = Path(__file__).resolve().parents[1]


def documented_keys() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    return {key: (default.strip("`"), meaning) for key, default, meaning in rows}


def known_keys() -> dict[str, tuple[object, str]]:
    known: dict[str, tuple[object, str]] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for key, inner in section.model_fields.items():
                default = inner.get_default(call_default_factory=True)
                known[f"{name}.{inner.alias or key}"] = (default, inner.description or "")
        else:
            known[name] = (field.default, field.description or "")
    return known


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    documented = documented_keys()
    known = known_keys()
    assert set(documented) == set(known)
    for key, (default, meaning) in known.items():
        assert meaning, f"{key} has no description"
        shown, told = documented[key]
        assert told == meaning
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert float(shown) == float(default)


def test_the_shipped_configuration_file_holds_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TANDEM_DATA_DIR", "TANDEM_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert load_settings(ROOT / "config.toml") == Settings()
    written = tomllib.loads((ROOT / "config.toml").read_text())
    flat = {
        f"{section}.{key}"
        for section, keys in written.items()
        if isinstance(keys, dict)
        for key in keys
    }
    secret = {".".join(key) for key in SECRET_KEYS}
    missing = set(known_keys()) - flat - secret - {"data_dir", "model.system_prompt"}
    assert not missing


def test_every_direct_dependency_is_explained_with_its_licence() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    for file in ("requirements.txt", "requirements-dev.txt"):
        direct = (ROOT / file).read_text().split("# What these need in turn.")[0]
        names = re.findall(r"^([A-Za-z0-9-]+)==", direct, re.MULTILINE)
        assert names
        for name in names:
            assert re.search(rf"^\| {re.escape(name)} \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE), (
                name
            )
