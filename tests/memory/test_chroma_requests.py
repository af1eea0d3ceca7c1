from __future__ import annotations

import pytest

from memory.chroma_client import ConnectionLost
from memory.chroma_requests import asked, filled, repeated, sent, where
from memory.errors import IndexDamaged, StoreRefused, StoreUnavailable, StoreUnknown
from memory.records import Record
from tests.contracts.long_term_world import DIMENSION, said, somebody, vector_of


class Vendor:
    """Answers with what it is told to, in turn."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self, **_arguments: object) -> None:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer

    async def get(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_one_value_is_an_equality_and_several_are_a_choice() -> None:
    assert where("page", ["a"]) == {"page": "a"}
    assert where("page", ["a", "b"]) == {"page": {"$in": ["a", "b"]}}


async def test_a_connection_that_was_dead_is_tried_once_more() -> None:
    assert await asked(Vendor(ConnectionLost("dead"), "here").get) == "here"
    with pytest.raises(ConnectionLost):
        await repeated(Vendor(ConnectionLost("dead"), ConnectionLost("dead"), "here").get)


async def test_a_question_without_an_answer_has_done_nothing() -> None:
    damage = IndexDamaged("no vectors")
    with pytest.raises(StoreUnavailable) as caught:
        await asked(Vendor(damage).get)
    assert caught.value.__cause__ is damage


async def test_what_the_client_will_not_send_is_refused() -> None:
    vector = vector_of(said(somebody()))
    with pytest.raises(StoreRefused, match="ValueError"):
        await sent(Vendor(ValueError("its text")), [Record("a", "A", {})], [vector])
    with pytest.raises(StoreUnknown):
        await sent(Vendor(StoreUnknown("gone")), [Record("a", "A", {})], [vector])


async def test_filling_names_ids_vectors_and_the_mark_and_nothing_else() -> None:
    given: list[dict[str, object]] = []

    async def update(**arguments: object) -> None:
        given.append(arguments)

    vector = vector_of(said(somebody()))
    assert vector.shape == (DIMENSION,)
    await filled(update, ["a"], [vector])
    assert given == [{"ids": ["a"], "embeddings": [vector], "metadatas": [{"unembedded": None}]}]
