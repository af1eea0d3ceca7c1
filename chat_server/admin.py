"""What operators read: ``/admin/metrics`` and ``/metrics``."""

from __future__ import annotations

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.figures import hot_together, merged, rendered, summary, worker_lines
from chat_server.http_routes import is_local, json_response, state_of
from memory.errors import MemoryFault
from memory.short_term import ShortTermUsage

log = structlog.get_logger(__name__)


async def admin_metrics(request: Request) -> Response:
    """Figures of all processes for people and dashboards, as JSON."""
    state = state_of(request)
    state["admin"].check(request.headers)
    memory = state["memory"]
    try:
        redis = await memory.short_term.usage()
    except MemoryFault as fault:
        log.warning("admin.redis_not_read", reason=str(fault))
        redis = ShortTermUsage(0, 0, 0)
    try:
        chroma = await memory.long_term.usage()
    except MemoryFault as fault:
        log.warning("admin.chroma_not_read", reason=str(fault))
        chroma = {}
    figures = await state["workforce"].all()
    facts = summary(
        [each.lately for each in figures],
        connections=sum(each.connections for each in figures),
        active_users=redis.active_users,
        redis_usage={
            "activeUsers": redis.active_users,
            "totalKeys": redis.total_keys,
            "memoryUsed": redis.memory_bytes,
        },
        chroma_usage=chroma,
    )
    beside = {
        "connectedUsers": sum(each.connected_users for each in figures),
        "runningReplies": sum(each.runs for each in figures),
        "hotMemory": hot_together(figures),
        "readiness": state["readiness"].report(reasons=True),
        "workers": worker_lines(figures),
        "answeredBy": state["workforce"].slot,
    }
    return json_response({**msgspec.to_builtins(facts), **beside})


async def prometheus(request: Request) -> Response:
    """Figures of all processes for Prometheus; open on the machine itself, elsewhere with the admin
    token.
    """
    if not is_local(request):
        state_of(request)["admin"].check(request.headers)
    figures = await state_of(request)["workforce"].all()
    body, content_type = rendered(merged([each.families for each in figures]))
    return Response(body, media_type=content_type)


def admin_routes() -> list[Route]:
    """The operators' routes."""
    return [Route("/admin/metrics", admin_metrics), Route("/metrics", prometheus)]
