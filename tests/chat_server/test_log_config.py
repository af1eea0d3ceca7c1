from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from chat_server.log_config import NOISY, Pseudonyms, configure_logging
from chat_server.settings import ConfigError

SALT = b"salt"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.root
    loggers = [logging.getLogger(name) for name in NOISY]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in (root, *loggers)]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(stream: io.StringIO, level: str = "") -> None:
    configure_logging(Pseudonyms(SALT), stream, {"LOG_LEVEL": level})


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_a_line_of_json() -> None:
    stream = io.StringIO()
    configured(stream)
    structlog.get_logger("some.module").info("thing.done", took_ms=3, text="Grüße\n\ud800")
    [event] = events(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {
        "event": "thing.done",
        "level": "info",
        "logger": "some.module",
        "took_ms": 3,
        "text": "Grüße\n\ud800",
    }


def test_a_terminal_gets_lines_for_people() -> None:
    stream = Terminal()
    configured(stream)
    structlog.get_logger("some.module").warning("thing.done", took_ms=3)
    assert "thing.done" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_loggers_made_before_are_configured_too() -> None:
    early = structlog.get_logger("early")
    stream = io.StringIO()
    configured(stream)
    early.info("thing.done")
    assert events(stream)[0]["logger"] == "early"


def test_libraries_speak_in_the_same_form() -> None:
    stream = io.StringIO()
    configured(stream)
    structlog.contextvars.bind_contextvars(connection="c1")
    logging.getLogger("uvicorn.error").error("it broke: %s", "badly")
    [event] = events(stream)
    assert event["event"] == "it broke: badly"
    assert (event["level"], event["logger"]) == ("error", "uvicorn.error")
    assert event["connection"] == "c1"
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize("level", ["", "DEBUG"])
def test_access_lines_and_chatter_are_never_logged(level: str) -> None:
    stream = io.StringIO()
    configured(stream, level)
    for name in NOISY:
        logging.getLogger(name).info("GET /ws?token=abc")
        logging.getLogger(f"{name}.child").debug("body: secret")
    assert stream.getvalue() == ""


def test_the_level_comes_from_the_environment() -> None:
    stream = io.StringIO()
    configured(stream, "warning")
    structlog.get_logger("m").info("thing.done")
    logging.getLogger("other").info("chatter")
    structlog.get_logger("m").warning("thing.failed")
    assert [event["event"] for event in events(stream)] == ["thing.failed"]
    configured(stream, "ERROR")
    logging.getLogger("uvicorn").warning("not loud enough")
    assert len(events(stream)) == 1


def test_an_unknown_level_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="LOG_LEVEL"):
        configured(io.StringIO(), "LOUD")


def test_users_are_logged_under_pseudonyms() -> None:
    stream = io.StringIO()
    configured(stream)
    structlog.contextvars.bind_contextvars(user="guest-bound")
    structlog.get_logger("m").info("thing.done")
    structlog.get_logger("m").info("thing.done", user="guest-given")
    structlog.get_logger("m").info("thing.done", user=None)
    assert "guest-" not in stream.getvalue()
    bound, given, nobody = events(stream)
    names = Pseudonyms(SALT)
    assert bound["user"] == names.of("guest-bound")
    assert given["user"] == names.of("guest-given")
    assert nobody["user"] is None


def test_a_pseudonym_depends_on_user_and_salt_only() -> None:
    names = Pseudonyms(SALT)
    assert re.fullmatch("[0-9a-f]{10}", names.of("ada"))
    assert names.of("ada") == Pseudonyms(SALT).of("ada")
    assert names.of("ada") != names.of("bob")
    assert names.of("ada") != Pseudonyms(b"other").of("ada")
    assert Pseudonyms().of("ada") != Pseudonyms().of("ada")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_exception_is_shown_without_the_values_around_it(stream: io.StringIO) -> None:
    configured(stream)
    words = "what the user wrote"
    try:
        raise ValueError(f"bad thing of {len(words)} characters")
    except ValueError:
        structlog.get_logger("m").exception("thing.failed")
        logging.getLogger("library").exception("failed")
    shown = stream.getvalue()
    assert shown.count("ValueError: bad thing of 19 characters") == 2
    assert "Traceback" in shown
    assert "what the user wrote" not in shown
