"""The list of conversations where other processes write to it, and what changes single entries."""

from __future__ import annotations

from memory.conversations import ConversationDirectory
from memory.messages import MessageId
from memory.records import conversation_record_id
from tests.memory.test_conversations import ANN, BOB, RUM, TEA, Store, said


def two(store: Store) -> tuple[ConversationDirectory, ConversationDirectory]:
    """Those of two processes."""
    here, there = ConversationDirectory(store), ConversationDirectory(store)
    here.shared = there.shared = True
    return here, there


async def test_what_another_process_chose_and_named_is_seen_and_stays() -> None:
    store = Store()
    here, there = two(store)
    first = said(1.0)
    await here.begin(first)
    await here.touch(said(2.0))
    chosen = await there.branch(first)
    assert chosen is not None
    assert chosen.head == first.id
    await there.rename(ANN, TEA, "About boats")
    found = await here.find(ANN, TEA)
    assert found is not None
    assert (found.head, found.title, found.updated_at) == (first.id, "About boats", 2.0)
    touched = await here.touch(said(3.0))
    assert touched is not None
    assert (touched.head, touched.title) == (first.id, "About boats")
    await there.touch(said(2.5))
    await here.page(ANN, limit=5)
    await there.page(ANN, limit=5)
    [listed] = (await here.page(ANN, limit=5)).conversations
    assert (listed.head, listed.title, listed.updated_at) == (first.id, "About boats", 3.0)


async def test_what_another_process_deleted_does_not_come_back() -> None:
    store = Store()
    here, there = two(store)
    await here.begin(said(1.0))
    await here.touch(said(2.0))
    await store.unlist(ANN, [conversation_record_id(ANN, TEA)])
    assert await there.find(ANN, TEA) is None
    assert (await here.page(ANN, limit=5)).conversations == ()
    assert await here.find(ANN, TEA) is None
    assert await here.touch(said(3.0)) is None


async def test_a_name_and_a_branch_survive_what_is_written_behind() -> None:
    store = Store()
    here = ConversationDirectory(store)
    await here.begin(said(1.0))
    await here.touch(said(2.0))
    renamed = await here.rename(ANN, TEA, "About boats")
    assert renamed is not None
    assert (renamed.title, renamed.updated_at) == ("About boats", 2.0)
    await here.touch(said(3.0))
    branched = await here.branch(said(0.5))
    assert branched is not None
    assert (branched.head, branched.updated_at) == (MessageId("m0.5"), 3.0)
    [listed] = (await here.page(ANN, limit=5)).conversations
    assert listed == branched
    assert await here.rename(BOB, TEA, "Mine?") is None
    assert await here.branch(said(1.0, conversation=RUM)) is None


async def test_what_is_forgotten_of_single_conversations_is_not_written() -> None:
    store = Store()
    here = ConversationDirectory(store)
    for conversation in (TEA, RUM):
        await here.begin(said(1.0, conversation=conversation))
        await here.touch(said(2.0, conversation=conversation))
    record = conversation_record_id(ANN, TEA)
    here.forget_records(BOB, [record])
    here.forget_records(ANN, [record])
    await store.unlist(ANN, [record])
    [listed] = (await here.page(ANN, limit=5)).conversations
    assert (listed.id, listed.updated_at) == (RUM, 2.0)
    assert await here.find(ANN, TEA) is None
