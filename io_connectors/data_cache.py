"""How values of the data cache are read; the same for Redis and its twin (spec: core §6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from transforms.stores import Refused

__all__ = ["hash_map", "json_map"]


def json_map(key: str, text: str | None, fields: Collection[str] = ()) -> dict[str, Any]:
    """A JSON object kept as string: without members whose value is ``""``, names in lower case and without ``_``.

    ``fields``, when there are any, are the names (as stored) to keep. Nothing stored gives an empty map. Raises
    Refused, which names ``key``, when the text is no JSON object. spec: core §6 "get (map)"
    """
    if not text:
        return {}
    try:
        stored = orjson.loads(text)
    except orjson.JSONDecodeError:
        stored = None
    if not isinstance(stored, dict):
        raise Refused(f"{key} holds no JSON object")
    return {
        name.lower().replace("_", ""): value
        for name, value in stored.items()
        if value != "" and (not fields or name in fields)
    }


def hash_map(values: Mapping[str, str], fields: Collection[str] = (), all_fields: bool = False) -> dict[str, Any]:
    """A hash: without values that are ``""``, and with those that are JSON lists or objects parsed.

    ``fields``, when there are any and not ``all_fields`` is asked for, are the names to keep. A value that only looks
    like JSON stays a string. spec: core §6 "hash get"
    """
    return {
        name: _parsed(value)
        for name, value in values.items()
        if value != "" and (all_fields or not fields or name in fields)
    }


def _parsed(value: str) -> Any:
    if not value.strip().startswith(("[", "{")):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
