"""Which language model's server is used."""

from __future__ import annotations

import os

from chat_server.settings import ConfigError, Settings
from memory.messages import OFFLINE_MODEL


def model_server(settings: Settings) -> tuple[str | None, str | None]:
    """Key and address of the language model's server, each ``None`` where it is not given.

    Raises:
        ConfigError: the address is none; names the variable.
    """
    named = os.environ.get("OPENAI_BASE_URL") or None
    if named is not None and not named.lower().startswith(("http://", "https://")):
        raise ConfigError("OPENAI_BASE_URL: an address begins with http:// or https://")
    return os.environ.get("OPENAI_API_KEY") or None, settings.model.base_url or named


def model_name(settings: Settings) -> str:
    """What writes replies, as it is called; raises as :func:`model_server`."""
    return settings.model.name if any(model_server(settings)) else OFFLINE_MODEL
