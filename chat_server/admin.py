"""What operators read: ``/admin/metrics`` and ``/metrics``."""

from __future__ import annotations

from ipaddress import ip_address

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.authentication import bearer_token
from chat_server.errors import ChatError
from chat_server.http_routes import json_response, state_of
from memory.errors import MemoryFault
from memory.short_term import ShortTermUsage

log = structlog.get_logger(__name__)


def require_admin(request: Request) -> None:
    """Refuse who does not carry the admin token.

    Raises:
        ChatError: ``not_authenticated``.
    """
    if not state_of(request)["admin"].admits(bearer_token(request.headers.get("authorization"))):
        raise ChatError(
            "not_authenticated", "admin routes need `Authorization: Bearer <admin token>`"
        )


def is_local(request: Request) -> bool:
    """Whether the request was made on this machine, not passed on by a proxy on it."""
    if request.client is None or "x-forwarded-for" in request.headers:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def admin_metrics(request: Request) -> Response:
    """Figures for people and dashboards, as JSON."""
    require_admin(request)
    state = state_of(request)
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
    body = state["metrics"].snapshot(
        redis=redis,
        chroma=chroma,
        connections=len(state["connections"]),
        connected_users=state["fanout"].users,
        runs=len(state["runs"]),
    )
    return json_response({**body, "readiness": state["readiness"].report()})


async def prometheus(request: Request) -> Response:
    """Figures for Prometheus; open on the machine itself, with the admin token elsewhere."""
    if not is_local(request):
        require_admin(request)
    body, content_type = state_of(request)["metrics"].render()
    return Response(body, media_type=content_type)


def admin_routes() -> list[Route]:
    """The operators' routes."""
    return [Route("/admin/metrics", admin_metrics), Route("/metrics", prometheus)]
