from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from memory.messages import Message
from memory.upkeep.index_files import (
    Elements,
    IndexFault,
    read_header,
    read_labels,
    read_lengths,
)
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import EMBEDDER, cut, index_of, removed, zeroed

pytestmark = pytest.mark.chroma


@pytest.fixture
def index(stopped: Stopped) -> Path:
    return index_of(stopped[0])


async def test_what_chroma_wrote_is_read_as_it_was_given(stopped: Stopped) -> None:
    messages: dict[str, Message] = {message.id: message for message in stopped[1]}
    index = index_of(stopped[0])
    header = read_header(index)
    labels = read_labels(index)
    assert labels is not None
    assert header.dimension == 8
    assert header.elements == labels.added == len(labels.labels) >= 20
    elements = Elements(index, header)
    ids = {label: record for record, label in labels.labels.items()}
    texts = [messages[ids[int(label)]].text for label in elements.labels()]
    assert np.allclose(elements.vectors(slice(None)), await EMBEDDER.embed(texts), atol=1e-5)
    assert not elements.deleted().any()
    assert np.allclose(read_lengths(index, header), 1)


def test_some_elements_are_read_by_their_positions(index: Path) -> None:
    elements = Elements(index, read_header(index))
    some = np.array([3, 1], dtype=np.uint64)
    assert list(elements.labels(some)) == [elements.labels()[3], elements.labels()[1]]
    assert np.array_equal(elements.vectors(some)[1], elements.vectors(slice(1, 2))[0])
    assert elements.links(some).shape == (2, 33)


def test_vectors_are_overwritten_in_the_file_and_nothing_else_is(index: Path) -> None:
    header = read_header(index)
    before = Elements(index, header).vectors(slice(None))
    writable = Elements(index, header, writable=True)
    vector = np.arange(8, dtype=np.float32)
    writable.set_vectors(np.array([2, 5], dtype=np.uint64), vector)
    writable.flush()
    after = Elements(index, header)
    assert np.array_equal(after.labels(), writable.labels())
    assert list(np.flatnonzero((after.vectors(slice(None)) != before).any(axis=1))) == [2, 5]
    assert np.array_equal(after.vectors(slice(2, 3))[0], vector)


@pytest.mark.parametrize("damage", [cut("header.bin"), zeroed("header.bin"), removed("header.bin")])
def test_a_header_that_is_none_is_refused(index: Path, damage: object) -> None:
    assert callable(damage)
    damage(index)
    with pytest.raises(IndexFault, match=r"header\.bin"):
        read_header(index)


@pytest.mark.parametrize("name", ["data_level0.bin", "length.bin"])
def test_files_that_are_too_short_for_the_header_are_refused(index: Path, name: str) -> None:
    header = read_header(index)
    cut(name)(index)
    with pytest.raises(IndexFault, match=name):
        Elements(index, header)
        read_lengths(index, header)


class Evil:
    """What a pickle could be made to do."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"\x80\x03",
        pickle.dumps([1]),
        pickle.dumps({"id_to_label": {}, "total_elements_added": "1"}),
        pickle.dumps({"id_to_label": {1: 1}, "total_elements_added": 1}),
        pickle.dumps({"id_to_label": {"a": "b"}, "total_elements_added": 1}),
        pickle.dumps({"id_to_label": Evil(), "total_elements_added": 1}),
    ],
)
def test_a_list_of_ids_that_is_none_is_refused_and_nothing_of_it_is_executed(
    index: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (index / "index_metadata.pickle").write_bytes(content)
    with pytest.raises(IndexFault, match=r"index_metadata\.pickle"):
        read_labels(index)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("share", [number / 40 for number in range(40)])
def test_a_list_of_ids_that_is_cut_anywhere_is_refused(index: Path, share: float) -> None:
    cut("index_metadata.pickle", share)(index)
    with pytest.raises(IndexFault):
        read_labels(index)


def test_an_index_that_was_never_written_has_no_ids(index: Path) -> None:
    (index / "index_metadata.pickle").unlink()
    assert read_labels(index) is None
