from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from chat_server.json_schemas import markdown, schemas_of, sent_fields, struct_types


class Animal(msgspec.Struct, tag_field="type", tag=str.lower):
    """Any."""


class Pet(Animal):
    """Somebody's."""


class Dog(Pet):
    r"""A dog; see :class:`kennel.Kennel`, and
    ``name``.

    Second paragraph.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+\Z")]
    tricks: tuple[str, ...] = ()
    owner: str | None = None


class Fish(Animal):
    """A fish."""


def test_patterns_mean_the_same_in_every_language() -> None:
    (reference,), components = schemas_of([Dog])
    assert reference == {"$ref": "#/components/schemas/Dog"}
    dog: Any = components["Dog"]
    pattern = dog["properties"]["name"]["pattern"]
    assert pattern == "^[a-z]+$"
    assert re.search(pattern, "rex")


def test_docstrings_become_markdown() -> None:
    _, components = schemas_of([Dog])
    dog: Any = components["Dog"]
    assert dog["description"] == "A dog; see `kennel.Kennel`, and `name`.\n\nSecond paragraph."
    assert markdown("One\n    line.") == "One line."


def test_only_types_that_are_sent_are_found_in_the_order_of_their_definition() -> None:
    assert struct_types(Animal) == [Dog, Fish]


def test_what_says_nothing_is_left_out_of_an_example() -> None:
    assert sent_fields(Dog(name="rex")) == {"type": "dog", "name": "rex"}
    assert sent_fields(Dog(name="rex", owner="ann")) == {
        "type": "dog",
        "name": "rex",
        "owner": "ann",
    }
