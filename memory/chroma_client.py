"""Chroma's asynchronous client, with a connection of its own and our errors.

Chroma's client keeps one pool of connections for all servers of an event loop, without timeouts
and without checking certificates, and turns what it does not know into a plain ``Exception``.
This is the same client with the one method replaced through which all its requests go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpx
import numpy as np
import orjson
from chromadb.api.async_fastapi import AsyncFastAPI
from chromadb.config import Settings, System
from overrides import override

from memory.errors import IndexDamaged, StoreRefused, StoreUnavailable, StoreUnknown
from memory.store_gate import Kind, StoreGate

Address = str | Callable[[], str]
"""Where Chroma is: a URL, or what tells it at each request (a child may move)."""

API_PATH: Final = "/api/v2"
CONNECT_TIMEOUT_S: Final = 1.0
SILENT_FOR_S: Final = 6.0
"""When for so long reads or writes are sent and none is answered, Chroma is stuck: they wait for a
transaction that nobody will end."""
MAX_CONNECTIONS: Final = 20
"""Chroma serialises writes, and reads take a millisecond or two: more would wait there."""

LARGE_BYTES: Final = 65_536
"""Answers from this size on are read in a thread, so that the event loop does not stand for the
sum of all steps. Reading one holds the interpreter's lock: some 2.5 ms for each MB of vectors."""

UNPROXIED: Final = ("all://127.0.0.1", "all://localhost", "all://[::1]")


Damage = Literal["certain", "possible", "stuck"]
Report = Callable[[str, Damage], None]
"""Is told the id of a collection whose index is, or may be, damaged. A vector that cannot be
found is no more than a sign: it may be missing for the moment between two steps of a write.
``stuck``: not the index, but Chroma itself may need to be started again."""

SIGNS: Final[tuple[tuple[str, Damage], ...]] = (
    ("hnsw segment reader", "certain"),
    ("hnsw segment writer", "certain"),
    ("Error finding id", "possible"),
    ("Error getting embedding", "possible"),
    ("database is locked", "stuck"),
    ("disk I/O error", "stuck"),
    ("database or disk is full", "stuck"),
    ("logs to the metadata segment", "stuck"),
    ("Error purging logs", "stuck"),
)
"""What Chroma 1.5 says when an index does not work, among other words; and once its database
could not be written: a transaction stays open then, and fails all that follow, for ever."""

_COLLECTION: Final = re.compile(r"/collections/([0-9a-f-]{36})/([a-z_]+)$")
_KINDS: Final[dict[str, Kind]] = {
    "add": "write",
    "upsert": "write",
    "update": "change",
    "delete": "change",
}


class CollectionGone(StoreUnavailable):
    """The collection does not exist (any more); nothing was written."""


class ConnectionLost(StoreUnknown):
    """The connection broke under a request; it may have been dead before."""


class ChromaClient(AsyncFastAPI):
    """Speaks to the Chroma at *address*; connects when first used, and anew after a loss.

    Each request ends within *timeout_s*, waiting at the *gate* included. *on_damage* is told of
    each answer that means a damaged index.

    Raises (all methods):
        CollectionGone: the collection of that name or id does not exist.
        StoreRefused: Chroma answered that the request itself is wrong.
        StoreUnavailable: certainly nothing was done.
        IndexDamaged: the collection's index does not work; a write may have been done.
        StoreUnknown: the request was sent, and no answer came that says what became of it.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float,
        gate: StoreGate | None = None,
        on_damage: Report = lambda _collection, _damage: None,
    ) -> None:
        settings = Settings(
            _env_file=None,  # not of whatever folder we stand in
            anonymized_telemetry=False,
            chroma_server_host="localhost",  # required, not used: the address is asked for
            chroma_server_http_port=8000,
        )
        super().__init__(System(settings))
        self._address = address
        self._timeout_s = timeout_s
        self._gate = gate or StoreGate()
        self._on_damage = on_damage
        self._silent_since: dict[Kind, float] = {}
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=30.0),
            headers={"Content-Type": "application/json"},
            mounts=dict.fromkeys(UNPROXIED),  # HTTP_PROXY has no business on loopback
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @override
    async def _make_request(self, method: str, path: str, **kwargs: Any) -> Any:
        content = orjson.dumps(kwargs["json"]) if "json" in kwargs else None
        collection, kind = _subject(path)
        sent = False
        try:
            with anyio.fail_after(self._timeout_s):
                async with self._gate.request(collection, kind):
                    sent = True
                    with self._listening(collection, kind):
                        response = await self._http.request(
                            method,
                            self._url() + quote(path, safe="/"),
                            params=kwargs.get("params"),
                            content=content,
                        )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise StoreUnavailable(f"Chroma cannot be reached: {error!r}") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise StoreUnavailable(f"chroma.url is not the URL of a server: {error}") from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise ConnectionLost(f"the connection to Chroma broke: {error!r}") from error
        except (httpx.HTTPError, TimeoutError) as error:
            if not sent:
                raise StoreUnavailable("Chroma is being looked after; try again") from error
            raise StoreUnknown(f"Chroma did not answer: {error!r}") from error
        if (damage := _damage(response)) is not None:
            self._on_damage(collection, damage)
        _check(response)
        if len(response.content) < LARGE_BYTES:
            return _answer(response.content)
        return await anyio.to_thread.run_sync(_answer, response.content)

    @contextmanager
    def _listening(self, collection: str, kind: Kind) -> Iterator[None]:
        """Notice when nothing of the kind is answered for long; who cancels had no answer."""
        try:
            yield
        except (httpx.TimeoutException, anyio.get_cancelled_exc_class()):
            now = anyio.current_time()
            if now - self._silent_since.setdefault(kind, now) >= SILENT_FOR_S:
                self._on_damage(collection, "stuck")
            raise
        except httpx.HTTPError:  # it has ended, and another one begins
            self._silent_since.clear()
            raise
        else:
            self._silent_since.pop(kind, None)

    def _url(self) -> str:
        url = self._address if isinstance(self._address, str) else self._address()
        if not url:
            raise StoreUnavailable("Chroma is not running")
        return url.rstrip("/") + API_PATH


def _answer(content: bytes) -> Any:
    """What *content* says; the vectors of records in it are an array, float32, (n, dim)."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise StoreUnknown("Chroma's answer is not JSON") from error
    if isinstance(answer, dict) and answer.get("embeddings"):
        try:
            answer["embeddings"] = np.asarray(answer["embeddings"], np.float32)
        except (ValueError, TypeError) as error:
            raise StoreUnknown("Chroma's answer has vectors that are none") from error
    return answer


def _check(response: httpx.Response) -> None:
    """Raise what the status of *response* means; Chroma's own text may name users, so it is
    repeated for faults of the server only.
    """
    status = response.status_code
    if response.is_success:
        return
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        if _damage(response) in {"certain", "possible"}:
            raise IndexDamaged("the index of a collection in Chroma does not work")
        raise StoreUnknown(f"Chroma failed with {status}: {response.text[:200]}")
    if status == httpx.codes.NOT_FOUND:
        raise CollectionGone("Chroma does not have the collection")
    if status in {httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT} or status in {
        httpx.codes.REQUEST_ENTITY_TOO_LARGE,
        httpx.codes.UNPROCESSABLE_ENTITY,
    }:
        raise StoreRefused(f"Chroma refused the request with {status}")
    raise StoreUnavailable(f"Chroma answered {status}: check chroma.url and its access rules")


def _damage(response: httpx.Response) -> Damage | None:
    if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
        return None
    return next((damage for sign, damage in SIGNS if sign in response.text), None)


def _subject(path: str) -> tuple[str, Kind]:
    """The collection that a request is about, if it is about one's records, and what it does."""
    found = _COLLECTION.search(path)
    if found is None:
        return "", "read"
    collection, verb = found.groups()
    return collection, _KINDS.get(verb, "read")
