from __future__ import annotations

from contextlib import AsyncExitStack

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ChatError
from chat_server.event_log import KEEP_S
from chat_server.events import DurableEvent, Ok, RunStarted
from chat_server.fanout import LEFT_BYTES, Fanout, Joined
from chat_server.outbox import Outbox
from chat_server.protocol import ResumePoint
from memory.messages import ConversationId, MessageId, RunId, UserId

ANN, BOB = UserId("ann"), UserId("bob")
TABS = [(user, tab) for user in (ANN, BOB) for tab in range(3)]


def durable(number: int = 0, *, size: int = 0) -> DurableEvent:
    return RunStarted(
        run=RunId(f"r{number}"),
        conversation=ConversationId("c"),
        message=MessageId("m"),
        model="a model" + "." * size,
    )


async def next_frame(outbox: Outbox) -> dict[str, object]:
    frame: dict[str, object] = msgspec.json.decode((await outbox.take()).payload)
    outbox.written()
    return frame


class Tab:
    """One connection after the other of a client that comes back."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.stack = AsyncExitStack()
        self.resume: ResumePoint | None = None
        self.expected: list[tuple[str, object]] = []

    async def come(self, fanout: Fanout, user: UserId) -> Joined:
        self.outbox = Outbox()
        joined = await self.stack.enter_async_context(fanout.joined(user, self.outbox, self.resume))
        missed = [msgspec.json.decode(frame.payload)["seq"] for frame in joined.missed]
        if joined.resumed:
            assert self.resume is not None
            assert missed == list(range(self.resume.seq + 1, joined.seq + 1))
        else:
            assert not missed
        self.resume = ResumePoint(joined.epoch, joined.seq)
        return joined

    async def leave(self) -> None:
        await self.stack.aclose()
        for kind, what in self.expected:
            frame = await next_frame(self.outbox)
            assert (frame["type"], frame.get("seq", frame.get("re"))) == (kind, what)
            if kind == "run.started":
                assert self.resume is not None
                assert what == self.resume.seq + 1
                self.resume = ResumePoint(self.resume.epoch, self.resume.seq + 1)
        self.expected.clear()
        await self.outbox.drained()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["come or go", "publish", "publish live"]), st.sampled_from(TABS)
        ),
        max_size=60,
    )
)
async def test_whoever_comes_back_gets_all_that_was_missed_in_the_one_order_of_all(
    steps: list[tuple[str, tuple[UserId, int]]],
) -> None:
    fanout, tabs = Fanout(), {who: Tab() for who in TABS}
    here: set[tuple[UserId, int]] = set()
    published: dict[UserId, int] = {ANN: 0, BOB: 0}
    was_here: set[UserId] = set()
    for number, (what, who) in enumerate(steps):
        user = who[0]
        listening = [tabs[one] for one in here if one[0] == user]
        if what == "come or go" and who in here:
            here.remove(who)
            await tabs[who].leave()
        elif what == "come or go":
            before = tabs[who].resume
            joined = await tabs[who].come(fanout, user)
            assert joined.resumed == (before is not None)
            assert joined.seq == published[user]
            here.add(who)
            was_here.add(user)
        elif what == "publish":
            fanout.publish(user, durable(number))
            if user in was_here:
                published[user] += 1
            for tab in listening:
                tab.expected.append(("run.started", published[user]))
        else:
            fanout.publish_live(user, Ok(re=str(number)))
            for tab in listening:
                tab.expected.append(("ok", str(number)))
        assert fanout.users == len({one[0] for one in here})
    for who in here:
        await tabs[who].leave()
    assert fanout.users == 0


async def test_a_place_in_another_numbering_or_ahead_of_this_one_resumes_nothing() -> None:
    fanout = Fanout()
    async with fanout.joined(ANN, Outbox()) as first:
        fanout.publish(ANN, durable())
    for point in (ResumePoint("other", 0), ResumePoint(first.epoch, 2)):
        async with fanout.joined(ANN, Outbox(), point) as again:
            assert not again.resumed
            assert not again.missed
            assert (again.epoch, again.seq) == (first.epoch, 1)


async def test_who_stays_away_for_too_long_begins_anew() -> None:
    now = 0.0
    fanout = Fanout(clock=lambda: now)
    async with fanout.joined(ANN, Outbox()) as first:
        pass
    now = KEEP_S - 1
    fanout.sweep()
    fanout.publish(ANN, durable())
    async with fanout.joined(ANN, Outbox(), ResumePoint(first.epoch, 0)) as soon:
        assert soon.resumed
        assert len(soon.missed) == 1
    now += KEEP_S
    fanout.sweep()
    async with fanout.joined(ANN, Outbox(), ResumePoint(first.epoch, 1)) as late:
        assert not late.resumed
        assert late.epoch != first.epoch


async def test_what_is_kept_for_those_who_are_away_is_bounded_the_longest_away_first() -> None:
    fanout = Fanout()
    size = 60_000
    most = LEFT_BYTES // size
    joined: dict[UserId, Joined] = {}
    for number in range(most + 40):
        user = UserId(f"u{number}")
        async with fanout.joined(user, Outbox()) as joined[user]:
            fanout.publish(user, durable(size=size))
    fanout.sweep()
    first, last = UserId("u0"), UserId(f"u{most + 39}")
    async with fanout.joined(first, Outbox(), ResumePoint(joined[first].epoch, 0)) as again:
        assert not again.resumed
    async with fanout.joined(last, Outbox(), ResumePoint(joined[last].epoch, 0)) as again:
        assert again.resumed


async def test_a_slow_tab_holds_up_no_other() -> None:
    fanout, slow, quick = Fanout(), Outbox(10), Outbox()
    async with fanout.joined(ANN, slow), fanout.joined(ANN, quick):
        fanout.publish(ANN, durable())
        fanout.publish(ANN, durable())
        reason = await slow.closed()
        assert reason is not None
        assert reason.code == "slow_client"
        for seq in (1, 2):
            assert (await next_frame(quick))["seq"] == seq


async def test_all_connections_of_a_user_are_closed_nobody_elses_and_nothing_is_kept() -> None:
    fanout, one, two, other = Fanout(), Outbox(), Outbox(), Outbox()
    reason = ChatError("not_authenticated", "over")
    async with (
        fanout.joined(ANN, one) as joined,
        fanout.joined(ANN, two),
        fanout.joined(BOB, other),
    ):
        fanout.publish(ANN, durable())
        fanout.close_user(ANN, reason)
        assert await one.closed() is reason
        assert await two.closed() is reason
        fanout.publish(BOB, durable())
        assert (await next_frame(other))["seq"] == 1
    fanout.close_user(ANN, reason)
    async with fanout.joined(ANN, Outbox(), ResumePoint(joined.epoch, 0)) as again:
        assert not again.resumed
