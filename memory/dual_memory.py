"""What callers use: long-term and short-term memory, working in tandem."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import anyio
import structlog

from memory.backfill import Backfill
from memory.conversations import ConversationDirectory
from memory.embedding import Embedded, Embedder
from memory.embedding_cache import EmbeddingCache
from memory.embedding_fallback import EmbeddingFallback
from memory.errors import ShortTermUnavailable, StoreError
from memory.forgetting import Forgetting
from memory.hot import HotMemories
from memory.hot_memory import HotMemory
from memory.long_term import LongTermMemory
from memory.messages import Appended, ConversationId, Message, MessageId, UserId, Vector
from memory.recall_cache import RecallCache, Sought
from memory.recalled import Recall
from memory.several_questions import merged, questions_in
from memory.short_term import ShortTermMemory, Window
from memory.token_marks import TokenMarks
from memory.window_trust import WindowTrust

log = structlog.get_logger(__name__)

DROP_EVERY_S = 1.0
DAY_S = 86_400


class DualMemory:
    """Records messages for good, keeps their windows, and recalls them.

    Invariants: short-term memory holds nothing that long-term memory lacks; a missing window
    means "rebuild", never "empty"; recording is idempotent by id; losing short-term memory
    loses nothing and stops nothing. Every method acts for one user and sees only that user's.
    """

    def __init__(
        self,
        long_term: LongTermMemory,
        short_term: ShortTermMemory,
        embedder: Embedder,
        hot: HotMemories,
        *,
        window_messages: int,
    ) -> None:
        self.long_term = long_term
        self.short_term = short_term
        self.conversations = ConversationDirectory(long_term)
        self.hot = hot
        self.embedding = EmbeddingFallback(embedder)
        self._embedded = EmbeddingCache(self.embedding.embedded_many)
        self._recalled = RecallCache()
        self.backfill = Backfill(long_term, self.embedding, hot)
        self.forgetting = Forgetting(long_term, hot, self._count_change)
        self._window_messages = window_messages
        self._trust = WindowTrust()
        self._bulk_embedding = anyio.Lock()

    async def embed(self, text: str) -> Vector:
        """The unit vector of *text*, stored and searched with; never fails.

        Zeros where there is none in time: what is stored with them gets its vector later, and a
        search goes by words.
        """
        return await self.embedding.vector(text)

    async def embed_marked(self, user: UserId, text: str) -> Embedded:
        """The same with the marks of its pieces; kept for a while, for *user* alone.

        Equal texts are embedded once, also at the same time; the questions of a message that asks
        several in the same call.
        """
        return (await self._embedded.get(user, [text, *questions_in(text)]))[0]

    async def record(self, message: Message, vector: Vector) -> Appended:
        """Store *message* for good; recall finds it from then on.

        Raises:
            StoreError: as :meth:`memory.long_term.LongTermMemory.append`.
        """
        return await self.long_term.append(message, vector)

    async def record_many(self, messages: Sequence[Message]) -> list[Appended | StoreError]:
        """Store *messages* of one user in order, for good, giving way to all that is said.

        Neither windows nor recall know of them before :meth:`drop_windows` and
        :meth:`read_again`.

        Raises:
            StoreBusy: as :meth:`memory.long_term.LongTermMemory.append_many`.
        """
        for user in {message.user for message in messages}:
            await self.hot.distrust_warm(user)
        # One at a time, so that a message that is said waits for one text at most.
        async with self._bulk_embedding:
            vectors = await self.embedding.vectors([message.text for message in messages])
        return await self.long_term.append_many(messages, vectors)

    async def drop_windows(self, user: UserId, conversations: Iterable[ConversationId]) -> None:
        """Forget the windows of *conversations*, which others wrote to; never fails."""
        for conversation in conversations:
            await self.keep_window(user, conversation, Window(()), active=False)

    async def read_again(self, last: Message) -> None:
        """Let recall read the user's memories anew at its next use, here and in every other
        process: *last*, one of those stored by :meth:`record_many`, is counted as a commit that
        nobody has seen. Never fails.
        """
        await self._count_change(last)
        self.hot.forget(last.user)

    async def _count_change(self, message: Message) -> int | None:
        """Count as a commit what nobody sees as one, so that every process looks for what is new;
        the user's version, ``None`` where it was not counted. Never fails.
        """
        # What a window ends with is not counted again, and may begin one alone.
        await self.drop_windows(message.user, [message.conversation])
        try:
            return (await self.short_term.append(message, active=False)).version
        except ShortTermUnavailable as fault:
            log.info("recall.not_told", reason=str(fault))
            return None
        finally:
            await self.drop_windows(message.user, [message.conversation])

    async def append_window(
        self, message: Message, vector: Vector, *, active: bool, marks: TokenMarks | None = None
    ) -> None:
        """Add a message that is stored to its window and to recall; never fails.

        When short-term memory does not answer, the window is not trusted until it was rebuilt.
        """
        key = (message.user, message.conversation)
        version: int | None = None
        try:
            outcome = await self.short_term.append(message, active=active)
        except ShortTermUnavailable:
            self._trust.doubt(key)
        else:
            version = outcome.version
            if outcome.result == "appended":
                self._trust.trust(key)
        self.hot.add(message, vector, version, marks)
        if not vector.any():
            self.backfill.note(message)  # it may have been filled in before it was here

    def doubt_window(self, user: UserId, conversation: ConversationId) -> None:
        """Do not trust the window until it was rebuilt: a message may be stored that it lacks."""
        self._trust.doubt((user, conversation))

    async def window(
        self,
        user: UserId,
        conversation: ConversationId,
        cached: Window | None,
        *,
        active: bool,
    ) -> Window:
        """The recent part of the conversation: *cached* if it can be trusted, else rebuilt."""
        if cached is not None and self._trust.trusts((user, conversation)):
            return cached
        return await self.rebuild_window(user, conversation, active=active)

    async def rebuild_window(
        self, user: UserId, conversation: ConversationId, *, active: bool
    ) -> Window:
        """Read the window from long-term memory, and put it back into short-term memory.

        Raises:
            StoreUnavailable: the long-term memory cannot be read.
        """
        messages = await self.long_term.latest(user, conversation, limit=self._window_messages)
        await self.keep_window(user, conversation, Window(tuple(messages)), active=active)
        return Window(tuple(messages))

    async def branch_window(
        self, user: UserId, conversation: ConversationId, parent: Message
    ) -> Window:
        """The window that ends with *parent*, read from long-term memory and kept nowhere."""
        before = await self.long_term.latest(
            user, conversation, limit=self._window_messages - 1, before=parent.id
        )
        return Window((*before, parent))

    async def window_before(self, message: Message) -> Window:
        """The window that leads to *message*, without it, likewise."""
        before = await self.long_term.latest(
            message.user, message.conversation, limit=self._window_messages, before=message.id
        )
        return Window(tuple(before))

    async def keep_window(
        self, user: UserId, conversation: ConversationId, window: Window, *, active: bool
    ) -> None:
        """Make *window* the one in short-term memory; never fails."""
        key = (user, conversation)
        try:
            if window.messages:
                await self.short_term.replace(user, conversation, window.messages, active=active)
            else:
                await self.short_term.drop(user, conversation)
        except ShortTermUnavailable:
            self._trust.doubt(key)
        else:
            self._trust.trust(key)

    async def drop_distrusted(self) -> None:
        """Drop the windows that missed an append, as soon as short-term memory answers again, so
        that no other server takes them for whole; until cancelled.
        """
        while True:
            await anyio.sleep(DROP_EVERY_S)
            for key in self._trust.doubted():
                try:
                    await self.short_term.drop(*key)
                except ShortTermUnavailable:
                    break
                self._trust.dropped(key)

    async def recall(
        self,
        user: UserId,
        text: str,
        embedded: Embedded,
        *,
        limit: int,
        exclude: AbstractSet[MessageId] = frozenset(),
        version: int | None = None,
    ) -> Recall:
        """The *limit* memories of *user* that fit *text* best, without *exclude*.

        *embedded* is what the embedder says of *text*. Where it asks several questions, each is
        searched for as well, and the best of all are returned.

        Raises:
            StoreUnavailable: nothing of the user's is at hand, and it cannot be read.
        """
        questions = questions_in(text)
        parts = await self._embedded.get(user, questions)
        memories = await self.hot.get(user, version)
        found = [
            await self._recalled.search(
                Sought(user, asked, bool(of_it.vector.any()), int(time.time() // DAY_S)),
                memories,
                partial(self._find, user, memories, asked, of_it),
                limit=limit,
                exclude=exclude,
            )
            for asked, of_it in zip((text, *questions), (embedded, *parts), strict=True)
        ]
        return merged(found, limit) if questions else found[0]

    async def _find(
        self, user: UserId, memories: HotMemory, text: str, embedded: Embedded, depth: int
    ) -> Recall:
        return await self.hot.search(
            user,
            memories,
            lambda here: here.search(text, embedded.vector, limit=depth, marks=embedded.marks),
        )

    async def forget_around(self, user: UserId) -> None:
        """Drop all of *user* that is kept beside the long-term memory.

        Raises:
            ShortTermUnavailable: short-term memory may hold something still; again is safe.
        """
        self.hot.forget(user)
        self._embedded.forget(user)
        self._recalled.forget(user)
        self.conversations.forget(user)
        await self.short_term.forget_user(user)

    async def warm(self, user: UserId) -> None:
        """Load *user*'s memories into RAM; a store that cannot be read is tried again later."""
        try:
            await self.hot.get(user, None)
        except StoreError as fault:
            log.info("recall.not_warmed", reason=str(fault))
