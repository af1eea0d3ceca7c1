"""The wiring, read from top to bottom; what is kept is opened by :mod:`chat_server.stores`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from chat_server.authentication import AdminGuard, Authenticator
from chat_server.connections import Connections
from chat_server.desk import Desk
from chat_server.errors import ChatError
from chat_server.fanout import Fanout
from chat_server.late_replies import LateReplies
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from chat_server.offline_responder import OfflineResponder
from chat_server.openai_model import OpenAIReplyModel
from chat_server.rate_limit import RateLimiter
from chat_server.readiness import Readiness
from chat_server.reply_model import ReplyModel
from chat_server.runs import Runs
from chat_server.secrets_file import load_or_make, secret_path
from chat_server.settings import ConfigError, Settings
from chat_server.state import State
from chat_server.stores import (
    cancelled_at_end,
    open_embedder,
    open_erasures,
    open_journal,
    open_long_term,
    open_memory,
    open_short_term,
    short_term_policy,
)
from chat_server.supervision import supervise
from chat_server.turn import Turns
from memory.hidden_users import GuardedLongTermMemory
from memory.messages import UserId

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_services(
    settings: Settings, pseudonyms: Pseudonyms | None = None
) -> AsyncIterator[State]:
    """Open everything in the order of need; it is closed in reverse.

    Returns before the children serve: ``/readyz`` and the log say when they do. What goes on at
    the end of the context is cancelled, turns first, stores last. *pseudonyms* are the ones of
    the log, so that figures and log lines of a user can be told to belong together.
    """
    metrics = Metrics(pseudonyms or Pseudonyms())
    async with AsyncExitStack() as stack:
        embedder = open_embedder(settings)
        stack.push_async_callback(embedder.aclose)
        long_term, chroma, keeper = await open_long_term(settings, embedder, metrics, stack)
        short_term, redis = await open_short_term(settings, metrics, stack)
        readiness = Readiness([chroma, redis])
        background = await stack.enter_async_context(cancelled_at_end())
        for part in readiness.parts:
            background.start_soon(supervise, f"watch {part.name}", partial(readiness.watch, part))
        background.start_soon(supervise, "event loop lag", metrics.watch_event_loop)

        guard = GuardedLongTermMemory(long_term)
        memory = await open_memory(settings, guard, short_term, embedder, stack)
        memory.embedding.on_failure = metrics.embedding_failed
        metrics.watch_unembedded(lambda: memory.backfill.left)
        if keeper is not None:
            keeper.on_healed(lambda _collection: memory.hot.forget_all())
        runs, fanout = Runs(), Fanout()
        background.start_soon(supervise, "fanout", fanout.run)
        journal = await open_journal(settings, metrics, stack)
        late = LateReplies(memory, runs, fanout, journal, metrics)
        late.take_over(journal.kept)
        erasures = await open_erasures(settings, memory, guard, journal, keeper, stack)
        erasures.on_begin(partial(sign_out_erased, runs, late, fanout))
        await erasures.resume()
        background.start_soon(supervise, "erasures", erasures.run)
        storing = await stack.enter_async_context(cancelled_at_end())
        storing.start_soon(supervise, "late replies", late.run)
        model, fallback = open_model(settings)
        stack.push_async_callback(model.aclose)
        desk = Desk(
            memory=memory,
            model=model,
            fallback=fallback,
            runs=runs,
            fanout=fanout,
            journal=journal,
            late=late,
            metrics=metrics,
            system_prompt=settings.model.system_prompt,
            context_tokens=settings.recall.context_tokens,
            max_results=settings.recall.max_results,
        )
        limiter = RateLimiter(short_term, short_term_policy(settings))
        turns = Turns(
            desk,
            limiter,
            tasks=await stack.enter_async_context(cancelled_at_end()),
            max_text_bytes=settings.server.max_text_bytes,
        )
        yield State(
            settings=settings,
            model_name=model.name,
            authenticator=open_authenticator(settings),
            admin=open_admin(settings),
            memory=memory,
            limiter=limiter,
            turns=turns,
            runs=runs,
            late=late,
            erasures=erasures,
            fanout=fanout,
            connections=Connections(metrics),
            readiness=readiness,
            metrics=metrics,
        )


def sign_out_erased(runs: Runs, late: LateReplies, fanout: Fanout, user: UserId) -> None:
    """End what goes on for *user*, who is being erased: replies and connections."""
    runs.abandon_user(user)
    late.forget_user(user)
    reason = ChatError("not_authenticated", "all that you said is being erased; you are signed out")
    fanout.close_user(user, reason)


def model_server(settings: Settings) -> tuple[str | None, str | None]:
    """Key and address of the language model's server, each ``None`` where it is not given.

    Raises:
        ConfigError: the address is none; names the variable.
    """
    named = os.environ.get("OPENAI_BASE_URL") or None
    if named is not None and not named.lower().startswith(("http://", "https://")):
        raise ConfigError("OPENAI_BASE_URL: an address begins with http:// or https://")
    return os.environ.get("OPENAI_API_KEY") or None, settings.model.base_url or named


def open_model(settings: Settings) -> tuple[ReplyModel, ReplyModel]:
    """What writes replies, and what answers when that fails."""
    key, base_url = model_server(settings)
    if key is None and base_url is None:
        log.warning(
            "model.not_configured", answer="from memory; set OPENAI_API_KEY or OPENAI_BASE_URL"
        )
        offline = OfflineResponder("not_configured")
        return offline, offline
    model = OpenAIReplyModel.open(settings.model, api_key=key, base_url=base_url)
    return model, OfflineResponder("unreachable")


def open_authenticator(settings: Settings) -> Authenticator:
    """Signs sessions with ``auth.secret``, made at first start where none is given."""
    secret = load_or_make(settings.data_dir, "session-secret", settings.auth.secret)
    return Authenticator(secret, guests=settings.auth.guests)


def open_admin(settings: Settings) -> AdminGuard:
    """Guards the admin routes with ``auth.admin_token``, made likewise; its place is printed."""
    token = load_or_make(settings.data_dir, "admin-token", settings.auth.admin_token)
    if not settings.auth.admin_token.get_secret_value():
        log.info("admin.token_kept", file=str(secret_path(settings.data_dir, "admin-token")))
    return AdminGuard(token)
