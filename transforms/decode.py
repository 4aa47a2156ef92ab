"""From a record's bytes to a JSON object, by the rules of core §1.1 and §2.1."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

__all__ = ["NotAnObject", "Record", "id_at", "parse_object", "text_of", "value_at"]

# An escape sequence: kept when JSON knows it, else its backslash is dropped (core §1.1).
_ESCAPE = re.compile(rb'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|)', re.DOTALL)


class Record(NamedTuple):
    """One input record: the value's bytes (None for a tombstone) and where it came from.

    ``timestamp`` is Kafka's, in epoch milliseconds; a file counts its lines as offsets of partition 0. ``lasting``
    says that the place names this record for good, so that a redelivery can be told from a repetition.
    """

    value: bytes | None
    topic: str
    partition: int
    offset: int
    timestamp: int
    lasting: bool = False

    @property
    def name(self) -> str:
        """Where the record stands: ``topic:partition:offset:timestamp``."""
        return f"{self.topic}:{self.partition}:{self.offset}:{self.timestamp}"


class NotAnObject(ValueError):
    """The bytes hold no JSON object. The message is one line and holds no part of the data."""


def parse_object(value: bytes | str | None) -> dict[str, Any]:
    """Parse one JSON object from UTF-8 ``value``. Raises NotAnObject for anything else.

    A backslash may stand before any character (``\\'`` is read as ``'``). Lone surrogates, invalid UTF-8 and
    nesting deeper than 1,024 levels count as not parseable. spec: core §1.1, §2.1
    """
    if value is None:
        raise NotAnObject("no value (a tombstone)")
    if not value or value.isspace():
        raise NotAnObject("an empty value")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        parsed = _parse_with_free_backslashes(value, error)
    if not isinstance(parsed, dict):
        raise NotAnObject(f"JSON, but not an object: {_json_type(parsed)}")
    return parsed


def value_at(parsed: Any, path: str) -> Any:
    """The value at the dotted ``path``, or None when a level is missing, null or no object. Never raises.

    spec: core §1.1
    """
    for name in path.split("."):
        if not isinstance(parsed, dict):
            return None
        parsed = parsed.get(name)
    return parsed


def id_at(parsed: Any, path: str) -> str | None:
    """The string at ``path`` when it is one and not blank, else None. spec: core §1.1"""
    value = value_at(parsed, path)
    return value if isinstance(value, str) and value.strip() else None


def text_of(value: Any) -> str:
    """A text as it is, a number or truth value as one; ``""`` for what is none of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def _parse_with_free_backslashes(value: bytes | str, first: orjson.JSONDecodeError) -> Any:
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    repaired = _ESCAPE.sub(lambda escape: escape.group(0) if escape.group(1) else b"", raw)
    if repaired != raw:
        try:
            return orjson.loads(repaired)
        except orjson.JSONDecodeError:
            pass
    raise NotAnObject(f"not JSON: {first.msg} (line {first.lineno}, column {first.colno})") from first


def _json_type(parsed: Any) -> str:
    if parsed is None:
        return "null"
    if isinstance(parsed, bool):
        return "a boolean"
    return {list: "a list", str: "a string", int: "a number", float: "a number"}[type(parsed)]
