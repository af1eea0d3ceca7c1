from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from chat_server.errors import ERRORS, ChatError, ErrorCode, told, told_of_reading
from memory.errors import (
    ChildFailed,
    CorruptRecord,
    DataFolderInUse,
    EmbeddingFailed,
    IdConflict,
    MemoryFault,
    ModelFilesInvalid,
    ShortTermUnavailable,
    StoreBusy,
    StoreRefused,
    StoreUnavailable,
    StoreUnknown,
    UserBeingErased,
)

SECRET = "/srv/data of ann at 10.0.0.7"

FAULTS: list[tuple[MemoryFault, ErrorCode]] = [
    (StoreUnavailable(SECRET), "not_stored"),
    (StoreRefused(SECRET), "not_stored"),
    (UserBeingErased(), "erasing"),
    (StoreUnknown(SECRET), "store_unknown"),
    (StoreBusy(SECRET), "store_busy"),
    (IdConflict(SECRET), "id_conflict"),
    (EmbeddingFailed(SECRET), "not_stored"),
    (CorruptRecord(SECRET, SECRET), "internal"),
    (ShortTermUnavailable(SECRET), "internal"),
    (ModelFilesInvalid(Path(SECRET), SECRET), "internal"),
    (DataFolderInUse(Path(SECRET), 7), "internal"),
    (ChildFailed(SECRET), "internal"),
]


def test_every_code_has_its_consequences() -> None:
    assert set(ERRORS) == set(get_args(ErrorCode))


@pytest.mark.parametrize("code", get_args(ErrorCode))
def test_a_close_code_and_a_status_say_the_same_about_trying_again(code: ErrorCode) -> None:
    kind = ERRORS[code]
    assert 400 <= kind.status < 600
    if kind.close is not None:
        assert kind.close // 100 == (44 if kind.retryable else 45)


def test_no_two_errors_close_with_the_same_code() -> None:
    closes = [kind.close for kind in ERRORS.values() if kind.close is not None]
    assert len(closes) == len(set(closes))


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=lambda it: type(it).__name__)
def test_a_fault_is_told_without_what_is_nobody_s_business(
    fault: MemoryFault, code: ErrorCode
) -> None:
    error = told(fault)
    assert error.code == code
    assert error.retryable == ERRORS[code].retryable
    for part in SECRET.split():
        assert part not in error.message.split()


def test_an_error_says_its_code_and_its_message() -> None:
    error = ChatError("busy", "wait", field="id", retry_after_ms=5)
    assert str(error) == "busy: wait"
    assert (error.field, error.retry_after_ms) == ("id", 5)


@pytest.mark.parametrize("fault", [StoreUnavailable(SECRET), StoreRefused(SECRET)])
def test_who_only_reads_is_not_told_that_a_message_was_not_stored(fault: MemoryFault) -> None:
    error = told_of_reading(fault)
    assert (error.code, error.retryable) == ("not_ready", True)
    assert SECRET not in error.message


def test_what_else_goes_wrong_in_reading_is_told_as_anywhere() -> None:
    assert told_of_reading(CorruptRecord(SECRET, SECRET)).code == "internal"
