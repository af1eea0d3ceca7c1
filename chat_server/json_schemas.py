"""JSON Schemas of the types on the wire, as AsyncAPI and OpenAPI want them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

REF: Final = "#/components/schemas/{name}"

_Kind = TypeVar("_Kind", bound=msgspec.Struct)

_role: Final = re.compile(r":\w+:`~?([^`]+)`")


def schemas_of(types: Sequence[object]) -> tuple[list[dict[str, object]], dict[str, object]]:
    r"""A reference for each of *types*, and the named schemas that they refer to.

    Descriptions are the types' docstrings, in Markdown; patterns are in the dialect of JSON Schema
    (ECMA-262), which has no ``\Z`` and whose ``$`` is the very end.
    """
    references, components = msgspec.json.schema_components(types, ref_template=REF)
    return [dict(reference) for reference in references], _translated_all(components)


def struct_types(base: type[_Kind]) -> list[type[_Kind]]:
    """The types below *base* that are sent: those that no other is derived from, in the order in
    which they are defined.
    """
    below = base.__subclasses__()
    return [kind for it in below for kind in (struct_types(it) if it.__subclasses__() else [it])]


def sent_fields(value: msgspec.Struct) -> dict[str, object]:
    """*value* as JSON would have it, without the fields that say what their absence says."""
    spoken: dict[str, object] = msgspec.json.decode(msgspec.json.encode(value))
    silent = {
        field.encode_name
        for field in msgspec.structs.fields(type(value))
        if not field.required and getattr(value, field.name) == field.default
    }
    return {name: said for name, said in spoken.items() if name not in silent}


def _translated_all(schema: Mapping[str, object]) -> dict[str, object]:
    return {key: _translated(key, value) for key, value in schema.items()}


def _translated(key: str, value: object) -> object:
    if isinstance(value, Mapping):
        return _translated_all(value)
    if isinstance(value, list | tuple):
        return [_translated("", item) for item in value]
    if key == "description" and isinstance(value, str):
        return markdown(value)
    if key == "pattern" and isinstance(value, str):
        return value.replace(r"\Z", "$")
    return value


def markdown(docstring: str) -> str:
    """A docstring's reStructuredText as Markdown, each paragraph a line."""
    text = _role.sub(r"`\1`", docstring).replace("``", "`")
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
