from __future__ import annotations

import itertools
from collections.abc import Iterator

import anyio
import anyio.from_thread
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.chroma_client import ChromaClient
from memory.errors import StoreUnavailable, UpkeepRefused
from memory.messages import ConversationId, Message, UserId
from memory.upkeep.migration import Migrated, Migration
from memory.upkeep.migration_copy import MigrationCopy
from memory.upkeep.migration_store import MigrationStore
from tests.contracts.long_term_world import chat, said, vector_of, vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.migration_world import LAYOUTS, Store, is_laid_out
from tests.memory.upkeep.store_world import USERS

pytestmark = pytest.mark.chroma

ANN, BOB, _ = USERS
WAYS = list(itertools.permutations(LAYOUTS, 2))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Chroma for all tests, whose stores have prefixes of their own."""
    folder = tmp_path_factory.mktemp("chroma")
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(folder)) as (process, _),
    ):
        yield process.url


async def made(url: str, layout: str, *, each: int = 3) -> Store:
    store = Store(url, layout)
    await store.fill(each=each)
    return store


async def small(url: str, layout: str) -> Store:
    """A store that is soon filled and copied: these are many."""
    store = Store(url, layout)
    await store.fill([ANN, BOB], each=1)
    return store


@pytest.mark.parametrize(("old", "new"), WAYS)
async def test_everything_is_there_under_the_new_placement_and_the_old_is_gone(
    url: str, old: str, new: str
) -> None:
    store = await made(url, old, each=20)
    ending, _ = await store.migrate(new)
    assert ending is not None
    assert (ending.ending, ending.records) == ("done", 60)
    assert await store.layout() == new
    collections = await store.collections()
    assert is_laid_out(store.to(new), list(collections))
    assert ending.collections == len(collections) - 1
    for facts in collections.values():
        assert (facts["layout"], "migrating_to" in facts, "migrated_from" in facts) == (
            new, False, False,
        )  # fmt: skip
    assert await store.read(new) == store.stored
    with pytest.raises(StoreUnavailable):
        await store.read(old)
    async with opened(url, store.to(new)) as memory:
        for user, messages in store.stored.items():
            page = await memory.newest(user, limit=100)
            assert list(page.messages) == messages[::-1]
            assert np.allclose(page.vectors, vectors_of(messages)[::-1], atol=1e-5)
            assert await memory.conversation(user, ConversationId("tea")) == chat(user, "tea")


async def test_a_store_goes_all_ways_and_comes_back_as_it_was(url: str) -> None:
    store = await made(url, "sharded/1")
    for layout in ("per_user", "sharded/3", "sharded/2", "sharded/1"):
        assert (await store.migrate(layout))[0] == Migrated(
            "done", 9, len(await store.collections()) - 1
        )
        assert await store.read(layout) == store.stored


@pytest.mark.parametrize(
    ("old", "new"),
    [("sharded/1", "per_user"), ("per_user", "sharded/2"), ("sharded/1", "sharded/2")],
)
async def test_cut_off_anywhere_it_goes_on_and_ends_the_same(url: str, old: str, new: str) -> None:
    whole = await small(url, old)
    _, writes = await whole.migrate(new)
    await whole.drop()
    assert writes > 8
    for after in range(writes):
        store = await small(url, old)
        ending, _ = await store.migrate(new, after=after)
        assert ending is None or after == writes - 1
        assert await store.is_whole(), after
        await store.migrate(new)
        assert await store.layout() == new
        assert is_laid_out(store.to(new), list(await store.collections())), after
        assert await store.read(new) == store.stored
        await store.drop()


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    old=st.sampled_from(LAYOUTS),
    cuts=st.lists(st.tuples(st.sampled_from(LAYOUTS), st.integers(0, 15)), min_size=1, max_size=4),
    new=st.sampled_from(LAYOUTS),
)
def test_whatever_is_begun_cut_off_and_begun_again_nothing_is_lost(
    url: str, old: str, cuts: list[tuple[str, int]], new: str
) -> None:
    async def check() -> None:
        store = await small(url, old)
        for layout, after in cuts:
            try:
                await store.migrate(layout, after=after)
            except UpkeepRefused as refused:  # in a change of names only its end is possible
                assert "run that one again first" in str(refused)
            assert await store.is_whole()
        try:
            await store.migrate(new)
            last = new
        except UpkeepRefused:
            last = (await store.layout()).partition(">")[2]
            await store.migrate(last)
        assert await store.layout() == last
        assert is_laid_out(store.to(last), list(await store.collections()))
        assert await store.read(last) == store.stored
        await store.drop()

    anyio.run(check)


async def test_with_the_old_placement_what_was_copied_is_removed(url: str) -> None:
    store = await made(url, "sharded/1")
    before = await store.collections()
    assert (await store.migrate("per_user", switch=False))[0] == Migrated("copied", 9, 3)
    assert len(await store.collections()) == len(before) + 3
    assert (await store.migrate("sharded/1"))[0] == Migrated("undone")
    assert await store.collections() == before
    assert (await store.migrate("sharded/1"))[0] == Migrated("nothing")


async def test_readers_and_writers_go_on_until_the_change_and_nothing_of_theirs_is_lost(
    url: str,
) -> None:
    store = await made(url, "sharded/2", each=30)
    new = UserId("new")
    written: list[Message] = []
    deleted = store.stored[BOB][-1]
    async with (
        opened(url, store.placement) as memory,
        anyio.create_task_group() as tasks,
    ):

        async def read() -> None:
            while not ended.is_set():
                found = await memory.latest(ANN, ConversationId("tea"), limit=1_000)
                assert found == store.stored[ANN]

        async def write() -> None:
            for _ in range(60):
                message = said(new, after=written[-1] if written else None)
                await memory.append(message, vector_of(message))
                written.append(message)
                await anyio.sleep(0.01)
            all_written.set()

        all_written, ended = anyio.Event(), anyio.Event()
        tasks.start_soon(read)
        tasks.start_soon(write)
        ending, _ = await store.migrate("sharded/3", switch=False)
        assert ending is not None
        assert ending.ending == "copied"
        await all_written.wait()
        await memory.delete(BOB, [deleted.id])
        ended.set()
    store.stored[new] = written
    assert await store.layout() == "sharded/2"
    ending, _ = await store.migrate("sharded/3")
    assert ending is not None
    assert (ending.ending, ending.records) == ("done", 90 + len(written))
    found = await store.read("sharded/3")
    gone = found[BOB].pop()
    assert (gone.id, gone.status, gone.text) == (deleted.id, "deleted", "")
    assert found == {**store.stored, BOB: store.stored[BOB][:-1]}


async def test_who_is_forgotten_while_it_is_copied_is_not_in_the_copy(url: str) -> None:
    for new in ("per_user", "sharded/3"):
        store = await made(url, "sharded/2")
        await store.migrate(new, switch=False)
        async with opened(url, store.placement) as memory:
            await memory.forget_user(ANN)
        ending, _ = await store.migrate(new)
        assert ending is not None
        assert ending.records == 6
        assert await store.read(new) == {**store.stored, ANN: []}


@pytest.mark.parametrize("new", ["per_user", "sharded/2"])
async def test_a_server_that_writes_during_the_change_is_noticed_and_it_is_taken_back(
    url: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await made(url, "sharded/1")
    checked = MigrationCopy.check

    async def check_and_write(self: MigrationCopy) -> int:
        total = await checked(self)
        await store.fill([UserId("late")])
        return total

    with monkeypatch.context() as patched:
        patched.setattr(MigrationCopy, "check", check_and_write)
        with pytest.raises(UpkeepRefused, match="a server wrote while the change was made"):
            await store.migrate(new)
    assert await store.layout() == "sharded/1"
    assert await store.is_whole()
    await store.migrate(new)
    assert await store.read(new) == store.stored


async def test_it_is_not_changed_over_while_messages_are_being_written(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await made(url, "sharded/1")
    swept = MigrationCopy.sweep

    async def write_and_sweep(self: MigrationCopy) -> int:
        changed = await swept(self)
        message = said(ANN)
        async with opened(url, store.placement) as memory:
            await memory.append(message, vector_of(message))
        return changed

    monkeypatch.setattr(MigrationCopy, "sweep", write_and_sweep)
    with pytest.raises(UpkeepRefused, match="still being written: stop the servers"):
        await store.migrate("per_user")
    assert await store.layout() == "sharded/1"


async def test_a_store_that_is_not_there_or_not_known_is_refused(url: str) -> None:
    store = Store(url, "sharded/1")
    with pytest.raises(UpkeepRefused, match="there is nothing to migrate"):
        await store.migrate("per_user")


async def test_a_store_whose_prefix_begins_with_another_s_is_left_alone(url: str) -> None:
    store = await made(url, "per_user")
    other = Store(url, "per_user")
    other.prefix = f"{store.prefix}x_"
    other.placement = other.to("per_user")
    await other.fill()
    await store.migrate("sharded/1")
    assert await other.read("per_user") == other.stored
    await other.migrate("sharded/1")
    await store.migrate("sharded/2")
    assert await other.read("sharded/1") == other.stored
    assert await store.read("sharded/2") == store.stored


async def test_unfinished_work_of_another_aim_is_removed_first(url: str) -> None:
    store = await made(url, "sharded/1")
    await store.migrate("per_user", switch=False)
    await store.migrate("sharded/3")
    assert is_laid_out(store.to("sharded/3"), list(await store.collections()))
    assert await store.read("sharded/3") == store.stored


async def test_how_far_it_is_is_told_and_chroma_is_relieved_of_open_collections(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.upkeep.migration_copy.MOST_OPEN", 2)
    monkeypatch.setattr("memory.upkeep.migration_copy.RECORDS_PER_BATCH", 4)
    store = Store(url, "sharded/1")
    await store.fill([UserId(f"u{number}") for number in range(6)], each=10)
    steps: list[tuple[str, float]] = []
    relieved = 0

    async def relieve() -> None:
        nonlocal relieved
        relieved += 1

    client = ChromaClient(url, timeout_s=20)
    await Migration(
        MigrationStore(client, store.prefix),
        store.to("per_user"),
        lambda step, done: steps.append((step, done)),
        relieve=relieve,
    ).run(switch=True)
    await client.aclose()
    assert relieved >= 6
    names = list(dict.fromkeys(step for step, _ in steps))
    assert names[0] == "copying"
    assert names[-1] == "removing collections"
    copying = [done for step, done in steps if step == "copying"]
    assert copying == sorted(copying)
    assert copying[-1] == 1
    assert len(copying) == 6 * 3
