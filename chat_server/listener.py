"""The socket that is listened on, and what a person is told of it."""

from __future__ import annotations

import socket
from pathlib import Path

from chat_server.secrets_file import secret_path
from memory.messages import OFFLINE_MODEL


class CannotListen(Exception):
    """The address cannot be listened on."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CannotListen: with the reason and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as fault:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {fault.strerror}; choose another with --port "
            "or TANDEM_SERVER__PORT"
        ) from fault


def address_of(listener: socket.socket) -> str:
    """Where *listener* is, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ready_block(address: str, data_dir: Path, model: str) -> str:
    """What a person at a terminal wants to know once the server serves."""
    writer = "from memory (set OPENAI_API_KEY or OPENAI_BASE_URL for a language model)"
    return (
        f"\n  Tandem is ready:  {address.replace('//0.0.0.0', '//127.0.0.1')}\n"
        f"  Replies:          {writer if model == OFFLINE_MODEL else model}\n"
        f"  Data:             {data_dir}   admin token: {secret_path(data_dir, 'admin-token')}\n"
        f"  Stop with Ctrl-C.\n\n"
    )
