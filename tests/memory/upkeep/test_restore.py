from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from memory.data_folder import hold
from memory.errors import DataFolderInUse, UpkeepRefused
from memory.messages import Message, UserId
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep import restore as restore_module
from memory.upkeep.backup import back_up
from memory.upkeep.ledger import FILE, SqliteLedger
from memory.upkeep.restore import COPYING, REPLACED, RESTORED, Restored, finish_restore, restore
from memory.upkeep.vector_segments import DATABASE
from tests.contracts.long_term_world import vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.store_world import USERS, everything, fill, filled, ignore

pytestmark = pytest.mark.chroma

Stored = dict[UserId, list[Message]]
ANN, BOB, CHLOE = USERS


@pytest.fixture(scope="module", params=[Sharded(), PerUser()], ids=["sharded", "per user"])
def placement(request: pytest.FixtureRequest) -> Placement:
    found: Placement = request.param
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, placement: Placement) -> tuple[Path, Stored]:
    """A backup, and what was stored."""
    folder = tmp_path_factory.mktemp("made")
    stored = anyio.run(filled, folder / "data", placement)
    back_up(folder / "data", folder / "backup", ignore)
    return folder / "backup", stored


def restored(
    backup: Path,
    data_dir: Path,
    *,
    replace: bool = False,
    ledger_folder: Path | None = None,
    without_ledger: bool = False,
) -> Restored:
    return restore(
        backup,
        data_dir,
        replace=replace,
        ledger_folder=ledger_folder,
        without_ledger=without_ledger,
        report=ignore,
    )


def read(data_dir: Path, placement: Placement) -> Stored:
    """What a server on *data_dir* finds."""

    async def found() -> Stored:
        async with (
            serving(data_dir) as (process, _),
            opened(lambda: process.url, placement) as memory,
        ):
            return await everything(memory)

    return anyio.run(found)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with a ledger in which nobody stands."""
    folder = tmp_path / "data"
    folder.mkdir()
    SqliteLedger.open(folder).close()
    return folder


@pytest.fixture
def ledger(data_dir: Path) -> Iterator[SqliteLedger]:
    found = SqliteLedger.open(data_dir)
    yield found
    found.close()


def files_with(folder: Path, needle: bytes) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if needle in path.read_bytes()]


def test_a_store_comes_back_as_it_was(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement
) -> None:
    backup, stored = made
    found = restored(backup, data_dir)
    assert (found.manifest.messages, found.left_out.users, found.left_out.messages) == (15, 0, 0)
    assert read(data_dir, placement) == stored


def test_a_store_is_replaced_on_demand_only_and_what_spoke_of_it_goes(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement
) -> None:
    backup, stored = made
    anyio.run(filled, data_dir, placement)
    (data_dir / "journal").mkdir()
    (data_dir / "healing.json").write_text("[]")
    before = read(data_dir, placement)
    with pytest.raises(UpkeepRefused, match="give --replace"):
        restored(backup, data_dir)
    assert read(data_dir, placement) == before
    restored(backup, data_dir, replace=True)
    left = {path.name for path in data_dir.iterdir()}
    assert left & {"journal", "healing.json", COPYING, RESTORED, REPLACED} == set()
    assert read(data_dir, placement) == stored


def test_a_damaged_store_is_replaced_all_the_same(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement
) -> None:
    backup, stored = made
    (data_dir / "chroma").mkdir()
    (data_dir / "chroma" / DATABASE).write_bytes(b"nothing that could be opened")
    (data_dir / "chroma" / f"{DATABASE}-wal").write_bytes(b"of another database")
    restored(backup, data_dir, replace=True)
    assert read(data_dir, placement) == stored


def test_a_folder_that_is_served_is_left_alone(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement
) -> None:
    with hold(data_dir), pytest.raises(DataFolderInUse):
        restored(made[0], data_dir)
    assert not (data_dir / "chroma").exists()


def test_a_backup_that_is_not_sound_changes_nothing(
    made: tuple[Path, Stored], data_dir: Path, tmp_path: Path, placement: Placement
) -> None:
    backup = shutil.copytree(made[0], tmp_path / "backup")
    content = (backup / DATABASE).read_bytes()
    (backup / DATABASE).write_bytes(content[:-1])
    anyio.run(filled, data_dir, placement)
    before = read(data_dir, placement)
    with pytest.raises(UpkeepRefused, match="bytes instead of"):
        restored(backup, data_dir, replace=True)
    assert read(data_dir, placement) == before


def test_who_was_erased_since_does_not_come_back(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement, ledger: SqliteLedger
) -> None:
    backup, stored = made
    ledger.finish(ledger.begin(ANN))
    ledger.begin(CHLOE)  # and is not finished
    victims = stored[ANN] + stored[CHLOE]
    needles = [vector.tobytes() for vector in vectors_of(victims)]
    needles += [victim.id.encode() for victim in victims]
    assert all(files_with(backup, needle) for needle in needles)
    found = restored(backup, data_dir)
    assert found.left_out.users == 2
    assert (found.manifest.messages, found.manifest.users) == (len(stored[BOB]), 1)
    for needle in needles:
        assert files_with(data_dir, needle) == []
    assert read(data_dir, placement) == {ANN: [], BOB: stored[BOB], CHLOE: []}


def test_bytes_that_an_erasure_had_not_scrubbed_yet_are_not_restored(
    data_dir: Path, tmp_path: Path, placement: Placement, ledger: SqliteLedger
) -> None:
    stored = anyio.run(filled, tmp_path / "other", placement)

    async def forget() -> None:
        async with (
            serving(tmp_path / "other") as (process, _),
            opened(lambda: process.url, placement) as memory,
        ):
            await memory.forget_user(ANN)

    anyio.run(forget)
    back_up(tmp_path / "other", tmp_path / "backup", ignore)
    ledger.finish(ledger.begin(ANN))
    needles = [vector.tobytes() for vector in vectors_of(stored[ANN])]
    assert any(files_with(tmp_path / "backup", needle) for needle in needles)
    restored(tmp_path / "backup", data_dir)
    assert not any(files_with(data_dir, needle) for needle in needles)
    assert read(data_dir, placement) == {**stored, ANN: []}


def test_who_was_erased_before_and_came_again_is_restored(
    data_dir: Path, tmp_path: Path, placement: Placement, ledger: SqliteLedger
) -> None:
    ledger.finish(ledger.begin(ANN))
    stored = anyio.run(filled, tmp_path / "other", placement)
    back_up(tmp_path / "other", tmp_path / "backup", ignore)
    assert restored(tmp_path / "backup", data_dir).left_out.users == 0
    assert read(data_dir, placement) == stored


def test_a_message_that_was_deleted_since_stays_deleted_and_keeps_its_place(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement, ledger: SqliteLedger
) -> None:
    backup, stored = made
    victim = stored[BOB][2]
    ledger.finish(ledger.begin(BOB, [victim.id]))
    found = restored(backup, data_dir)
    assert (found.left_out.users, found.left_out.messages) == (0, 1)
    assert files_with(data_dir, vectors_of([victim])[0].tobytes()) == []
    after = read(data_dir, placement)
    assert [message.id for message in after[BOB]] == [message.id for message in stored[BOB]]
    assert (after[BOB][2].status, after[BOB][2].text) == ("deleted", "")
    assert after[BOB][:2] + after[BOB][3:] == stored[BOB][:2] + stored[BOB][3:]
    assert after[ANN] == stored[ANN]


def test_a_restored_store_takes_new_messages_and_finds_them_by_their_vectors(
    made: tuple[Path, Stored], data_dir: Path, placement: Placement, ledger: SqliteLedger
) -> None:
    backup, stored = made
    ledger.finish(ledger.begin(BOB, [stored[BOB][2].id]))
    ledger.finish(ledger.begin(ANN))
    restored(backup, data_dir)

    async def add() -> None:
        async with (
            serving(data_dir) as (process, _),
            opened(lambda: process.url, placement) as memory,
        ):
            new = await fill(memory, [ANN])
            page = await memory.newest(BOB, limit=10)
            assert len(page.messages) == 5
            assert page.vectors.any(axis=1).sum() >= 4
            page = await memory.newest(ANN, limit=10)
            assert {message.id for message in page.messages} == {it.id for it in new[ANN]}
            assert page.vectors.any(axis=1).all()

    anyio.run(add)


@pytest.mark.parametrize("gone", [[CHLOE], [ANN, BOB, CHLOE]], ids=["the last", "all"])
def test_what_is_accepted_after_the_last_in_the_log_were_left_out_is_found(
    made: tuple[Path, Stored],
    data_dir: Path,
    placement: Placement,
    ledger: SqliteLedger,
    gone: list[UserId],
) -> None:
    for user in gone:
        ledger.finish(ledger.begin(user))
    restored(made[0], data_dir)

    async def accepted() -> tuple[Stored, Stored]:
        async with (
            serving(data_dir) as (process, _),
            opened(lambda: process.url, placement) as memory,
        ):
            new = await fill(memory)
            async with opened(lambda: process.url, placement) as another:
                return new, {
                    user: list((await another.newest(user, limit=100)).messages) for user in USERS
                }

    new, found = anyio.run(accepted)
    for user in USERS:
        before = [] if user in gone else made[1][user]
        assert found[user] == [*before, *new[user]][::-1]


def test_without_a_ledger_one_has_to_be_named_or_renounced(
    made: tuple[Path, Stored], tmp_path: Path, placement: Placement
) -> None:
    backup, stored = made
    with pytest.raises(UpkeepRefused, match="has no ledger of erasures"):
        restored(backup, tmp_path / "new")
    (tmp_path / "new" / FILE).touch()  # as a damaged disk may leave it
    with pytest.raises(UpkeepRefused, match="has no ledger of erasures"):
        restored(backup, tmp_path / "new")
    with pytest.raises(UpkeepRefused, match="holds no ledger"):
        restored(backup, tmp_path / "new", ledger_folder=tmp_path)
    restored(backup, tmp_path / "new", without_ledger=True)
    assert read(tmp_path / "new", placement) == stored


def test_the_ledger_of_the_old_machine_is_applied_and_becomes_the_new_one_s(
    made: tuple[Path, Stored], tmp_path: Path, ledger: SqliteLedger, data_dir: Path
) -> None:
    ledger.finish(ledger.begin(ANN))
    backup, _ = made
    found = restored(backup, tmp_path / "new", ledger_folder=data_dir)
    assert found.left_out.users == 1
    with closing(SqliteLedger.open(tmp_path / "new")) as adopted:
        assert adopted.erased_user(ANN, since=0)
        assert not adopted.erased_user(BOB, since=0)
    again = restored(backup, tmp_path / "new", replace=True)
    assert again.left_out.users == 1


def test_two_ledgers_are_both_applied(
    made: tuple[Path, Stored], tmp_path: Path, ledger: SqliteLedger, data_dir: Path
) -> None:
    (tmp_path / "other").mkdir()
    with closing(SqliteLedger.open(tmp_path / "other")) as other:
        other.finish(other.begin(CHLOE))
    ledger.finish(ledger.begin(ANN))
    found = restored(made[0], data_dir, ledger_folder=tmp_path / "other")
    assert found.left_out.users == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from memory.upkeep import restore as module

calls = 0
def dying(inner):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **named)
    return call

for name in ("sync", "_remove", "leave_out_erased", "_copy"):
    setattr(module, name, dying(getattr(module, name)))
Path.rename = dying(Path.rename)
module.restore(Path(sys.argv[1]), Path(sys.argv[2]), replace=True, ledger_folder=None,
               without_ledger=False, report=lambda step, done: None)
"""


def test_a_restore_that_is_killed_anywhere_leaves_the_old_store_or_the_new_one(
    tmp_path: Path, placement: Placement
) -> None:
    new = anyio.run(filled, tmp_path / "other", placement)
    back_up(tmp_path / "other", tmp_path / "backup", ignore)
    old = anyio.run(filled, tmp_path / "store", placement)
    SqliteLedger.open(tmp_path / "store").close()
    outcomes: list[Stored] = []
    for step in range(1, 100):
        data_dir = shutil.copytree(tmp_path / "store", tmp_path / "data")
        arguments = (str(tmp_path / "backup"), str(data_dir), str(step))
        code = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False).returncode
        finish_restore(data_dir)
        names = {path.name for path in data_dir.iterdir()}
        assert names & {COPYING, RESTORED, REPLACED} == set()
        with closing(sqlite3.connect(data_dir / "chroma" / DATABASE)) as database:
            rows = database.execute("SELECT embedding_id FROM embeddings WHERE embedding_id > 'm'")
            ids = {row for (row,) in rows}
        is_new = ids == {message.id for said in new.values() for message in said}
        assert is_new or ids == {message.id for said in old.values() for message in said}
        outcomes.append(new if is_new else old)
        shutil.rmtree(data_dir)
        if code == 0:
            break
    assert code == 0
    assert len(outcomes) > 10
    switched = outcomes.index(new)
    assert outcomes == [old] * switched + [new] * (len(outcomes) - switched)
    assert 0 < switched < len(outcomes) - 2


def test_a_disk_that_is_too_small_is_told_and_the_old_store_stands(
    made: tuple[Path, Stored], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(UpkeepRefused, match=r"needs .* MB free"):
        restored(made[0], data_dir)
    assert not (data_dir / "chroma").exists()


def test_where_nothing_was_restored_nothing_is_finished(data_dir: Path) -> None:
    assert finish_restore(data_dir) is False
