"""``python -m chat_server config``: every setting as it holds, and where it comes from."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from pydantic import BaseModel, SecretStr

from chat_server.secrets_file import secret_path
from chat_server.settings import Section, Settings
from chat_server.settings_file import config_file, load_settings, variable

MASK: Final = "********"
VALUE_CHARS: Final = 60
"""Longest value in the table; JSON has all of it."""

OTHER_VARIABLES: Final = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LOG_LEVEL")
"""What the server reads beside its settings."""

KEPT_SECRETS: Final = {"auth.secret": "session-secret", "auth.admin_token": "admin-token"}
"""The files of secrets that are made where none is given."""

_password = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")

Value = str | int | float | bool | list[str] | None


class Entry(msgspec.Struct, frozen=True):
    """One setting. ``source``: ``default``, a file, or the name of an environment variable."""

    key: str
    value: Value
    source: str


def effective_config(path: Path | None = None) -> list[Entry]:
    """All settings in the order of the documentation, secrets masked.

    Raises:
        ConfigError: as ``load_settings``.
    """
    settings = load_settings(path)
    file = config_file(path)
    content = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    environment = {name.upper(): name for name in os.environ}
    entries = [
        _entry(key, value, _source(key, content, file, environment), settings.data_dir)
        for key, value in _leaves(settings)
    ]
    for name in OTHER_VARIABLES:
        given = os.environ.get(name)
        shown = MASK if given and name.endswith("_KEY") else _without_password(given)
        entries.append(Entry(name, shown, name if given is not None else "not set"))
    return entries


def as_table(entries: list[Entry]) -> str:
    """Aligned columns: key, value, source."""
    rows = [(entry.key, _shown(entry.value), entry.source) for entry in entries]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return "\n".join(f"{key:{key_width}}  {value:{value_width}}  {src}" for key, value, src in rows)


def as_json(entries: list[Entry]) -> str:
    """The same as an object: key to value and source."""
    shown = {entry.key: {"value": entry.value, "source": entry.source} for entry in entries}
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


def _leaves(settings: Settings) -> Iterator[tuple[tuple[str, ...], object]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Section):
            for key, field in type(value).model_fields.items():
                yield (name, field.alias or key), getattr(value, key)
        else:
            yield (name,), value


def _source(
    key: tuple[str, ...],
    content: Mapping[str, object],
    file: Path,
    environment: Mapping[str, str],
) -> str:
    """Variables win over the file; one may hold a whole section, as JSON."""
    for name in (variable(key), variable(key[:1])):
        if name in environment:
            given = os.environ[environment[name]]
            if name == variable(key) or key[1] in msgspec.json.decode(given):
                return environment[name]
    inside: object = content
    for part in key:
        inside = inside.get(part) if isinstance(inside, dict) else None
    return "default" if inside is None else str(file)


def _entry(key: tuple[str, ...], value: object, source: str, data_dir: Path) -> Entry:
    name = ".".join(key)
    if isinstance(value, SecretStr):
        if value.get_secret_value():
            return Entry(name, MASK, source)
        file = secret_path(data_dir, KEPT_SECRETS[name])
        return Entry(name, MASK, str(file)) if file.exists() else Entry(name, "", "made at start")
    if isinstance(value, bool | int | float):
        return Entry(name, value, source)
    if isinstance(value, list):
        return Entry(name, [str(item) for item in value], source)
    if isinstance(value, BaseModel):
        raise TypeError(f"{name} is a section inside a section")
    return Entry(name, _without_password(str(value)), source)


def _without_password(text: str | None) -> str | None:
    """*text* with the password of an address masked."""
    return None if text is None else _password.sub(rf"\1:{MASK}@", text)


def _shown(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value if len(value) <= VALUE_CHARS else value[: VALUE_CHARS - 1] + "…"
    return msgspec.json.encode(value).decode()
