"""Reading the settings: ``config.toml``, overlaid by the environment, or one clear error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsError,
    TomlConfigSettingsSource,
)

from chat_server.settings import (
    CLIENT_VARIABLES,
    PREFIX,
    SECRET_KEYS,
    ConfigError,
    Section,
    Settings,
)


def config_file(path: Path | None = None) -> Path:
    """The file that is read: *path*, else ``TANDEM_CONFIG``, else ``config.toml`` if it is there.

    Raises:
        ConfigError: a file that was named is missing.
    """
    named = path or (Path(os.environ["TANDEM_CONFIG"]) if "TANDEM_CONFIG" in os.environ else None)
    if named is not None and not named.is_file():
        raise ConfigError(f"{named}: no such configuration file")
    return named or Path("config.toml")


def load_settings(path: Path | None = None) -> Settings:
    """Read *path* (default: ``TANDEM_CONFIG``, else ``config.toml``), overlay the environment.

    Raises:
        ConfigError: names the file or variable, the key and what was expected.
    """
    file = config_file(path)

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, TomlConfigSettingsSource(settings_cls, file)

    _refuse_unknown_variables()
    try:
        _refuse_secrets_in_file(TomlConfigSettingsSource(FromFile, file)(), file)
        loaded = FromFile()
    except ValidationError as wrong:
        raise ConfigError("; ".join(_explain(error, file) for error in wrong.errors())) from wrong
    except SettingsError as wrong:
        names = ", ".join(_variables_that_are_not_json())
        raise ConfigError(f"{names or 'environment'}: a list is written as JSON") from wrong
    except ValueError as wrong:  # tomllib.TOMLDecodeError
        raise ConfigError(f"{file}: {wrong}") from wrong
    return Settings.model_construct(
        **{name: getattr(loaded, name) for name in Settings.model_fields}
    )


def _refuse_unknown_variables() -> None:
    """Sections are checked here; what is below them is checked with the file's keys."""
    for name in os.environ:
        section = name.removeprefix(PREFIX).partition("__")[0].lower()
        known = {*Settings.model_fields, *CLIENT_VARIABLES, "config"}
        if name.startswith(PREFIX) and section not in known:
            raise ConfigError(f"environment: {name}: unknown key {section!r}")


def _variables_that_are_not_json() -> list[str]:
    """Those that set a list, or a section as a whole."""
    names: list[str] = []
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names.append(variable((section,)))
            for key, inner in field.annotation.model_fields.items():
                if get_origin(inner.annotation) is list:
                    names.append(variable((section, key)))
    return [name for name in names if name in os.environ and not _is_json(os.environ[name])]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _refuse_secrets_in_file(content: dict[str, Any], file: Path) -> None:
    for section, key in sorted(SECRET_KEYS):
        if isinstance(content.get(section), dict) and content[section].get(key):
            raise ConfigError(
                f"{file}: {section}.{key} is a secret; set {variable((section, key))} instead"
            )


def variable(key: tuple[str, ...]) -> str:
    """The environment variable that sets *key*."""
    return PREFIX + "__".join(key).upper()


def _explain(error: Any, file: Path) -> str:
    key = tuple(str(part) for part in error["loc"])
    problem = "unknown key" if error["type"] == "extra_forbidden" else error["msg"]
    problem = problem.removeprefix("Value error, ")
    return f"{_source(key, file)}: {'.'.join(key)}: {problem[:1].lower() + problem[1:]}"


def _source(key: tuple[str, ...], file: Path) -> str:
    """What set *key*, or something of it or around it: variables overlay the file."""
    around = {variable(key[:length]) for length in range(1, len(key) + 1)}
    inside = variable(key) + "__"
    names = [name for name in sorted(os.environ) if name in around or name.startswith(inside)]
    return ", ".join(names) or str(file)
