from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from memory.upkeep.index_files import Header, IndexFault
from memory.upkeep.index_links import check_level0_links, check_upper_links

LEVEL = struct.Struct("<17I")


def header(elements: int, *, top_level: int, entry: int) -> Header:
    return Header(1, 0, 100, elements, 172, 164, 132, top_level, entry, 16, 32, 16, 0.36, 100)


def level(*neighbours: int) -> bytes:
    return LEVEL.pack(len(neighbours), *neighbours, *[0] * (16 - len(neighbours)))


def blocks(*levels: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", 68 * len(each)) + b"".join(each) for each in levels)


def check(folder: Path, content: bytes, given: Header) -> None:
    (folder / "link_lists.bin").write_bytes(content)
    check_upper_links(folder, given)


SOUND = blocks([], [level(3), level()], [], [level(1)], [])
"""Five elements; the second stands on two levels more, the fourth on one."""
OF_SOUND = header(5, top_level=2, entry=1)


def test_links_that_lead_to_elements_are_sound(tmp_path: Path) -> None:
    check(tmp_path, SOUND, OF_SOUND)
    check(tmp_path, b"", header(0, top_level=-1, entry=0))
    check(tmp_path, blocks([], []), header(2, top_level=0, entry=0))


@pytest.mark.parametrize("size", range(0, len(SOUND), 3))
def test_links_that_are_cut_off_are_found(tmp_path: Path, size: int) -> None:
    with pytest.raises(IndexFault):
        check(tmp_path, SOUND[:size], OF_SOUND)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * len(SOUND),
        b"\0" * 20,
        SOUND + b"\0\0\0\0",
        blocks([], [level(5), level()], [], [level(1)], []),
        blocks([], [level(3)], [], [level(1)], []),
        blocks([], [level(3), level(), level()], [], [level(1)], []),
        SOUND[:4] + struct.pack("<I", 70) + SOUND[8:],
    ],
)
def test_links_that_are_not_those_of_the_index_are_found(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(IndexFault):
        check(tmp_path, content, OF_SOUND)


def test_links_on_the_lowest_level_are_looked_at_as_far_as_they_count() -> None:
    links = np.zeros((2, 33), dtype=np.uint32)
    links[0, :3] = 2, 1, 0
    links[1, :2] = 0x1_0001, 0  # marked as deleted
    links[1, 5] = 99  # behind the last
    check_level0_links(links, 2)
    for place, value in ((2, 2), (0, 33)):
        wrong = links.copy()
        wrong[0, place] = value
        with pytest.raises(IndexFault, match="do not exist"):
            check_level0_links(wrong, 2)
