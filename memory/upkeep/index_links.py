"""The links of an HNSW index: where they lead to nothing, Chroma reads beyond its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from memory.upkeep.index_files import ELEMENTS, LINKS, Header, IndexFault, Words, read_bytes

COUNT_MASK: Final = 0xFFFF
"""The lower half of a list's first word counts its neighbours, the rest are flags."""


def check_upper_links(folder: Path, header: Header) -> None:
    """See that ``link_lists.bin`` is whole and that its links lead to elements that exist.

    Raises:
        IndexFault: it is not.
    """
    raw = read_bytes(folder / LINKS)
    if len(raw) % 4:
        raise IndexFault(f"{LINKS} is cut off")
    words: Words = np.frombuffer(raw, dtype="<u4")
    blocks, levels_of_entry = _blocks(words, header)
    if levels_of_entry != max(header.top_level, 0):
        raise IndexFault(f"{LINKS} does not hold the way in")
    if blocks:
        columns = np.arange(header.level_bytes // 4)
        links = words[np.array(blocks)[:, None] + columns[None, :]]
        _check(links, header.elements, LINKS)


def check_level0_links(links: Words, elements: int) -> None:
    """See that *links*, one row an element, lead to elements that exist.

    Raises:
        IndexFault: they do not.
    """
    _check(links, elements, ELEMENTS)


def _blocks(words: Words, header: Header) -> tuple[list[int], int]:
    """Where in *words* the links of each level above the lowest begin, and on how many such
    levels the entry stands.
    """
    level_words = header.level_bytes // 4
    filled = np.flatnonzero(words)
    blocks: list[int] = []
    position = element = entry_levels = 0
    while element < header.elements:
        # All elements up to the next word that is not zero stand on the lowest level only.
        after = int(np.searchsorted(filled, position))
        following = int(filled[after]) if after < len(filled) else len(words)
        skipped = min(following - position, header.elements - element)
        position, element = position + skipped, element + skipped
        if element == header.elements:
            break
        if position >= len(words):
            raise IndexFault(f"{LINKS} is cut off")
        levels, rest = divmod(int(words[position]), header.level_bytes)
        end = position + 1 + levels * level_words
        if rest or levels > header.top_level or end > len(words):
            raise IndexFault(f"{LINKS} is cut off, or of another index")
        blocks += range(position + 1, end, level_words)
        if element == header.entry:
            entry_levels = levels
        position, element = end, element + 1
    if position != len(words):
        raise IndexFault(f"{LINKS} is longer than its elements")
    return blocks, entry_levels


def _check(links: Words, elements: int, name: str) -> None:
    room = links.shape[1] - 1
    held = links[:, 0] & COUNT_MASK
    used = np.arange(room, dtype=np.uint32)[None, :] < held[:, None]
    if bool((held > room).any()) or bool(((links[:, 1:] >= elements) & used).any()):
        raise IndexFault(f"{name} links to elements that do not exist")
