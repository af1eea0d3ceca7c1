from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memory import conversations
from memory.conversations import MAX_CACHED, TITLE_CHARS, ConversationDirectory, title_of
from memory.errors import StoreError, StoreUnavailable
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import Conversation, ConversationId, Message, MessageId, UserId

ANN, BOB = UserId("ann"), UserId("bob")
TEA, RUM = ConversationId("tea"), ConversationId("rum")
PLACES = [(ANN, TEA), (ANN, RUM), (BOB, TEA)]


class Store(InProcessLongTermMemory):
    """Counts what is saved, holds saves or reads up at a gate, and may refuse a conversation."""

    def __init__(self) -> None:
        super().__init__(dimension=1)
        self.saves = 0
        self.reads = 0
        self.save_gate: anyio.Event | None = None
        self.read_gate: anyio.Event | None = None
        self.refused: ConversationId | None = None

    async def save_conversation(self, conversation: Conversation) -> None:
        self.saves += 1
        if self.save_gate is not None:
            await self.save_gate.wait()
        if conversation.id == self.refused:
            raise StoreUnavailable("not this one")
        await super().save_conversation(conversation)

    async def conversation(self, user: UserId, conversation: ConversationId) -> Conversation | None:
        self.reads += 1
        found = await super().conversation(user, conversation)
        if self.read_gate is not None:
            await self.read_gate.wait()
        return found


def said(
    at: float = 1.0,
    *,
    user: UserId = ANN,
    conversation: ConversationId = TEA,
    text: str = "Where is my boat?",
) -> Message:
    return Message(
        id=MessageId(f"m{at}"),
        user=user,
        conversation=conversation,
        role="user",
        text=text,
        timestamp=at,
        depth=0,
    )


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not fact():
            await anyio.sleep(0.001)


async def stored(store: Store, conversation: ConversationId = TEA) -> Conversation:
    found = await InProcessLongTermMemory.conversation(store, ANN, conversation)
    assert found is not None
    return found


class Expected:
    """What a directory should know of each conversation: its time and its head."""

    def __init__(self) -> None:
        self.store = Store()
        self.directory = ConversationDirectory(self.store)
        self.facts: dict[tuple[UserId, ConversationId], tuple[float, str | None]] = {}

    async def take(self, what: str, message: Message) -> None:
        place = (message.user, message.conversation)
        known = self.facts.get(place)
        match what:
            case "begin":
                await self.directory.begin(message)
                self.facts.setdefault(place, (message.timestamp, None))
            case "touch":
                assert (await self.directory.touch(message) is None) == (known is None)
                if known is not None:
                    self.facts[place] = (message.timestamp, known[1])
            case "branch":
                await self.directory.branch(message)
                if known is not None:
                    self.facts[place] = (message.timestamp, message.id)
            case "find":
                found = await self.directory.find(*place)
                assert known == (found and (found.updated_at, found.head))
            case "flush":
                await self.directory._flush()
            case _:
                self.store.away = not self.store.away


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "touch", "branch", "flush", "find", "away or back"]),
            st.sampled_from(PLACES),
        ),
        max_size=40,
    )
)
async def test_the_newest_time_and_head_are_kept_whatever_the_store_does(
    steps: list[tuple[str, tuple[UserId, ConversationId]]],
) -> None:
    expected = Expected()
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setattr(conversations, "MAX_CACHED", 2)
        for number, (what, (user, place)) in enumerate(steps):
            try:
                await expected.take(what, said(float(number), user=user, conversation=place))
            except StoreError:
                assert expected.store.away
            assert len(expected.directory._known) <= 2
        expected.store.away = False
        await expected.directory._flush()
    for (user, place), facts in expected.facts.items():
        found = await InProcessLongTermMemory.conversation(expected.store, user, place)
        assert found is not None
        assert (found.updated_at, found.head) == facts
    assert not expected.directory._unsaved


async def test_a_conversation_is_begun_once_with_its_first_words_for_a_title() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    first = await directory.begin(said(1.0))
    assert (first.title, first.created_at, first.updated_at) == ("Where is my boat?", 1.0, 1.0)
    assert await directory.begin(said(2.0, text="Another")) == first
    assert (await stored(store), store.saves) == (first, 1)


async def test_a_conversation_that_could_not_be_stored_was_not_begun() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await directory.begin(said())
    store.away = False
    assert await directory.find(ANN, TEA) is None
    assert await directory.touch(said()) is None


async def test_times_are_written_behind_together() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said(1.0))
    for at in (2.0, 4.0, 3.0):
        await directory.touch(said(at))
    assert ((await stored(store)).updated_at, store.saves) == (1.0, 1)
    await directory._flush()
    assert ((await stored(store)).updated_at, store.saves) == (4.0, 2)
    await directory._flush()
    assert store.saves == 2


async def test_several_that_wait_are_written_at_once_and_the_fault_of_one_hinders_no_other() -> (
    None
):
    store = Store()
    directory = ConversationDirectory(store)
    for conversation in (TEA, RUM):
        await directory.begin(said(conversation=conversation))
        await directory.touch(said(2.0, conversation=conversation))
    store.saves, store.save_gate = 0, anyio.Event()
    store.refused = TEA

    async def list_them() -> None:
        with pytest.raises(StoreUnavailable):
            await directory.page(ANN, limit=10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(list_them)
        await until(lambda: store.saves == 2)
        store.save_gate.set()
    assert (await stored(store, RUM)).updated_at == 2.0
    store.refused = None
    page = await directory.page(ANN, limit=10)
    assert [found.updated_at for found in page.conversations] == [2.0, 2.0]


async def test_what_waits_is_written_in_its_time_and_once_more_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said(1.0))
    monkeypatch.setattr(conversations, "FLUSH_EVERY_S", 0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(directory.run)
        await directory.touch(said(2.0))
        await until(lambda: store.saves == 2)
        monkeypatch.setattr(conversations, "FLUSH_EVERY_S", 10.0)
        await until(lambda: not directory._unsaved)
        await directory.touch(said(3.0))
        tasks.cancel_scope.cancel()
    assert (await stored(store)).updated_at == 3.0


async def test_a_store_that_stays_away_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said(1.0))
    await directory.touch(said(2.0))
    store.save_gate = anyio.Event()
    monkeypatch.setattr(conversations, "FLUSH_EVERY_S", 0.01)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(directory.run)
            await until(lambda: store.saves >= 2)
            tasks.cancel_scope.cancel()
    assert [it.updated_at for it in directory._unsaved.values()] == [2.0]


async def test_a_failed_write_is_logged_and_tried_again() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said(1.0))
    await directory.touch(said(2.0))
    store.away = True
    with capture_logs() as logs:
        await directory._flush()
    assert [(entry["event"], entry["waiting"]) for entry in logs] == [
        ("conversations.not_saved", 1)
    ]
    store.away = False
    await directory._flush()
    assert (await stored(store)).updated_at == 2.0


async def test_a_write_that_fails_late_does_not_bring_an_older_time_back() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said(1.0))
    await directory.touch(said(2.0))
    store.save_gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(directory._flush)
        await anyio.wait_all_tasks_blocked()
        await directory.touch(said(3.0))
        store.away = True
        store.save_gate.set()
    store.away = False
    await directory._flush()
    assert (await stored(store)).updated_at == 3.0


async def test_what_is_said_while_a_branch_is_stored_costs_neither_time_nor_head() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said(1.0))
    store.save_gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(directory.branch, said(2.0))
        await anyio.wait_all_tasks_blocked()
        await directory.touch(said(3.0))
        store.save_gate.set()
    found = await directory.find(ANN, TEA)
    assert found is not None
    assert (found.updated_at, found.head) == (3.0, "m2.0")
    await directory._flush()
    assert await stored(store) == found


async def test_a_read_that_is_late_does_not_hide_what_was_said_meanwhile() -> None:
    store = Store()
    await ConversationDirectory(store).begin(said(1.0))
    directory = ConversationDirectory(store)
    store.read_gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(directory.find, ANN, TEA)
        await anyio.wait_all_tasks_blocked()
        late, store.read_gate = store.read_gate, None
        await directory.branch(said(2.0))
        late.set()
    found = await directory.find(ANN, TEA)
    assert found is not None
    assert (found.updated_at, found.head) == (2.0, "m2.0")


async def test_a_page_knows_what_was_said_just_now_by_its_own_user_only() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    for number, (user, place) in enumerate(PLACES):
        await directory.begin(said(float(number), user=user, conversation=place))
        await directory.touch(said(10.0 - number, user=user, conversation=place))
    page = await directory.page(ANN, limit=9)
    assert [(it.id, it.updated_at) for it in page.conversations] == [(TEA, 10.0), (RUM, 9.0)]
    assert [user for user, _ in directory._unsaved] == [BOB]
    with_store_away = directory.page(BOB, limit=9)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await with_store_away
    assert [user for user, _ in directory._unsaved] == [BOB]


async def test_what_is_known_is_not_asked_for_again_and_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_CACHED >= 1_000
    monkeypatch.setattr(conversations, "MAX_CACHED", 3)
    store = Store()
    directory = ConversationDirectory(store)
    for number in range(5):
        await directory.begin(said(conversation=ConversationId(f"c{number}")))
    assert len(directory._known) == 3
    store.reads = 0
    await directory.find(ANN, ConversationId("c4"))
    assert store.reads == 0
    await directory.find(ANN, ConversationId("c0"))
    assert store.reads == 1


async def test_one_user_never_finds_another_s() -> None:
    store = Store()
    directory = ConversationDirectory(store)
    await directory.begin(said())
    assert await directory.find(BOB, TEA) is None
    assert await directory.touch(said(user=BOB)) is None
    assert (await directory.page(BOB, limit=9)).conversations == ()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Hello", "Hello"),
        ("  two\n lines\t here ", "two lines here"),
        ("word " * 30, ("word " * 12).strip() + "…"),
        ("x" * 100, "x" * TITLE_CHARS + "…"),
        ("Up to a comma, " + "x" * 60, "Up to a comma…"),
    ],
)
def test_a_title_is_made_of_first_words(text: str, title: str) -> None:
    assert title_of(text) == title


@given(st.text())
def test_a_title_is_one_short_line(text: str) -> None:
    title = title_of(text)
    assert len(title) <= TITLE_CHARS + 1
    assert title == " ".join(title.split())
    assert bool(title) == bool(text.split())


def test_a_conversation_is_not_changed_in_place() -> None:
    plain = Conversation(id=TEA, user=ANN, title="t", created_at=1.0, updated_at=1.0)
    with pytest.raises(AttributeError):
        plain.title = "other"  # type: ignore[misc]  # that is the point
    assert msgspec.structs.replace(plain, title="other") != plain
