"""``python -m chat_server token``: a session for a bot, made where the secret is."""

from __future__ import annotations

import time
from typing import Final

from chat_server.authentication import SESSION_LIFE_S, Authenticator, Identity
from chat_server.secrets_file import load_or_make, secret_path
from chat_server.settings import ConfigError, Settings
from memory.messages import UserId, is_user_id

DAY_S: Final = 86_400
MOST_DAYS: Final = SESSION_LIFE_S // DAY_S


def make_bot_token(settings: Settings, user: str | None, days: int) -> str:
    """A token for *user* (a new guest where none is named), valid for *days*; renewing it does
    not make it last longer. Needs no running server, only its secret.

    Raises:
        ConfigError: there is no secret yet, or it cannot be read; *user* or *days* is impossible.
    """
    if user is not None and not is_user_id(user):
        raise ConfigError("--user: 1 to 64 of A-Z a-z 0-9 _ . -, such as bot-1")
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"--days: 1 to {MOST_DAYS}")
    path = secret_path(settings.data_dir, "session-secret")
    if not settings.auth.secret.get_secret_value() and not path.exists():
        raise ConfigError(
            f"{path}: there is no secret yet; start the server once, or set TANDEM_AUTH__SECRET"
        )
    secret = load_or_make(settings.data_dir, "session-secret", settings.auth.secret)
    authenticator = Authenticator(secret, guests=True)
    identity = Identity(UserId(user)) if user is not None else authenticator.new_guest()
    expires_at = int(time.time()) + days * DAY_S
    return authenticator.token(Identity(identity.user, identity.name, expires_at))
