from __future__ import annotations

from contextlib import ExitStack

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ChatError
from chat_server.events import Ok, RunStarted, ServerEvent
from chat_server.fanout import Fanout, UserStream
from chat_server.outbox import Outbox
from memory.messages import ConversationId, MessageId, RunId, UserId

ANN, BOB = UserId("ann"), UserId("bob")
TABS = [(user, tab) for user in (ANN, BOB) for tab in range(3)]


def durable(seq: int) -> ServerEvent:
    return RunStarted(
        seq=seq,
        run=RunId(f"r{seq}"),
        conversation=ConversationId("c"),
        message=MessageId("m"),
        model="a model",
    )


class Tab:
    """One connection: what it should have got since it came."""

    def __init__(self, fanout: Fanout, user: UserId) -> None:
        self.outbox = Outbox()
        self.stack = ExitStack()
        self.stream: UserStream = self.stack.enter_context(fanout.subscribed(user, self.outbox))
        self.seq = self.stream.seq
        self.expected: list[tuple[str, int | str]] = []

    async def leave(self) -> None:
        self.stack.close()
        assert [await self._next() for _ in self.expected] == self.expected
        await self.outbox.drained()
        seqs = [what for kind, what in self.expected if kind == "run.started"]
        assert seqs == list(range(self.seq + 1, self.seq + 1 + len(seqs)))

    async def _next(self) -> tuple[str, int | str]:
        frame = msgspec.json.decode(await self.outbox.take())
        self.outbox.written()
        return frame["type"], frame.get("seq", frame.get("re"))


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("come or go"), st.sampled_from(TABS)),
            st.tuples(st.sampled_from(["publish", "publish live"]), st.sampled_from(TABS)),
        ),
        max_size=60,
    )
)
async def test_all_tabs_of_a_user_get_the_same_in_one_order_without_gaps(
    steps: list[tuple[str, tuple[UserId, int]]],
) -> None:
    fanout, tabs = Fanout(), dict[tuple[UserId, int], Tab]()
    epochs: set[str] = set()
    for number, (what, who) in enumerate(steps):
        user = who[0]
        here = [tab for other, tab in tabs.items() if other[0] == user]
        if what == "come or go" and who in tabs:
            await tabs.pop(who).leave()
        elif what == "come or go":
            tabs[who] = Tab(fanout, user)
            if not here:
                assert tabs[who].stream.epoch not in epochs
                assert tabs[who].seq == 0
            epochs.add(tabs[who].stream.epoch)
        elif what == "publish":
            fanout.publish(user, durable)
            for tab in here:
                tab.expected.append(("run.started", tab.stream.seq))
        else:
            fanout.publish_live(user, Ok(re=str(number)))
            for tab in here:
                tab.expected.append(("ok", str(number)))
        assert fanout.users == len({user for user, _ in tabs})
        for user in (ANN, BOB):
            streams = {id(tab.stream) for other, tab in tabs.items() if other[0] == user}
            assert len(streams) <= 1
    for tab in tabs.values():
        await tab.leave()
    assert fanout.users == 0


async def test_after_all_have_left_a_new_epoch_counts_from_the_beginning() -> None:
    fanout = Fanout()
    with fanout.subscribed(ANN, Outbox()) as first:
        fanout.publish(ANN, durable)
    with fanout.subscribed(ANN, Outbox()) as second:
        assert second.epoch != first.epoch
        assert (first.seq, second.seq) == (1, 0)


async def test_for_a_user_who_is_not_there_no_event_is_even_built() -> None:
    fanout = Fanout()
    with fanout.subscribed(BOB, Outbox()):
        fanout.publish(ANN, lambda seq: durable(1 // 0 + seq))
        fanout.publish_live(ANN, Ok(re="nobody"))


async def test_a_slow_tab_holds_up_no_other() -> None:
    fanout, slow, quick = Fanout(), Outbox(10), Outbox()
    with fanout.subscribed(ANN, slow), fanout.subscribed(ANN, quick):
        fanout.publish(ANN, durable)
        fanout.publish(ANN, durable)
        reason = await slow.closed()
        assert reason is not None
        assert reason.code == "slow_client"
        for seq in (1, 2):
            assert msgspec.json.decode(await quick.take())["seq"] == seq
            quick.written()


async def test_all_connections_of_a_user_are_closed_and_nobody_elses() -> None:
    fanout, one, two, other = Fanout(), Outbox(), Outbox(), Outbox()
    reason = ChatError("not_authenticated", "over")
    with (
        fanout.subscribed(ANN, one),
        fanout.subscribed(ANN, two),
        fanout.subscribed(BOB, other),
    ):
        fanout.close_user(ANN, reason)
        assert await one.closed() is reason
        assert await two.closed() is reason
        fanout.publish(BOB, durable)
        assert msgspec.json.decode(await other.take())["seq"] == 1
    fanout.close_user(ANN, reason)
