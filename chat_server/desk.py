"""What a reply is made with, and what was found out before it."""

from __future__ import annotations

from dataclasses import dataclass, field

from chat_server.errors import ChatError
from chat_server.events import Usage
from chat_server.fanout import Fanout
from chat_server.late_replies import LateReplies
from chat_server.metrics import Metrics
from chat_server.preparation import Drafted
from chat_server.reply_model import ReplyModel
from chat_server.runs import Runs
from chat_server.stages import Stages
from memory.dual_memory import DualMemory
from memory.journal import Journal
from memory.messages import MessageId, MessageStatus
from memory.short_term import Window


@dataclass(slots=True)
class Asked:
    """What the turn found out before the reply; ``window`` is what stood before the question.

    ``query`` is what memories are searched with: the question, or what was typed of it when they
    were prepared. Those ``without`` are left out: the reply takes their place, or the question
    does. ``re`` is the id of the command that asked.
    """

    window: Window
    query: Drafted
    version: int | None
    active: bool
    use_memory: bool
    stages: Stages
    re: str | None = None
    without: frozenset[MessageId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every reply is made with."""

    memory: DualMemory
    model: ReplyModel
    fallback: ReplyModel
    runs: Runs
    fanout: Fanout
    journal: Journal
    late: LateReplies
    metrics: Metrics
    system_prompt: str
    context_tokens: int
    max_results: int


@dataclass(slots=True)
class Ending:
    """How a reply ended, as far as it is known; ``model`` is what wrote it."""

    model: str
    status: MessageStatus = "completed"
    error: ChatError | None = None
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None
