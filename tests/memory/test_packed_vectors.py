from __future__ import annotations

import numpy as np

from memory.packed_vectors import PackedVectors


def test_cosines_are_those_of_the_whole_vectors_but_for_little() -> None:
    random = np.random.default_rng(7)
    vectors = random.standard_normal((3_000, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    packed = PackedVectors()
    for slot, vector in enumerate(vectors):
        packed.put(slot, vector)
    found = packed.cosines(vectors[1], len(vectors))
    assert np.abs(found - vectors @ vectors[1]).max() < 0.004
    assert packed.row_bytes == 388


def test_no_vector_has_no_cosine_and_a_slot_is_used_again() -> None:
    packed = PackedVectors()
    packed.put(0, np.array([1, 0], np.float32))
    packed.put(1, np.array([0, 0], np.float32))
    asked = np.array([1, 0], np.float32)
    np.testing.assert_allclose(packed.cosines(asked, 2), [1, 0])
    packed.put(0, np.array([0, 1], np.float32))
    packed.put(1, np.array([-1, 0], np.float32))
    np.testing.assert_allclose(packed.cosines(asked, 2), [0, -1])


def test_what_was_dumped_is_restored_in_the_order_asked_for() -> None:
    packed, again = PackedVectors(), PackedVectors()
    for slot in range(3):
        packed.put(slot, np.eye(3, dtype=np.float32)[slot])
    again.restore(*packed.dump(np.array([2, 0], np.int32)))
    np.testing.assert_allclose(again.cosines(np.array([1, 0, 0], np.float32), 2), [0, 1])
    again.put(2, np.array([1, 0, 0], np.float32))
    np.testing.assert_allclose(again.cosines(np.array([1, 0, 0], np.float32), 3), [0, 1, 1])
