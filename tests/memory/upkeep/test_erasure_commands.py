from __future__ import annotations

from pathlib import Path

import anyio
import pytest
import structlog
from typer.testing import CliRunner

from memory.__main__ import app
from memory.data_folder import hold
from memory.errors import DataFolderInUse, UpkeepRefused
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.ledger import SqliteLedger
from tests.contracts.long_term_world import TEA, chat, line, somebody, vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.test_scrubbing import FORMS, canaries, holders, raw

pytestmark = pytest.mark.chroma


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, arguments)
    structlog.reset_defaults()  # the command's log goes to a stream that is closed by now
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


@pytest.mark.parametrize("placement", [Sharded(), PerUser()], ids=["sharded", "per user"])
def test_a_user_is_erased_while_no_server_runs(tmp_path: Path, placement: Placement) -> None:
    user, other = somebody(), somebody("ben")
    mine, theirs = canaries(user, 40), line(other, 40)

    async def fill() -> None:
        async with serving(tmp_path) as (process, _), opened(process.url, placement) as memory:
            for messages in (mine, theirs):
                await memory.append_many(messages, vectors_of(messages))
                await memory.save_conversation(chat(messages[0].user, "tea"))

    async def check() -> None:
        async with serving(tmp_path) as (process, _), opened(process.url, placement) as memory:
            assert await memory.latest(user, TEA, limit=100) == []
            assert (await memory.conversations(user, limit=5)).conversations == ()
            assert await memory.latest(other, TEA, limit=100) == theirs

    anyio.run(fill)
    assert holders(tmp_path, *FORMS)
    command = ("erase", user, "--confirm", user, "--data-dir", str(tmp_path))
    assert run(*command) == (0, "erased: 41 records (messages and conversations)\n")
    assert holders(tmp_path, *FORMS, *raw(mine), user.encode()) == []
    anyio.run(check)
    ledger = SqliteLedger.open(tmp_path)
    (entry,) = ledger.latest(5)
    assert entry.finished_at is not None
    assert ledger.erased_user(user, since=0)
    ledger.close()
    assert run(*command) == (0, "nothing of that user was stored\n")


@pytest.mark.parametrize("user", ["", "two words", "a/b", "x" * 65, "ann\n"])
def test_an_id_that_no_user_has_is_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(UpkeepRefused, match="no user has such an id"):
        run("erase", user, "--confirm", user, "--data-dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_erased_unless_it_is_confirmed(tmp_path: Path) -> None:
    with pytest.raises(UpkeepRefused, match="differ"):
        run("erase", "ann", "--confirm", "ben", "--data-dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_erased_beside_a_running_server(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(DataFolderInUse):
        run("erase", "ann", "--confirm", "ann", "--data-dir", str(tmp_path))
