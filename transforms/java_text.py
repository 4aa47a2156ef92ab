"""Numbers and JSON as Java programs write them, where a stored text has to be the same to the byte."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

__all__ = ["json_text", "number_text"]

# What Gson escapes beside what JSON demands.
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&='\u2028\u2029"})


def number_text(number: float) -> str:
    """A number as Java's ``Double.toString`` writes it: 1 is ``1.0``, 12345678 is ``1.2345678E7``.

    spec: user-cache-updater §3.3 (``status``)
    """
    number = float(number)
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(number)
    decimal = Decimal(repr(number))
    first, *others = map(str, decimal.as_tuple().digits)
    return f"{'-' * (number < 0)}{first}.{''.join(others).rstrip('0') or '0'}E{decimal.adjusted()}"


def json_text(value: Any) -> str:
    """Parsed JSON as Gson writes it: compact, all numbers floating point, ``<>&='`` escaped, no members with null.

    spec: user-cache-updater §3.3 (text form of values)
    """
    if isinstance(value, dict):
        members = (f"{json_text(name)}:{json_text(member)}" for name, member in value.items() if member is not None)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    return orjson.dumps(value).decode().translate(_ESCAPES)
