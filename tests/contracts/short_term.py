"""What every short-term memory must do; a backend's tests subclass this suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.messages import ConversationId, Message, MessageId, UserId
from memory.short_term import Window
from tests.contracts.short_term_limits import LimitContract
from tests.contracts.short_term_world import (
    ANN,
    BOB,
    DAY_S,
    HOUR_S,
    SLACK_MS,
    TEA,
    World,
    lenient,
    line,
    window_of,
)


class ShortTermContract(LimitContract):
    """Subclasses provide the fixture ``world``."""

    # Windows

    async def test_what_was_appended_is_the_window(self, world: World) -> None:
        memory = world.open(lenient())
        messages = line(3)
        for message in messages:
            assert (await memory.append(message, active=True)).result == "appended"
        window = await window_of(memory)
        assert window == Window(tuple(messages))
        assert window.head == messages[-1]

    async def test_every_field_of_a_message_comes_back(self, world: World) -> None:
        memory = world.open(lenient())
        message = Message(
            id=MessageId("m0"),
            user=ANN,
            conversation=TEA,
            role="assistant",
            text='\n"}{\\\0 \u2028 \U0001f375',
            timestamp=1_700_000_000.123456,
            depth=0,
            client_id="c",
            author="Ann",
            status="stopped",
            model="m",
            reply_to=MessageId("q"),
        )
        await memory.append(message, active=True)
        assert await window_of(memory) == Window((message,))

    async def test_all_of_a_user_is_forgotten_and_nothing_of_anybody_else(
        self, world: World
    ) -> None:
        memory = world.open(lenient())
        odd = UserId("a*n?[n]:{}/%")
        names = [TEA, ConversationId("weird:*[name]"), ConversationId("x")]
        for user in (ANN, BOB, odd):
            for name in names:
                await memory.append(line(1, user=user, conversation=name)[0], active=True)
            await memory.admit(user, None)
        await memory.forget_user(ANN)
        await memory.forget_user(odd)
        left = (await memory.usage()).total_keys
        assert left == len(names) + 3  # of Bob: windows, rate, last_active, version
        for user in (ANN, odd):
            again = await memory.admit(user, TEA)
            assert (again.window, again.version, again.active) == (None, None, False)
        assert await window_of(memory, BOB) is not None
        await memory.forget_user(UserId("nobody"))

    async def test_an_unknown_window_is_not_an_empty_one(self, world: World) -> None:
        memory = world.open(lenient())
        assert await window_of(memory) is None
        assert (await memory.admit(ANN, None)).window is None

    async def test_half_a_window_is_never_begun(self, world: World) -> None:
        memory = world.open(lenient())
        assert (await memory.append(line(2)[1], active=True)).result == "missing"
        assert await window_of(memory) is None

    async def test_a_window_that_lacks_the_parent_is_dropped(self, world: World) -> None:
        memory = world.open(lenient())
        messages = line(4)
        await memory.append(messages[0], active=True)
        assert (await memory.append(messages[2], active=True)).result == "stale"
        assert await window_of(memory) is None
        assert (await memory.append(messages[3], active=True)).result == "missing"

    async def test_a_second_beginning_drops_the_window(self, world: World) -> None:
        memory = world.open(lenient())
        await memory.append(line(1)[0], active=True)
        assert (await memory.append(line(1, begin="n")[0], active=True)).result == "stale"
        assert await window_of(memory) is None

    async def test_a_parent_is_compared_as_a_whole(self, world: World) -> None:
        memory = world.open(lenient())
        await memory.append(line(1, begin="m1")[0], active=True)
        child = line(3)[2]
        assert child.parent == "m1"
        assert (await memory.append(child, active=True)).result == "stale", "the head is m10"

    async def test_appending_the_head_again_changes_only_the_expiry(self, world: World) -> None:
        memory = world.open(lenient(ttl_active_s=100))
        first, second = line(2)
        await memory.append(first, active=True)
        version = (await memory.append(second, active=True)).version
        await world.pass_time(80)
        again = await memory.append(second, active=True)
        assert (again.result, again.version) == ("appended", version)
        await world.pass_time(80)
        assert await window_of(memory) == Window((first, second))

    async def test_the_oldest_message_leaves_a_full_window(self, world: World) -> None:
        memory = world.open(lenient(window_messages=10))
        messages = line(13)
        for message in messages:
            await memory.append(message, active=True)
        assert await window_of(memory) == Window(tuple(messages[-10:]))

    async def test_a_replacement_keeps_the_newest(self, world: World) -> None:
        memory = world.open(lenient(window_messages=4))
        messages = line(7)
        await memory.append(line(1, begin="x")[0], active=True)
        await memory.replace(ANN, TEA, messages[:6], active=True)
        assert await window_of(memory) == Window(tuple(messages[2:6]))
        assert (await memory.append(messages[6], active=True)).result == "appended"
        await memory.replace(ANN, TEA, [], active=True)
        assert await window_of(memory) is None

    async def test_a_dropped_window_is_gone(self, world: World) -> None:
        memory = world.open(lenient())
        await memory.append(line(1)[0], active=True)
        await memory.drop(ANN, TEA)
        await memory.drop(ANN, TEA)
        assert await window_of(memory) is None

    @pytest.mark.parametrize(("active", "life_s"), [(True, DAY_S), (False, HOUR_S)])
    @pytest.mark.parametrize("replaced", [True, False])
    async def test_a_window_lives_by_activity(
        self, world: World, *, active: bool, life_s: int, replaced: bool
    ) -> None:
        memory = world.open(lenient())
        messages = line(1)
        if replaced:
            await memory.replace(ANN, TEA, messages, active=active)
        else:
            await memory.append(messages[0], active=active)
        await world.pass_time(life_s - SLACK_MS / 1_000)
        assert await window_of(memory) is not None, "and reading does not prolong its life"
        await world.pass_time(SLACK_MS / 1_000)
        assert await window_of(memory) is None

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        owners=st.lists(
            st.tuples(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8)),
            min_size=2,
            max_size=5,
            unique=True,
        )
    )
    async def test_users_and_conversations_of_any_characters_are_apart(
        self, world: World, owners: list[tuple[str, str]]
    ) -> None:
        await world.clear()
        memory = world.open(lenient())
        messages = {
            owner: line(1, user=UserId(owner[0]), conversation=ConversationId(owner[1]))[0]
            for owner in owners
        }
        for message in messages.values():
            await memory.append(message, active=True)
        for (user, conversation), message in messages.items():
            found = await window_of(memory, UserId(user), ConversationId(conversation))
            assert found == Window((message,))
        usage = await memory.usage()
        assert usage.active_users == len({user for user, _ in owners})

    # Versions

    async def test_the_version_grows_with_each_commit(self, world: World) -> None:
        memory = world.open(lenient())
        assert (await memory.admit(ANN, TEA)).version is None
        messages = line(3)
        versions = [(await memory.append(message, active=True)).version for message in messages]
        versions.append((await memory.append(line(6)[5], active=True)).version)  # stale
        versions.append((await memory.append(line(9)[8], active=True)).version)  # missing
        assert versions == sorted(set(versions))
        assert (await memory.admit(ANN, None)).version == versions[-1]
        assert (await memory.admit(BOB, None)).version is None

    async def test_a_version_outlives_windows_and_a_reborn_one_is_new(self, world: World) -> None:
        memory = world.open(lenient())
        first, second = line(2)
        before = (await memory.append(first, active=True)).version
        await world.pass_time(6 * DAY_S)
        assert (await memory.admit(ANN, TEA)).version == before
        await world.pass_time(2 * DAY_S)
        assert (await memory.admit(ANN, TEA)).version is None
        assert (await memory.append(second, active=True)).version > before
