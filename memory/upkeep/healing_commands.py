"""``python -m memory check`` and ``heal``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from memory.data_folder import hold
from memory.embedding import Embedder
from memory.errors import MemoryFault, UpkeepRefused
from memory.model_files import NAME
from memory.upkeep.configured import DataDir, configured
from memory.upkeep.embedding_change import EmbeddingFacts, is_of_another
from memory.upkeep.full_check import Checked, check_store
from memory.upkeep.inspection import Inspection, Inspector
from memory.upkeep.keeper import ChromaKeeper, HealingProgress
from memory.upkeep.rebuilds import Rebuilds
from memory.upkeep.restore import finish_restore
from memory.upkeep.terminal import Report, told
from memory.upkeep.vector_segments import DATABASE

INSTEAD: Final = "that server looks after them itself"
START_S: Final = 60.0
LOOK_EVERY_S: Final = 0.1
THREADS: Final = 2


def check_command(data_dir: DataDir = None) -> None:
    """Look at every byte of the store that can be wrong; the server must be stopped.

    SQLite's own integrity check; every message and conversation: its fields, its owner, its
    parent, its collection; every vector and link of every index, and that the index holds exactly
    the records it should. Nothing is changed. The exit code is 0 if all is well, else 1.

    Example: python -m memory check --data-dir /srv/tandem/data
    """
    folder = configured(data_dir=data_dir).files_for("they cannot be checked here", INSTEAD)
    with hold(folder):
        finish_restore(folder)
        with told() as report:
            found = check_store(folder, report)
    for line in _described(found):
        typer.echo(line)
    if not found.sound:
        raise typer.Exit(1)


def heal_command(
    data_dir: DataDir = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The prepared embedding model; by default the one in the data folder.",
            show_default=False,
        ),
    ] = None,
    torch: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model of a server with embedding.backend = torch.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set damaged indexes aside and make their vectors anew; the server must be stopped.

    The server does the same by itself, while it serves; this is for doing it before. Interrupted,
    it goes on where it was, here or in the server.

    Example: python -m memory heal --data-dir /srv/tandem/data
    """
    folder = configured(data_dir=data_dir).files_for("they cannot be healed here", INSTEAD)
    with hold(folder):
        finish_restore(folder)
        with told() as report:
            report("looking at the indexes", 0.0)
            embedder = _embedder(folder, model, torch)
            _set_damaged_aside(folder, embedder)
            healed = anyio.run(_heal, folder, embedder, report)
    typer.echo(
        f"healed: {healed.collections} collections, {healed.total} records"
        if healed.collections
        else "nothing to heal"
    )


def _described(found: Checked) -> list[str]:
    lines = [f"{found.collections} collections, {found.records} records"]
    if found.healing:
        lines.append(
            f"{found.healing} records wait for their vectors: start the server, or run "
            "`python -m memory heal`"
        )
    lines += [f"database: {fault}" for fault in found.database_faults]
    lines += [f"records: {fault}" for fault in found.record_faults]
    lines += [f"indexes: {fault}" for fault in found.index_faults]
    if found.database_faults or found.record_faults:
        lines.append("what to do: restore a backup (python -m memory restore)")
    if found.index_faults:
        lines.append(
            "what to do: start the server, which heals its indexes, or run `python -m memory heal`"
        )
    return lines if len(lines) > 1 else [*lines, "all is well"]


def _embedder(folder: Path, model: Path | None, torch: str | None) -> Embedder:
    if torch is not None:
        from memory.torch_embedder import TorchEmbedder  # noqa: PLC0415  # heavy, and for it alone

        return TorchEmbedder.open(torch, threads=THREADS)
    from memory.onnx_embedder import OnnxEmbedder  # noqa: PLC0415  # 0.2 s for every command

    return OnnxEmbedder.open(model or folder / "models" / NAME, threads=THREADS)


def _set_damaged_aside(folder: Path, embedder: Embedder) -> None:
    """Raises ``UpkeepRefused`` where the vectors are another embedder's: that is the server's
    decision, who is configured with one.
    """
    if not (folder / "chroma" / DATABASE).exists():
        raise UpkeepRefused(f"{folder} holds no store")
    rebuilds = Rebuilds(folder)
    inspector = Inspector(folder / "chroma", rebuilds)
    inspector.inspect(Inspection(deep=True))
    embedding = EmbeddingFacts(embedder.fingerprint, embedder.dimension)
    if any(is_of_another(segment, embedding) for segment in inspector.segments.values()):
        raise UpkeepRefused(
            f"the store's vectors are not of {embedder.name}: name the server's model with "
            "--model or --torch; a server with another model makes them anew by itself"
        )


async def _heal(folder: Path, embedder: Embedder, report: Report) -> HealingProgress:
    """Let a keeper heal what is noted; what there was to do."""
    keeper = ChromaKeeper(folder, embedder, rest_share=0)
    begun = keeper.progress() or HealingProgress(collections=0, done=0, total=0)
    fault: MemoryFault | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.child.run)
        tasks.start_soon(keeper.run)
        try:
            await keeper.child.wait_ready(START_S)
            while progress := keeper.progress():
                left = progress.total - progress.done
                report("making vectors anew", 1 - left / max(begun.total, 1))
                await anyio.sleep(LOOK_EVERY_S)
        except MemoryFault as error:  # told as it is, not as a part of a group
            fault = error
        tasks.cancel_scope.cancel()
    await keeper.aclose()
    if fault is not None:
        raise fault
    return begun
