from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.embedding import Embedder
from memory.in_process_embedder import InProcessEmbedder


async def test_shared_words_bring_texts_nearer() -> None:
    embedder: Embedder = InProcessEmbedder()
    dog, question, other = await embedder.embed(
        ["My dog is called Bruno", "What is my dog called?", "Rain fell over Lisbon"]
    )
    assert dog @ question > 0.5
    assert abs(float(dog @ other)) < 0.3


async def test_order_and_case_of_words_do_not_matter() -> None:
    first, second = await InProcessEmbedder().embed(
        ["Red apples, green pears", "green Pears red APPLES"]
    )
    np.testing.assert_allclose(first, second)


async def test_two_instances_agree() -> None:
    texts = ["ok", "", "?!", "日本語"]
    np.testing.assert_array_equal(
        await InProcessEmbedder().embed(texts), await InProcessEmbedder().embed(texts)
    )


async def test_no_texts_give_no_rows() -> None:
    assert (await InProcessEmbedder(dimension=8).embed([])).shape == (0, 8)


async def test_dimension_is_part_of_the_fingerprint() -> None:
    assert InProcessEmbedder(8).fingerprint != InProcessEmbedder(9).fingerprint


@given(text=st.text(), dimension=st.integers(1, 64))
def test_every_text_has_a_vector_of_unit_length(text: str, dimension: int) -> None:
    vector = InProcessEmbedder(dimension)._vector(text)
    assert vector.dtype == np.float32
    assert vector.shape == (dimension,)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


async def test_a_word_has_the_same_marks_wherever_it_stands() -> None:
    texts = ["Bruno barks", "Who barks? Bruno!"]
    statement, question = await InProcessEmbedder().embed_marked(texts)
    vectors = await InProcessEmbedder().embed(texts)
    np.testing.assert_array_equal(statement.vector, vectors[0])
    assert question.marks.ids.tolist() == statement.marks.ids.tolist()[::-1]
    np.testing.assert_array_equal(question.marks.bits, statement.marks.bits[::-1])
