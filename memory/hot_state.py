"""All that one user's hot memory holds, as plain columns, and the bytes they are kept as."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from memory.errors import WarmCopyUnusable
from memory.lexical import LexicalState
from memory.messages import ConversationId, MessageId
from memory.packed_messages import Columns
from memory.postings import ClosedPostings
from memory.token_marks import PieceBits, PieceIds

MAGIC: Final = b"tandem warm 2\n\0\0"
"""Raise the number whenever the layout, the words or the marks change."""
_SEPARATOR: Final = "\n"


class HotState(NamedTuple):
    """The messages of slots 0 to n - 1, oldest first; the first *kept* stay since they were
    recalled. See ``PackedMessages``, ``PackedVectors``, ``PackedMarks`` and ``LexicalIndex``.
    """

    ids: list[MessageId]
    bodies: list[bytes]
    columns: Columns
    speakers: list[str]
    talks: list[ConversationId]
    rows: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    mark_ids: PieceIds
    mark_bits: PieceBits
    mark_counts: npt.NDArray[np.int32]
    lexical: LexicalState
    kept: int
    unembedded: list[MessageId]
    unmarked: list[MessageId]
    forgotten: list[MessageId]
    complete: bool


class _Array(msgspec.Struct, array_like=True):
    kind: str
    shape: tuple[int, ...]
    data: memoryview


class _Kept(msgspec.Struct):
    """Lists of many short strings are kept joined: they are read in no time that way.

    ``arrays``: the rows, scales, marks, and what of the lexical index are arrays.
    """

    fingerprint: str
    version: int | None
    ids: str
    bodies: memoryview
    body_ends: _Array
    columns: list[_Array]
    speakers: list[str]
    talks: list[ConversationId]
    arrays: list[_Array]
    conversations: list[ConversationId]
    kept: int
    unembedded: list[MessageId]
    unmarked: list[MessageId]
    forgotten: list[MessageId]
    complete: bool


_DECODER: Final = msgspec.msgpack.Decoder(_Kept)


def pack(state: HotState, *, fingerprint: str, version: int | None) -> bytes:
    """*state* as bytes that :func:`unpack` reads, here or in a later process."""
    lexical = state.lexical
    kept = _Kept(
        fingerprint=fingerprint,
        version=version,
        ids=_SEPARATOR.join(state.ids),
        bodies=memoryview(b"".join(state.bodies)),
        body_ends=_array(np.cumsum([len(body) for body in state.bodies], dtype=np.int64)),
        columns=[_array(column) for column in state.columns],
        speakers=state.speakers,
        talks=state.talks,
        arrays=[
            _array(each)
            for each in (
                *(state.rows, state.scales, state.mark_ids, state.mark_bits, state.mark_counts),
                *lexical.postings,
                *(lexical.chains, lexical.lengths),
                *(lexical.previous, lexical.following, lexical.numbers),
            )
        ],
        conversations=lexical.conversations,
        kept=state.kept,
        unembedded=state.unembedded,
        unmarked=state.unmarked,
        forgotten=state.forgotten,
        complete=state.complete,
    )
    payload = msgspec.msgpack.encode(kept)
    return MAGIC + zlib.crc32(payload).to_bytes(4, "little") + payload


def unpack(data: bytes, *, fingerprint: str) -> tuple[HotState, int | None]:
    """What was packed: the state, and the user's version that it had.

    Raises:
        WarmCopyUnusable: it is damaged, of another layout, or of another model.
    """
    start = len(MAGIC) + 4
    payload = memoryview(data)[start:]
    if data[: len(MAGIC)] != MAGIC:
        raise WarmCopyUnusable("another layout")
    if zlib.crc32(payload).to_bytes(4, "little") != data[len(MAGIC) : start]:
        raise WarmCopyUnusable("damaged")
    try:
        kept = _DECODER.decode(payload)
        if kept.fingerprint != fingerprint:
            raise WarmCopyUnusable("another model")
        return _state(kept), kept.version
    except (msgspec.DecodeError, ValueError, TypeError) as fault:
        raise WarmCopyUnusable("not readable") from fault


def _state(kept: _Kept) -> HotState:
    rows, scales, mark_ids, mark_bits, mark_counts, *lexical = map(_numpy, kept.arrays)
    hashes, ends, occurrences, chains, lengths, previous, following, numbers = lexical
    body_ends = _numpy(kept.body_ends).tolist()
    bodies = [bytes(kept.bodies[start:end]) for start, end in pairwise([0, *body_ends])]
    return HotState(
        ids=[MessageId(each) for each in _split(kept.ids)],
        bodies=bodies,
        columns=Columns(*map(_numpy, kept.columns)),
        speakers=kept.speakers,
        talks=kept.talks,
        rows=rows,
        scales=scales,
        mark_ids=mark_ids,
        mark_bits=mark_bits,
        mark_counts=mark_counts,
        lexical=LexicalState(
            postings=ClosedPostings(hashes, ends, occurrences),
            conversations=kept.conversations,
            chains=chains,
            lengths=lengths,
            previous=previous,
            following=following,
            numbers=numbers,
        ),
        kept=kept.kept,
        unembedded=kept.unembedded,
        unmarked=kept.unmarked,
        forgotten=kept.forgotten,
        complete=kept.complete,
    )


def _split(joined: str) -> list[str]:
    return joined.split(_SEPARATOR) if joined else []


def _array(array: npt.NDArray[Any]) -> _Array:
    whole = np.ascontiguousarray(array)
    return _Array(whole.dtype.str, whole.shape, memoryview(whole.tobytes()))


def _numpy(kept: _Array) -> npt.NDArray[Any]:
    """The array, read-only, within the bytes it was read from."""
    return np.frombuffer(kept.data, np.dtype(kept.kind)).reshape(kept.shape)
