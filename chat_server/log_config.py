"""Logging: one stream of events from this program and its libraries, without personal data."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from chat_server.settings import ConfigError

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PSEUDONYM_DIGITS: Final = 10
"""40 bits: two of a million users share one with odds of about a third."""

NOISY: Final = (
    "aiohttp",
    "asyncio",
    "chromadb",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "openai",
    "opentelemetry",
    "urllib3",
    "uvicorn",
    "uvicorn.access",
    "uvicorn.asgi",
    "uvicorn.error",
    "websockets",
)
"""Heard from WARNING on, whatever the level: below it they log bodies, and lines of access with
query strings, where a token may stand (uvicorn does for WebSockets too, in ``uvicorn.error``)."""

ROUTINE: Final = frozenset(
    {
        "admin.token_kept",
        "child.became_ready",
        "child.started",
        "child.stopped",
        "connection.closed",
        "connection.opened",
        "hot_memory.loaded",
        "part.ready",
        "secret.made",
        "server.listening",
        "server.ready",
    }
)
"""What happens at every start and with every visitor; a terminal shows a block of its own."""


class Pseudonyms:
    """Names for users that do not tell who they are, the same for as long as the salt is."""

    def __init__(self, salt: bytes | None = None) -> None:
        """Without *salt* (at most 64 bytes) the names last as long as this object."""
        self.salt = secrets.token_bytes(32) if salt is None else salt

    def of(self, user: str) -> str:
        """*user*'s pseudonym: 10 hexadecimal digits."""
        digest = hashlib.blake2b(user.encode(errors="surrogatepass"), key=self.salt)
        return digest.hexdigest()[:PSEUDONYM_DIGITS]

    def pseudonymise(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """A structlog processor: what an event says of ``user`` leaves as a pseudonym."""
        if event.get("user") is not None:
            event["user"] = self.of(str(event["user"]))
        return event


def configure_logging(
    pseudonyms: Pseudonyms,
    stream: TextIO | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    worker: int | None = None,
) -> None:
    """Send all events to *stream* (standard error): for people on a terminal, else as JSON lines.

    *worker*: the slot of this process among several, which stands in each line then.
    ``LOG_LEVEL`` in *environment* sets the level (INFO). May be called again; the last call counts.

    Raises:
        ConfigError: ``LOG_LEVEL`` is not a level.
    """
    target = sys.stderr if stream is None else stream
    level = _level(os.environ if environment is None else environment)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        pseudonyms.pseudonymise,
        *([] if worker is None else [_Slot(worker)]),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(for_people=target.isatty()),
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    for name in NOISY:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(level, logging.WARNING))


class _Slot:
    """A structlog processor: says which worker writes."""

    def __init__(self, slot: int) -> None:
        self._slot = slot

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = self._slot
        return event


def shorten(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor for terminals: what a person does not look for is left out.

    The routine of starts and connections is shown at ``DEBUG`` only; a turn is one short line.
    """
    if event["event"] in ROUTINE and event["level"] == "info" and not _shows_debug():
        raise structlog.DropEvent
    event["timestamp"] = str(event["timestamp"])[11:19]
    event.pop("logger", None)
    if event["event"] == "turn.finished":
        stages = {key: event.pop(key) for key in list(event) if key.endswith("_ms")}
        shown = ("commit_ms", "first_token_ms", "total_ms")
        event["ms"] = " ".join(f"{key[:-3]}={stages[key]:.0f}" for key in shown if key in stages)
        for key in ("connection", "conversation", "message", "active", "user"):
            event.pop(key, None)
    return event


def _shows_debug() -> bool:
    return logging.root.level <= logging.DEBUG


def _renderers(*, for_people: bool) -> list[Processor]:
    """Neither shows the local variables of a traceback: messages and secrets stand there."""
    if for_people:
        return [
            shorten,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _level(environment: Mapping[str, str]) -> int:
    name = environment.get("LOG_LEVEL", "").strip().upper() or "INFO"
    if name not in LEVELS:
        raise ConfigError(f"LOG_LEVEL must be one of {', '.join(LEVELS)}, not {name!r}")
    return logging.getLevelNamesMapping()[name]
