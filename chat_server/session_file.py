"""Where the terminal client keeps who you are: a token for each server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec


class UnreadableSessions(Exception):
    """The file cannot be used; the message names it."""


def session_path() -> Path:
    """``tandem/session.json`` in the user's configuration folder (XDG Base Directory)."""
    given = os.environ.get("XDG_CONFIG_HOME")
    return (Path(given) if given else Path.home() / ".config") / "tandem" / "session.json"


def kept_token(url: str) -> str | None:
    """The token kept for the server at *url*.

    Raises:
        UnreadableSessions: the file is there, and is not what was written.
    """
    return _read(session_path()).get(url.rstrip("/"))


def keep_token(url: str, token: str) -> None:
    """Keep *token* for the server at *url*; the file is mode 600 and replaced as a whole.

    Raises:
        UnreadableSessions: the file cannot be read or written.
    """
    path = session_path()
    tokens = _read(path) | {url.rstrip("/"): token}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".session-")  # mode 600
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(tokens)))
        Path(temporary).replace(path)
    except OSError as fault:
        raise UnreadableSessions(f"{path}: {fault.strerror}") from fault


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise UnreadableSessions(f"{path}: {fault.strerror}") from fault
    except (msgspec.DecodeError, UnicodeError) as wrong:
        raise UnreadableSessions(f"{path} is no list of sessions; delete or mend it") from wrong
