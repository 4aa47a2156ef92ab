"""Texts with a date, read by a pattern of Java's SimpleDateFormat, as the jobs on the JVM read them.

Understood are ``y M d H m s S Z`` and literal characters. Without ``Z``, times are UTC.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

__all__ = ["UnknownPattern", "epoch_millis_of"]

_EPOCH = date(1970, 1, 1).toordinal()
_MINUTE = 60_000
# a quote stands for itself when it is doubled, and around letters that stand for themselves
_PARTS = re.compile(r"''|'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z'])")
_NUMBERS = "yMdHmsS"
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ZONE = r"(?P<Z>[+-](?:[01][0-9]|2[0-3])[0-5][0-9]|(?i:GMT)[+-](?:2[0-3]|[01]?[0-9]):[0-5][0-9]|(?i:GMT|UTC))"


class UnknownPattern(ValueError):
    """A pattern with letters that are not understood; the message names them."""


def epoch_millis_of(text: str, pattern: str) -> int | None:
    """The moment that a text names, in epoch milliseconds; None when it does not fit the pattern.

    As in Java: what follows a complete match is ignored, spaces may stand before a number, and one beyond its range
    carries over (a 13th month is January). Raises UnknownPattern. spec: merge-user-courses §3.1, §5
    """
    found = _expression(pattern).match(text)
    if found is None:
        return None
    given = {name: value for name, value in found.groupdict().items() if value is not None}
    try:
        numbers = {name: int(given.get(name, "1" if name in "Md" else "0")) for name in "dHmsS"}
        year, month = _year(given.get("y", "1970")), _month(given.get("M", "1"))
        first = date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1).toordinal() - _EPOCH
    except (ValueError, OverflowError):
        return None
    hours = (first + numbers["d"] - 1) * 24 + numbers["H"]
    seconds = (hours * 60 + numbers["m"]) * 60 + numbers["s"]
    return seconds * 1_000 + numbers["S"] - _offset_minutes(given.get("Z", "UTC")) * _MINUTE


@lru_cache(maxsize=16)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = list(_PARTS.finditer(pattern))
    if "".join(part[0] for part in parts) != pattern:
        raise UnknownPattern(f"{pattern!r}: a quote is open")
    expression = ""
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        field, letter = part[2], part[3]
        if field is None:
            literal = part[4] or ("'" if part[0] == "''" else part[1].replace("''", "'"))
            expression += re.escape(literal)
        elif letter not in f"{_NUMBERS}Z":
            raise UnknownPattern(f"{pattern!r}: the letter {letter} is not understood, only y M d H m s S Z are")
        elif f"(?P<{letter}>" in expression:
            raise UnknownPattern(f"{pattern!r}: the letter {letter} is there twice")
        elif letter == "Z":
            expression += rf"[ \t]*+{_ZONE}"
        elif letter == "M" and len(field) > 2:
            names = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
            expression += rf"[ \t]*+(?P<M>(?i:{names}))"
        else:
            # a number ends with its digits, or, where another one follows at once, after as many as there are letters
            another = following is not None and following[3] is not None and following[3] in _NUMBERS
            digits = f"{{1,{len(field)}}}+" if another else "++"
            expression += rf"[ \t]*+(?P<{letter}>[0-9]{digits})"
    return re.compile(expression)


def _year(text: str) -> int:
    """Two digits alone are a year from 1969 to 2068."""
    year = int(text)
    return year if len(text) != 2 else year + (1900 if year >= 69 else 2000)


def _month(text: str) -> int:
    if text.isdecimal():
        return int(text)
    return next(number for number, name in enumerate(_MONTHS, 1) if name[:3].lower() == text[:3].lower())


def _offset_minutes(zone: str) -> int:
    found = re.search(r"([+-])(\d{1,2}):?(\d\d)$", zone)
    if found is None:
        return 0
    minutes = int(found[2]) * 60 + int(found[3])
    return -minutes if found[1] == "-" else minutes
