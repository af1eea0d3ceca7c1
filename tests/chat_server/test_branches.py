"""Whatever is said, edited, asked for anew, stopped and chosen, in whichever order: the tree holds,
nothing is overwritten, and what is shown is what was chosen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ChatError
from memory.conversations import ConversationDirectory
from memory.messages import ConversationId, Message, MessageId
from memory.short_term import ShortTermPolicy, Window
from tests.chat_server.twin_world import TwinWorld, twin_world

TALK = ConversationId("talk")
WINDOW = 6

Step = tuple[str, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "edit", "regenerate", "stop", "choose", "hold", "release", "settle"]
        ),
        st.integers(0, 30),
    ),
    max_size=18,
)


class Talk:
    """One user's one conversation, and what must be shown of it."""

    def __init__(self, world: TwinWorld) -> None:
        self.world = world
        self.known: list[str] = []
        """Messages and replies that a client has heard of."""
        self.runs: list[str] = []
        self.anew: list[str] = []
        """What was asked for anew since something was said or chosen."""
        self.chosen: str | None = None
        self.count = 0

    async def do(self, step: str, number: int) -> None:
        which = self.known[number % len(self.known)] if self.known else "unknown"
        self.count += 1
        self.world.model.pieces = [f"Reply {self.count}", " goes", " on"]
        try:
            await getattr(self, step)(which)
        except ChatError as error:
            assert error.code in {"busy", "unknown_message"}

    async def send(self, _which: str) -> None:
        self.said(await self.world.take(f"Say {self.count}", conversation="talk"))

    async def edit(self, which: str) -> None:
        self.said(await self.world.edit(which, f"Edit {self.count}"))

    async def regenerate(self, which: str) -> None:
        accepted = await self.world.regenerate(which)
        self.anew.append(accepted["run"])
        self.heard(accepted)

    async def stop(self, which: str) -> None:
        run = self.world.desk.runs.find(self.world.user, which)
        if run is not None:
            run.end("stopped")

    async def hold(self, _which: str) -> None:
        self.world.model.gate = self.world.model.gate or anyio.Event()

    def said(self, accepted: dict[str, Any]) -> None:
        self.heard(accepted)
        self.chosen, self.anew = accepted["message"], []

    def heard(self, accepted: dict[str, Any]) -> None:
        assert accepted["duplicate"] is False
        self.known += [accepted["message"], accepted["run"]]
        self.runs.append(accepted["run"])

    async def choose(self, head: str) -> None:
        """As ``PATCH /api/conversations/{id}`` does."""
        memory, user = self.world.desk.memory, self.world.user
        async with self.world.desk.runs.lane(user, TALK) as lane:
            found = await memory.long_term.by_ids(user, [MessageId(head)])
            if not found:
                return
            await memory.conversations.branch(found[0])
            lane.choose((await memory.long_term.latest(user, TALK, limit=1))[-1])
            await memory.drop_windows(user, [TALK])
        self.chosen, self.anew = head, []

    async def release(self, _which: str = "") -> None:
        if self.world.model.gate is not None:
            self.world.model.gate.set()
            self.world.model.gate = None

    async def settle(self, _which: str = "") -> None:
        await self.release()
        with anyio.fail_after(10):
            await self.world.desk.runs.wait_idle()
        for run in self.anew:
            [reply] = await self.world.long_term.by_ids(self.world.user, [MessageId(run)])
            if reply.text:
                self.chosen = run
        self.anew = []

    async def everything(self) -> dict[MessageId, Message]:
        page = await self.world.long_term.tree(self.world.user, TALK)
        found, depth = list(page.messages), page.depth
        while depth is not None:
            page = await self.world.long_term.tree(self.world.user, TALK, depth=depth)
            found += page.messages
            depth = page.depth
        return {message.id: message for message in found}

    async def check(self) -> None:
        stored = await self.everything()
        for message in stored.values():
            if message.parent is None:
                assert (message.depth, message.role) == (0, "user")
            else:
                assert message.depth == stored[message.parent].depth + 1
            if message.reply_to is not None:
                assert on_the_way(stored, message, message.reply_to)
        assert set(self.runs) <= set(stored)
        store, user = self.world.long_term, self.world.user
        line = await store.line(user, TALK, limit=1_000)
        shown = [message.id for message in line.messages]
        assert not any(message.parent == shown[-1] for message in stored.values()), "a leaf"
        assert [message.parent for message in line.messages] == [None, *shown[:-1]]
        assert self.chosen in shown
        for message in line.messages:
            beside = {it.id for it in stored.values() if it.parent == message.parent}
            assert set(line.branches.get(message.id, (message.id,))) == beside
        admission = await self.world.short_term.admit(user, TALK)
        window = await self.world.desk.memory.window(user, TALK, admission.window, active=True)
        assert window == Window(line.messages[-WINDOW:]), "what the next prompt is made of"


def on_the_way(stored: dict[MessageId, Message], message: Message, question: MessageId) -> bool:
    """Whether *question* stands on the way to *message*: a reply stands on the branch of what it
    answers.
    """
    current: MessageId | None = message.parent
    while current is not None and current != question:
        current = stored[current].parent
    return current == question


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
async def test_the_tree_holds_and_what_was_chosen_is_shown(steps: list[Step]) -> None:
    policy = ShortTermPolicy(user_limit=10_000, window_messages=WINDOW)
    async with twin_world(policy) as world:
        talk = Talk(world)
        seen: dict[MessageId, Message] = {}
        for step, number in [("send", 0), *steps, ("settle", 0)]:
            await talk.do(step, number)
            now = await talk.everything()
            assert seen.items() <= now.items(), "nothing is overwritten"
            seen = now
        await talk.check()
        assert len([message for message in seen.values() if message.role == "assistant"]) == len(
            set(talk.runs)
        )
        for prompt in world.model.prompts:
            for before, after in pairwise(prompt.window):
                assert on_the_way(seen, after, before.id), "one branch only"


async def test_what_another_process_chose_is_followed_while_a_reply_is_made_here() -> None:
    async with twin_world() as world:
        there = ConversationDirectory(world.long_term)
        world.desk.memory.conversations.shared = there.shared = True
        first = await world.take("One", conversation="talk")
        await world.done(first["run"])
        edit = await world.edit(first["message"], "Uno")
        await world.done(edit["run"])
        world.model.rest = anyio.Event()
        live = await world.take("Due", conversation="talk")
        anew = await world.regenerate(edit["run"])
        [chosen] = await world.long_term.by_ids(world.user, [MessageId(first["message"])])
        await there.branch(chosen)
        await world.desk.memory.drop_windows(world.user, [TALK])
        second = await world.take("Two", conversation="talk")
        world.model.rest.set()
        for accepted in (live, anew, second):
            await world.done(accepted["run"])
        said = [text for _, text, _ in await world.stored("talk")]
        assert said == ["One", "Well, hello.", "Two", "Well, hello."]
