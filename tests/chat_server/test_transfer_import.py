from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import pytest

from chat_server import patience, transfer_import
from memory.embedding import Embedded
from memory.errors import EmbeddingFailed, StoreRefused, StoreUnavailable, StoreUnknown
from memory.messages import ConversationId, Message, MessageId, message_id
from memory.token_marks import no_marks
from tests.chat_server.transfer_world import ANN, BOB, TransferWorld, line, transfer_world

NO_MARKS = no_marks(384)
TEA = ConversationId("c")


@pytest.fixture
async def world() -> AsyncIterator[TransferWorld]:
    async with transfer_world() as opened:
        yield opened


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0)


def trio() -> list[dict[str, object]]:
    return [
        line(1, timestamp=100.5, title="Tea", author="Ann"),
        line(2, timestamp=101, role="assistant", model="m", status="stopped"),
        line(3, timestamp="1970-01-01T00:01:42Z"),
    ]


async def test_lines_become_messages_with_all_their_fields(world: TransferWorld) -> None:
    counts = await world.import_(trio())
    assert (counts.read, counts.stored, counts.duplicates, counts.errors) == (3, 3, 0, 0)
    ids = [message_id(ANN, name) for name in ("l1", "l2", "l3")]
    assert await world.long_term.latest(ANN, TEA, limit=10) == [
        Message(
            id=ids[0],
            user=ANN,
            conversation=TEA,
            role="user",
            text="text 1",
            timestamp=100.5,
            depth=0,
            client_id="l1",
            author="Ann",
        ),
        Message(
            id=ids[1],
            user=ANN,
            conversation=TEA,
            role="assistant",
            text="text 2",
            timestamp=101,
            depth=1,
            parent=ids[0],
            client_id="l2",
            status="stopped",
            model="m",
            reply_to=ids[0],
        ),
        Message(
            id=ids[2],
            user=ANN,
            conversation=TEA,
            role="user",
            text="text 3",
            timestamp=102,
            depth=2,
            parent=ids[1],
            client_id="l3",
        ),
    ]
    (listed,) = (await world.memory.conversations.page(ANN, limit=10)).conversations
    assert (listed.title, listed.created_at, listed.updated_at) == ("Tea", 100.5, 102)


async def test_the_same_file_twice_stores_nothing_twice(world: TransferWorld) -> None:
    await world.import_(trio())
    counts = await world.import_(trio())
    assert (counts.stored, counts.duplicates, counts.errors) == (0, 3, 0)
    assert len(await world.texts("c")) == 3
    counts = await world.import_([*trio(), line(4)])
    assert (counts.stored, counts.duplicates) == (1, 3)
    assert await world.texts("c") == ["text 1", "text 2", "text 3", "text 4"]


async def test_an_id_that_stands_twice_in_a_file_is_stored_once(world: TransferWorld) -> None:
    counts = await world.import_([line(1), line(1), line(2), line(2, text="other")])
    assert (counts.stored, counts.duplicates, world.wrong) == (2, 1, [(4, "id_conflict")])


async def test_bad_lines_are_told_by_number_and_the_rest_is_stored(world: TransferWorld) -> None:
    content = [
        line(1),
        line(2, role="system"),
        line(3, timestamp="never"),
        line(4, parent="nobody"),
        line(5, parent="l4"),
        line(6),
        line(7, conversation="d", parent="l1"),
    ]
    counts = await world.import_(content)
    assert sorted(world.wrong) == [
        (2, "bad_request"),
        (3, "bad_request"),
        (4, "unknown_parent"),
        (5, "unknown_parent"),
        (7, "unknown_parent"),
    ]
    assert (counts.read, counts.stored, counts.errors) == (7, 2, 5)
    assert await world.texts("c") == ["text 1", "text 6"]


async def test_lines_without_parent_follow_those_before_them_in_their_conversation(
    world: TransferWorld,
) -> None:
    await world.import_([line(n, conversation=f"c{n % 2}") for n in range(6)])
    assert await world.texts("c0") == ["text 0", "text 2", "text 4"]
    assert await world.texts("c1") == ["text 1", "text 3", "text 5"]
    await world.import_([line("more", conversation="c1")])
    assert (await world.texts("c1"))[-2:] == ["text 5", "text more"]
    await world.import_([line("new", conversation="c1", parent=None)])
    roots = (await world.long_term.tree(ANN, ConversationId("c1"))).messages[:2]
    assert [(it.text, it.depth) for it in roots] == [("text 1", 0), ("text new", 0)]


async def test_places_are_found_in_the_store_where_they_are_not_remembered(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.transfer_places.REMEMBERED", 1)
    monkeypatch.setattr(transfer_import, "BATCH_LINES", 2)
    content = [line(n, conversation=f"c{n % 3}") for n in range(12)]
    content.append(line("last", conversation="c0", parent="l3"))
    counts = await world.import_(content)
    assert (counts.stored, counts.errors) == (13, 0)
    assert await world.texts("c1") == ["text 1", "text 4", "text 7", "text 10"]
    branch = await world.long_term.by_ids(ANN, [message_id(ANN, "llast")])
    assert branch[0].parent == message_id(ANN, "l3")


async def test_messages_without_a_time_are_of_now_and_in_order(world: TransferWorld) -> None:
    begun = time.time()
    await world.import_([line(n) for n in range(50)])
    times = [it.timestamp for it in await world.long_term.latest(ANN, TEA, limit=50)]
    assert times == sorted(set(times))
    assert begun <= times[0] <= time.time()


async def test_the_messages_of_others_are_neither_found_nor_followed(world: TransferWorld) -> None:
    await world.import_([line(1)], BOB)
    theirs = str(message_id(BOB, "l1"))
    counts = await world.import_([line(2, parent=theirs), {**line(3), "id": theirs}])
    assert (counts.stored, counts.duplicates, world.wrong) == (1, 0, [(1, "unknown_parent")])
    assert await world.texts("c", BOB) == ["text 1"]


async def test_windows_and_recall_know_what_was_imported(world: TransferWorld) -> None:
    await world.import_([line(1, text="Gertrude is a sourdough.")])
    vector = await world.memory.embed("sourdough")
    assert (await world.memory.recall(ANN, "sourdough", Embedded(vector, NO_MARKS), limit=5)).items
    admission = await world.short_term.admit(ANN, TEA)
    window = await world.memory.window(ANN, TEA, admission.window, active=True)
    assert len(window.messages) == 1
    before = await world.short_term.admit(ANN, TEA)
    assert before.window is not None
    await world.import_([line(2, text="Biscuit is a beagle.")])
    after = await world.short_term.admit(ANN, TEA)
    assert after.window is None
    assert after.version is not None
    assert before.version is None or after.version > before.version
    found = await world.memory.recall(
        ANN, "beagle", await world.memory.embed_marked(ANN, "beagle"), limit=1
    )
    assert found.items[0].text == "Biscuit is a beagle."


async def test_a_conversation_that_is_listed_keeps_its_title_and_spans_both_times(
    world: TransferWorld,
) -> None:
    await world.import_([line(1, title="First", timestamp=50)])
    await world.import_([line(2, title="Second", timestamp=20), line(3, timestamp=90)])
    (listed,) = (await world.memory.conversations.page(ANN, limit=10)).conversations
    assert (listed.title, listed.created_at, listed.updated_at) == ("First", 20, 90)


async def test_a_conversation_that_a_crash_kept_off_the_list_is_listed_by_the_next_import(
    world: TransferWorld,
) -> None:
    await world.import_([line(1, title="Tea", timestamp=5)])
    world.long_term._conversations.clear()
    async with transfer_world() as fresh:
        world.memory.conversations = fresh.memory.conversations
        world.memory.conversations._long_term = world.long_term
        counts = await world.import_([line(1, title="Tea", timestamp=5)])
        assert counts.duplicates == 1
        (listed,) = (await world.memory.conversations.page(ANN, limit=10)).conversations
        assert (listed.title, listed.created_at) == ("Tea", 5)


async def test_a_branched_conversation_is_shown_below_its_head(world: TransferWorld) -> None:
    content = [
        line(1, head="l2"),
        line(2, parent="l1"),
        line(3, parent="l1"),
        line(4, parent="l2"),
    ]
    await world.import_(content)
    assert await world.texts("c") == ["text 1", "text 2", "text 4"]


@pytest.mark.usefixtures("hurried")
async def test_a_store_that_is_away_for_a_moment_is_waited_for(world: TransferWorld) -> None:
    world.long_term.fail_next_append(StoreUnavailable("away"))
    world.long_term.fail_next_append(StoreUnknown("no answer"))
    counts = await world.import_([line(n) for n in range(30)])
    assert (counts.stored, counts.duplicates, counts.errors) == (30, 0, 0)
    assert len(await world.texts("c")) == 30


async def test_a_store_that_stays_away_ends_the_import(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WITHIN_S", 0)
    world.long_term.away = True
    with pytest.raises(StoreUnavailable):
        await world.import_([line(1)])


async def test_what_the_store_refuses_is_told_and_later_lines_do_not_follow_it(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_import, "BATCH_LINES", 1)
    world.long_term.fail_next_append(StoreRefused("no"))
    counts = await world.import_([line(1), line(2, parent="l1"), line(3)])
    assert (counts.stored, counts.errors) == (1, 2)
    assert world.wrong == [(1, "not_stored"), (2, "unknown_parent")]


async def test_a_text_without_a_vector_is_stored_and_gets_it_later(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = world.embedder.embed_marked

    async def fails(texts: Sequence[str]) -> list[Embedded]:
        if any("odd" in text for text in texts):
            raise EmbeddingFailed("no")
        return await embed(texts)

    monkeypatch.setattr(world.embedder, "embed_marked", fails)
    counts = await world.import_([line(1), line(2, text="odd"), line(3, parent="l2")])
    assert (counts.stored, counts.errors, world.wrong) == (3, 0, [])
    assert world.memory.backfill.left == 1
    nothing = await world.memory.embed("odd")
    found = await world.memory.recall(ANN, "odd", Embedded(nothing, NO_MARKS), limit=3)
    assert "odd" in [it.text for it in found.items]
    assert found.partial


async def test_an_id_of_a_stored_message_is_that_message(world: TransferWorld) -> None:
    await world.import_([line(1)])
    own = MessageId(message_id(ANN, "l1"))
    counts = await world.import_(
        [{**line(1), "id": own, "parent": None}, line(2, parent=own), line(3, parent="l1")]
    )
    assert (counts.stored, counts.duplicates, counts.errors) == (2, 1, 0)
    children = await world.long_term.by_ids(ANN, [message_id(ANN, "l2"), message_id(ANN, "l3")])
    assert [child.parent for child in children] == [own, own]
