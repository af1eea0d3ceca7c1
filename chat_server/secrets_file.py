"""Secrets that the server makes for itself where none is given."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from chat_server.settings import ConfigError

SECRET_BYTES: Final = 32
SHORTEST_SAFE: Final = 16
"""256 random bits."""

_OWNER_ONLY: Final = 0o600
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

log = structlog.get_logger(__name__)


def secret_path(data_dir: Path, name: str) -> Path:
    """Where the secret *name* is kept if it was made here."""
    return data_dir / "secrets" / name


def load_or_make(data_dir: Path, name: str, given: SecretStr) -> str:
    """*given* if there is one; otherwise the secret kept in *data_dir*, made at first start.

    Two servers that start at once get the same one. A file that others could read is taken from
    them, with a warning: what it holds may be known.

    Raises:
        ConfigError: the file is empty, or cannot be read, made or protected.
    """
    chosen = given.get_secret_value()
    if chosen:
        if len(chosen) < SHORTEST_SAFE:
            hint = f"whoever guesses it is anybody; take {SHORTEST_SAFE} random characters or more"
            log.warning("secret.short", name=name, characters=len(chosen), hint=hint)
        return chosen
    path = secret_path(data_dir, name)
    try:
        if not path.exists():
            _make(path)
            log.info("secret.made", name=name, path=str(path))
        _protect(path, name)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the secret cannot be used ({error})") from error
    if not secret:
        raise ConfigError(f"{path} is empty; delete it, and a new secret is made")
    return secret


def _make(path: Path) -> None:
    """Write a new secret to *path* unless another process is faster; whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, never replaces the faster one's
    finally:
        Path(temporary).unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the folder's entries survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _protect(path: Path, name: str) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        path.chmod(_OWNER_ONLY)
        log.warning("secret.permissions_mended", name=name, path=str(path), mode=f"{mode:o}")
