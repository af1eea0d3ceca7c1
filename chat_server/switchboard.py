"""What is said goes to the process that sees to its conversation: this one, or another."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, assert_never

import anyio
import msgspec
import structlog

from chat_server.authentication import Identity
from chat_server.courier import Courier
from chat_server.errors import ChatError, told_of_reading
from chat_server.events import Accepted, Error, Ok, RunDelta, RunDone, RunMemories
from chat_server.letters import Asked, Rearranged
from chat_server.node import Neighbours
from chat_server.preparation import Drafted
from chat_server.protocol import Attach, Edit, Regenerate, Send, Stop
from chat_server.runs import Runs
from chat_server.seen_ids import SeenIds
from chat_server.turn import Answer, Turns
from memory.dual_memory import DualMemory
from memory.errors import MemoryFault, ShortTermUnavailable
from memory.live.broker import Claim, LiveRun, NodeId
from memory.messages import ConversationId, MessageId, UserId, conversation_id, is_reply_id

log = structlog.get_logger(__name__)

FORWARD_WITHIN_S: Final = 12.0
"""Longer than a turn waits for the store: past it, nobody knows whether the message is stored."""
COMMAND_WITHIN_S: Final = 2.0
RELEASE_EVERY_S: Final = 1.0
CLAIM_AGAIN_S: Final = 0.1
CLAIM_TRIES: Final = 40
"""Longer than it takes to know that the broker is away."""

Said = Send | Edit | Regenerate
Passed = Said | Stop | Attach

Key = tuple[UserId, ConversationId]

_answers: Final = msgspec.json.Decoder(Accepted | Ok | Error | RunDelta | RunMemories | RunDone)


class Switchboard:
    """Takes what users say and passes it on where it belongs.

    Whatever is said in a conversation while something goes on in it goes through one process, which
    holds its lane: so each message finds the one before it, wherever it came in. With *neighbours*
    that process is found by a claim in the broker. While that is away each process acts alone, and
    a conversation in which two of them write at once may fork; nothing is lost by it.
    """

    def __init__(
        self,
        turns: Turns,
        runs: Runs,
        memory: DualMemory,
        neighbours: Neighbours | None = None,
        *,
        is_busy: Callable[[UserId, ConversationId], bool] = lambda _user, _conversation: False,
    ) -> None:
        self._turns = turns
        self._runs = runs
        self._memory = memory
        self._neighbours = neighbours
        self._is_busy = is_busy
        self._seen = SeenIds()
        self._claimed: set[Key] = set()
        self._taking: Counter[Key] = Counter()

    async def take(
        self,
        said: Said,
        identity: Identity,
        answer: Answer,
        drafted: Drafted | None = None,
        *,
        passed_on: bool = False,
    ) -> None:
        """As :meth:`chat_server.turn.Turns.take`, wherever the conversation is seen to; what was
        *passed_on* is not passed back.

        Raises:
            ChatError: the message was not accepted; the code says whether it may be stored.
        """
        repeated = self._seen.note(identity.user, said.id)
        conversation = None
        if self._neighbours is not None:
            conversation = await self._conversation(said, identity.user)
            unknown = conversation is None and not passed_on
            if unknown and await self._taken_elsewhere(said, identity, answer):
                return
        if self._neighbours is None or conversation is None:
            await self._take_here(said, identity, answer, drafted, repeated=repeated)
            return
        key = (identity.user, conversation)
        with self._in_hand(key):
            claim = await self._claim(key, said.id, self._neighbours)
            if claim is not None and claim.holder != self._neighbours.node.id:
                await self._forward(claim.holder, said, identity, answer)
                return
            repeated = repeated or (claim is not None and claim.repeated)
            await self._take_here(said, identity, answer, drafted, repeated=repeated)

    @asynccontextmanager
    async def holder(
        self, user: UserId, conversation: ConversationId
    ) -> AsyncIterator[tuple[NodeId, Courier] | None]:
        """Which other process sees to a conversation; ``None``: this one, in the context."""
        neighbours, key = self._neighbours, (user, conversation)
        with self._in_hand(key):
            claim = await self._claim(key, None, neighbours) if neighbours else None
            if neighbours is None or claim is None or claim.holder == neighbours.node.id:
                yield None
            else:
                yield claim.holder, neighbours.courier

    @contextmanager
    def _in_hand(self, key: Key) -> Iterator[None]:
        """Keep a claim while the context lasts: the lane is about to be used."""
        self._taking[key] += 1
        try:
            yield
        finally:
            self._taking[key] -= 1
            if not self._taking[key]:
                del self._taking[key]

    async def _take_here(
        self,
        said: Said,
        identity: Identity,
        answer: Answer,
        drafted: Drafted | None,
        *,
        repeated: bool,
    ) -> None:
        if repeated and isinstance(said, Send):
            said = msgspec.structs.replace(said, retry=True)
        await self._turns.take(said, identity, answer, drafted)

    async def _claim(self, key: Key, client_id: str | None, neighbours: Neighbours) -> Claim | None:
        """Who sees to the conversation, and whether the message came before, to whichever process;
        ``None``: nobody can say.
        """
        node = neighbours.node
        for _ in range(CLAIM_TRIES):
            await node.assure()
            if node.is_blind:  # a claim would take the lane from whoever has it
                log.warning("lane.not_claimed", effect="this process acts alone")
                return None
            try:
                claim = await neighbours.broker.claim(*key, client_id=client_id, alive=node.others)
            except ShortTermUnavailable:
                # A busy moment is no reason to act alone: what another says meanwhile would stand
                # beside it. Beats tell when the broker is away.
                await anyio.sleep(CLAIM_AGAIN_S)
                continue
            if claim.holder == node.id:
                self._claimed.add(key)
            return claim
        return None

    async def release_unused(self) -> None:
        """Let go of the conversations in which nothing goes on any more, now and then; until
        cancelled.
        """
        while self._neighbours is not None:
            await anyio.sleep(RELEASE_EVERY_S)
            for key in [key for key in self._claimed if not self._is_in_use(key)]:
                try:
                    await self._neighbours.broker.release(*key)
                except ShortTermUnavailable:
                    break
                if not self._is_in_use(key):
                    self._claimed.discard(key)

    def _is_in_use(self, key: Key) -> bool:
        return key in self._taking or self._runs.is_in_use(*key) or self._is_busy(*key)

    async def _conversation(self, said: Said, user: UserId) -> ConversationId | None:
        match said:
            case Send():
                return ConversationId(said.conversation or conversation_id(user, said.id))
            case Edit() | Regenerate():
                return await self._conversation_of(user, said.message)
            case _:
                assert_never(said)

    async def _conversation_of(self, user: UserId, message: str) -> ConversationId | None:
        run = self._runs.find(user, message)
        if run is not None:
            return run.question.conversation
        try:
            found = await self._memory.long_term.by_ids(user, [MessageId(message)])
        except MemoryFault as fault:
            raise told_of_reading(fault) from fault
        if found:
            return found[0].conversation
        live = await self.elsewhere(user) or ()
        return next((it.facts.conversation for it in live if it.facts.run == message), None)

    @property
    def others(self) -> frozenset[NodeId]:
        """The other processes."""
        return self._neighbours.node.others if self._neighbours is not None else frozenset()

    async def elsewhere(self, user: UserId) -> list[LiveRun] | None:
        """The replies to *user* that other processes make, or made until they died just now, each
        as far as its last checkpoint; ``None``: the broker is away, and nobody can say.
        """
        if self._neighbours is None:
            return []
        try:
            live = await self._neighbours.broker.runs(user)
        except ShortTermUnavailable:
            return None
        return [run for run in live if run.facts.node != self._neighbours.node.id]

    def tell_rearranged(
        self, user: UserId, conversation: ConversationId, *, gone: bool = False
    ) -> None:
        """Let the other processes know that this one chose another branch of a conversation, or
        that it is *gone*.
        """
        if self._neighbours is not None:
            change = Rearranged(user=user, conversation=conversation, gone=gone)
            self._neighbours.courier.post(None, change)

    async def pass_on(
        self, holder: NodeId, command: Stop | Attach, identity: Identity, answer: Answer
    ) -> None:
        """Have *holder* carry out what is asked of a run of its own.

        Raises:
            ChatError: what it says; ``not_ready``, when it says nothing.
        """
        try:
            await self._ask(holder, command, identity, answer, within_s=COMMAND_WITHIN_S)
        except TimeoutError as late:
            raise ChatError(
                "not_ready", "the reply's process does not answer", retry_after_ms=500
            ) from late

    async def _taken_elsewhere(self, said: Said, identity: Identity, answer: Answer) -> bool:
        """Whether another process has another reply made beside one that it has begun just now."""
        begun = isinstance(said, Regenerate) and is_reply_id(said.message)
        for node in self.others if begun else ():
            try:
                await self._forward(node, said, identity, answer)
            except ChatError as error:
                if error.code != "unknown_message":
                    raise
            else:
                return True
        return False

    async def _forward(
        self, holder: NodeId, said: Said, identity: Identity, answer: Answer
    ) -> None:
        try:
            await self._ask(holder, said, identity, answer, within_s=FORWARD_WITHIN_S)
        except TimeoutError as late:
            raise ChatError(
                "store_unknown",
                "it is not known whether the message was stored; send again with the same id",
                retry_after_ms=500,
            ) from late

    async def _ask(
        self,
        holder: NodeId,
        command: Passed,
        identity: Identity,
        answer: Answer,
        *,
        within_s: float,
    ) -> None:
        if self._neighbours is None:
            raise TimeoutError
        courier = self._neighbours.courier
        asked = Asked(
            number=courier.next_number(),
            user=identity.user,
            name=identity.name,
            expires_at=identity.expires_at,
            frame=msgspec.json.encode(command),
        )
        await courier.ask(
            holder, asked, lambda payload: answer(_answers.decode(payload)), within_s=within_s
        )
