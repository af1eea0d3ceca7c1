"""The keeper of the private Chroma: starts it on sound files only, and mends them.

Before each start the folder is inspected; what is damaged is set aside and healed while Chroma
serves. What goes wrong later is noticed by the clients' errors, by a probe, and by how Chroma
ends; it is stopped then, inspected and started again. Others who need its files for themselves
use :meth:`ChromaKeeper.held`.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import anyio
import anyio.to_thread
import msgspec
import structlog

from memory.child_process import ChildProcess
from memory.chroma_client import ChromaClient, Damage
from memory.chroma_process import ChromaProcess
from memory.embedding import Embedder
from memory.errors import ChildFailed, UpkeepRefused
from memory.free_space import FreeSpace
from memory.store_gate import StoreGate
from memory.upkeep.embedding_change import EmbeddingFacts
from memory.upkeep.healing import REST_SHARE, Healing, HealingTools
from memory.upkeep.inspection import Inspection, Inspector
from memory.upkeep.probing import Probe
from memory.upkeep.rebuilds import Rebuilds
from memory.upkeep.schema_guard import QUICK_CHECK_S
from memory.upkeep.suspicions import Suspicions, Verdict
from memory.upkeep.synced_files import write_synced
from memory.upkeep.vector_segments import DATABASE

log = structlog.get_logger(__name__)

IN_USE: Final = "chroma-in-use"
"""Stands in the data folder from before Chroma starts until it has ended in order; holds
:func:`this_boot`: what a kill leaves in files differs from what the machine's end leaves."""
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
START_S: Final = 60.0
PROBE_EVERY_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5
ASKED_WITHIN_S: Final = 10.0
"""Who asked so shortly before Chroma crashed may have made it crash."""
CRASHES: Final = frozenset(-int(it) for it in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT))


class HealingProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far healing is, over all ``collections`` that are being healed."""

    collections: int
    done: int
    total: int


class ChromaKeeper:
    """Owns the private Chroma of *data_dir*; needs :meth:`run`, and its ``child`` to be run.

    Clients of it share its ``gate``, ask its ``space`` before they write and tell :meth:`suspect`
    what they see. *on_restart* is the child's. *on_healing* is told, as collections begin and end
    to be healed, how many have begun just now. *rest_share*: of the time it works, healing rests
    so much. *gate*: one that other processes' clients obey as well.
    """

    def __init__(
        self,
        data_dir: Path,
        embedder: Embedder,
        *,
        on_restart: Callable[[str], None] = lambda _name: None,
        on_healing: Callable[[int], None] = lambda _begun: None,
        rest_share: float = REST_SHARE,
        gate: StoreGate | None = None,
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._embedding = EmbeddingFacts(embedder.fingerprint, embedder.dimension)
        self.gate = gate or StoreGate()
        self.space = FreeSpace(self._data_dir)
        self._process = ChromaProcess(data_dir, before_start=self._inspect)
        self.child = ChildProcess(self._process, on_restart=on_restart, on_exit=self._child_ended)
        self._rebuilds = Rebuilds(self._data_dir)
        self._inspector = Inspector(self._process.folder, self._rebuilds)
        self._suspicions = Suspicions()
        self._suspected = anyio.Event()
        self._to_heal = anyio.Event()
        self._started = False
        self._starting = anyio.Event()
        self._on_healing = on_healing
        self._on_healed: list[Callable[[str], None]] = []
        self._client = ChromaClient(
            self.address, timeout_s=10.0, gate=self.gate, on_damage=self.suspect
        )
        self._tools = HealingTools(
            database=self._process.folder / DATABASE,
            client=self._client,
            gate=self.gate,
            embedder=embedder,
            rebuilds=self._rebuilds,
            rest_share=rest_share,
        )

    def address(self) -> str:
        """Where Chroma serves; may change when it is started again."""
        return self._process.url

    @property
    def folder(self) -> Path:
        """Where Chroma keeps its data."""
        return self._process.folder

    def on_healed(self, call: Callable[[str], None]) -> None:
        """*call* with the name of each collection that has all its vectors again."""
        self._on_healed.append(call)

    def healing(self, name: str) -> bool:
        """Whether vectors of the collection *name* may be missing."""
        segments = self._inspector.segments
        return any(
            rebuild.collection in segments and segments[rebuild.collection].name == name
            for rebuild in self._rebuilds
        )

    def incomplete(self) -> list[str]:
        """The names of all collections of which :meth:`healing` is true."""
        segments = self._inspector.segments
        return [segments[it.collection].name for it in self._rebuilds if it.collection in segments]

    def progress(self) -> HealingProgress | None:
        """How far healing is; ``None`` when there is nothing to heal."""
        rebuilds = list(self._rebuilds)
        if not rebuilds:
            return None
        return HealingProgress(
            collections=len(rebuilds),
            done=sum(rebuild.done for rebuild in rebuilds),
            total=sum(rebuild.total for rebuild in rebuilds),
        )

    def remaining(self) -> int:
        """The records that are still to be healed."""
        return sum(rebuild.remaining for rebuild in self._rebuilds)

    def suspect(self, collection: str, damage: Damage) -> None:
        """A request about *collection*, by its id, failed in the way of a damaged index, or of a
        Chroma that only a restart helps.
        """
        if damage == "possible" and self._rebuilds.get(collection) is not None:
            return  # vectors are missing for a while
        self._suspicions.report(collection, damage)
        if self._suspicions.pressing:
            self._suspected.set()

    @asynccontextmanager
    async def held(self, reason: str) -> AsyncIterator[None]:
        """Within the block Chroma is stopped and its files are the block's; it serves again when
        this returns. Requests and new batches wait meanwhile. One at a time, others wait.

        Raises:
            ChildFailed: Chroma does not serve afterwards.
        """
        begun = anyio.current_time()
        async with self.gate.closed():
            async with self.child.stopped():
                log.info("chroma.held", reason=reason)
                yield
            await self.child.wait_ready(START_S)
        took_ms = round((anyio.current_time() - begun) * 1000)
        log.info("chroma.let_go", reason=reason, took_ms=took_ms)

    async def run(self) -> None:
        """Look after Chroma, until cancelled, while its ``child`` runs."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._attend)
            tasks.start_soon(self._heal)
            tasks.start_soon(self._probe_again_and_again)

    async def aclose(self) -> None:
        """Close the connections; to be called once :meth:`run` has ended."""
        await self._client.aclose()

    async def _inspect(self) -> None:
        """What is done before each start."""
        verdict = self._suspicions.verdict()
        try:
            found = await anyio.to_thread.run_sync(
                self._inspector.inspect, self._inspection(verdict)
            )
            await anyio.to_thread.run_sync(self._mark_in_use)
        except UpkeepRefused as error:
            raise ChildFailed(str(error)) from error
        except OSError as error:
            raise ChildFailed(f"{self._data_dir} cannot be used: {error.strerror}") from error
        self._suspicions.settle(verdict)
        self._started = True
        self._starting.set()
        if len(self._rebuilds):
            self._on_healing(len(found))
            self._to_heal.set()

    def _inspection(self, verdict: Verdict) -> Inspection:
        marker = self._data_dir / IN_USE
        used_in = marker.read_text() if marker.exists() else None
        return Inspection(
            embedding=self._embedding,
            deep=verdict.deep or used_in not in {None, this_boot()},
            suspects=verdict.suspects,
            condemned=verdict.condemned,
            killed=used_in is not None,
            pages_within_s=0 if self._started else QUICK_CHECK_S,
        )

    def _mark_in_use(self) -> None:
        write_synced(self._data_dir / IN_USE, this_boot().encode())

    def _child_ended(self, status: int) -> None:
        if status == 0:
            (self._data_dir / IN_USE).unlink(missing_ok=True)
        elif status in CRASHES:
            asked = self.gate.asked_within(ASKED_WITHIN_S)
            self._suspicions.crashed(asked or self._inspector.segments.keys())

    async def _attend(self) -> None:
        """Stop Chroma and have it inspected whenever something is suspected."""
        while True:
            await self._suspected.wait()
            self._suspected = anyio.Event()
            if self._suspicions.pressing:
                reason = self._suspicions.reason
                log.warning("chroma.suspected", reason=reason)
                try:
                    async with self.held(reason):
                        pass  # the inspection before the next start does it
                except ChildFailed as error:
                    log.warning("chroma.not_back", reason=str(error))

    async def _heal(self) -> None:
        """Heal whatever is to be healed, one collection after the other."""
        while True:
            await self._to_heal.wait()
            self._to_heal = anyio.Event()
            if await self._serves():
                await self._heal_all()
            else:
                self._to_heal.set()

    async def _heal_all(self) -> None:
        while rebuild := next(iter(self._rebuilds), None):
            segment = self._inspector.segments.get(rebuild.collection)
            if segment is None:  # dropped meanwhile
                self._rebuilds.end({rebuild.collection})
            elif await Healing(self._tools, rebuild, segment).run():
                self._on_healing(0)
                for call in self._on_healed:
                    call(segment.name)

    async def _serves(self) -> bool:
        """Whether Chroma serves, once that is known; not soon, if it does not."""
        try:
            await self.child.wait_ready(START_S)
        except ChildFailed:
            await anyio.sleep(LOOK_EVERY_S)
            return False
        return True

    async def _probe_again_and_again(self) -> None:
        """Ask each collection for something small, soon after each start and every minute."""
        probe = Probe(self._tools.database, self._client, healing=self.healing)
        while True:
            self._starting = anyio.Event()
            if not await self._serves():
                continue
            await probe.ask(self._inspector.segments.values())
            with anyio.move_on_after(PROBE_EVERY_S):
                await self._starting.wait()


def this_boot() -> str:
    """Names the time since the machine was started; another one where nobody can tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return uuid4().hex
