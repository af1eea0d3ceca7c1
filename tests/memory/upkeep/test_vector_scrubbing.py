from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memory.records import placeholder
from memory.upkeep.index_files import ELEMENTS, LABELS, Elements, IndexFault, read_header
from memory.upkeep.vector_scrubbing import blank_vectors, remove_orphans
from memory.upkeep.vector_segments import DATABASE, vector_segments
from memory.upkeep.vector_segments import opened as database
from tests.contracts.long_term_world import DIMENSION, line, somebody, vectors_of
from tests.memory.chroma_world import opened, serving

pytestmark = pytest.mark.chroma


@pytest.fixture
async def index(tmp_path: Path) -> Path:
    """The index of a stopped Chroma: 1,000 elements, of which 30 are deleted and 20 redacted."""
    user, other = somebody(), somebody("ben")
    mine, theirs = line(user, 30), line(other, 970)
    async with serving(tmp_path) as (process, _), opened(process.url) as memory:
        for messages in (mine, *(theirs[start : start + 97] for start in range(0, 970, 97))):
            await memory.append_many(messages, vectors_of(messages))
        await memory.forget_user(user)
        await memory.delete(other, [message.id for message in theirs[:20]])
    with database(tmp_path / "chroma" / DATABASE) as connection:
        (segment,) = [it for it in vector_segments(connection) if it.kind == "messages"]
    return tmp_path / "chroma" / segment.id


def vectors(index: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    header = read_header(index)
    return Elements(index, header).vectors(slice(None)).reshape(header.elements, DIMENSION)


async def test_only_the_vectors_of_what_is_gone_or_redacted_are_blanked(index: Path) -> None:
    before = vectors(index)
    assert len(before) >= 900
    with database(index.parent / DATABASE) as connection:
        blanked = blank_vectors(index.parent, connection)
        again = blank_vectors(index.parent, connection)
    after = vectors(index)
    changed = (before != after).any(axis=1)
    assert blanked == changed.sum() == 50
    assert again == 0
    assert (after[changed] == placeholder(DIMENSION)).all()


async def test_what_lies_behind_the_last_element_is_zeroed(index: Path) -> None:
    elements = index / ELEMENTS
    size = elements.stat().st_size
    row = read_header(index).element_bytes
    with elements.open("ab") as file:
        file.write(b"words of somebody".ljust(row, b"!"))
    with database(index.parent / DATABASE) as connection:
        blank_vectors(index.parent, connection)
    assert elements.read_bytes()[size:] == bytes(row)


async def test_a_damaged_index_is_an_error_and_no_silence(index: Path) -> None:
    (index / LABELS).write_bytes(b"\x80\x04nonsense")
    with database(index.parent / DATABASE) as connection, pytest.raises(IndexFault):
        blank_vectors(index.parent, connection)


async def test_folders_that_no_collection_has_are_removed_and_others_stay(index: Path) -> None:
    chroma = index.parent
    orphan = chroma / "8c1f7a52-6f0e-4b7a-9f5e-0c0f6f6f1a11"
    orphan.mkdir()
    (orphan / ELEMENTS).write_bytes(b"words")
    (chroma / "notes").mkdir()
    with database(chroma / DATABASE) as connection:
        assert remove_orphans(chroma, connection) == 1
        assert remove_orphans(chroma, connection) == 0
    assert not orphan.exists()
    assert len(vectors(index))
    assert (chroma / "notes").exists()
