from __future__ import annotations

from chat_server.client_said import new_id, send_frame


def test_ids_are_ulids_that_sort_by_time() -> None:
    made = [new_id() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(len(id_) == 26 and id_.isalnum() and id_.isupper() for id_ in made)
    assert [id_[:10] for id_ in made] == sorted(id_[:10] for id_ in made)


def test_only_what_was_asked_for_goes_into_the_frame() -> None:
    plain = send_frame("Hi", {})
    assert set(plain) == {"type", "id", "text"}
    full = send_frame("Hi", {"id": "a", "conversation": "c", "author": "Ana", "memory": False})
    assert full == {
        "type": "send",
        "id": "a",
        "text": "Hi",
        "conversation": "c",
        "author": "Ana",
        "options": {"memory": False},
    }
