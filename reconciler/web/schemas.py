"""Describes our dataclasses as JSON Schema, the way `reconciler.output.to_plain` writes them."""

from __future__ import annotations

import dataclasses
import enum
import types
from datetime import datetime
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

_SCALARS: Final[dict[Any, dict[str, Any]]] = {
    Any: {},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    datetime: {"type": "string", "format": "date-time"},
    types.NoneType: {"type": "null"},
}


def describe_type(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type.

    Args:
        kind: a type, as annotations name it.
        named: schemas of dataclasses by name, to which those that are met are added.

    Raises:
        TypeError: the type has no place in an answer.
    """
    if kind in _SCALARS:
        return dict(_SCALARS[kind])
    if dataclasses.is_dataclass(kind):
        return _describe_dataclass(kind, named)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return {"anyOf": [describe_type(argument, named) for argument in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": describe_type(arguments[1], named)}
    if origin in {list, tuple}:
        array = {"type": "array", "items": describe_type(arguments[0], named)}
        is_fixed = origin is tuple and arguments[-1] is not Ellipsis
        return array | ({"minItems": len(arguments), "maxItems": len(arguments)} if is_fixed else {})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    raise TypeError(f"{kind} has no place in an answer")


def _describe_dataclass(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in named:
        hints = get_type_hints(kind)
        properties = {
            item.name: describe_type(hints[item.name], named)
            for item in dataclasses.fields(kind)
            if item.repr  # hidden ones are secrets and not written
        }
        named[name] = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/components/schemas/{name}"}
