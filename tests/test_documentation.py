"""What the documentation says is held against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from chat_server import events, protocol
from chat_server.errors import ERRORS
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


def test_every_frame_event_field_and_error_code_is_documented() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    frames = protocol.ClientFrame.__subclasses__()
    sent = events.ServerEvent.__subclasses__()
    assert frames
    assert sent
    for kind in (*frames, *sent):
        tag = str(kind.__struct_config__.tag)
        section = re.search(rf"^### {re.escape(tag)}$(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
        assert section, f"{tag} has no section"
        for field in msgspec.structs.fields(kind):
            assert f"`{field.encode_name}`" in section.group(1), f"{tag}.{field.encode_name}"
    for code, kind_of_error in ERRORS.items():
        row = re.search(rf"^\| `{code}` \|(.*)$", text, re.MULTILINE)
        assert row, f"{code} is not documented"
        assert (" yes " in row.group(1)) == kind_of_error.retryable
        assert str(kind_of_error.status) in row.group(1)
        if kind_of_error.close:
            assert str(kind_of_error.close) in row.group(1)


def test_the_examples_of_the_protocol_can_be_read() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    examples = re.findall(r"^```json\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    frames = {str(kind.__struct_config__.tag) for kind in protocol.ClientFrame.__subclasses__()}
    sent = {str(kind.__struct_config__.tag): kind for kind in events.ServerEvent.__subclasses__()}
    seen: set[str] = set()
    for example in examples:
        kind = msgspec.json.decode(example)["type"]
        seen.add(kind)
        if kind in frames and protocol.parse_frame(example) is not None:
            continue
        assert kind in sent, kind
        msgspec.json.decode(example, type=sent[kind])
    assert seen == frames | set(sent)


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
