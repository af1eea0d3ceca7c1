"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource
from typing import Final

import structlog

log = structlog.get_logger(__name__)

BESIDE_CONNECTIONS: Final = 256
"""Files, children and the sockets to them and to the language model."""


def raise_file_limit(max_connections: int) -> int:
    """Raise the soft limit to the hard one; what there is then.

    Where *max_connections* do not fit, that is logged: the ones beyond are refused by the system,
    and not in words.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as fault:  # macOS refuses more than the kernel's own limit
            log.info("server.file_limit_kept", files=soft, reason=str(fault))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < max_connections + BESIDE_CONNECTIONS:
        log.warning(
            "server.few_files",
            files=soft,
            max_connections=max_connections,
            hint="raise the limit of open files (ulimit -n), or lower server.max_connections",
        )
    return soft
