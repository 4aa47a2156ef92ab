"""Dates of a certificate, all in UTC (spec: collection-certificate-generator §3.5.1, §3.6)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from dateutil.relativedelta import relativedelta

from transforms.certificate.request import InvalidRequest, one_line

__all__ = ["InvalidDate", "expires", "held_date", "issued_on", "last_issued_on", "long_date", "to_millis"]

_MOMENT = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_DAY = re.compile(r"([0-9]{1,4})-([0-9]{1,2})-([0-9]{1,2})(?![0-9])")
_STEP = re.compile(r"([0-9]{1,9})([dmy])", re.IGNORECASE)
_UNITS = {"d": "days", "m": "months", "y": "years"}
# not the locale's
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class InvalidDate(InvalidRequest):
    """A date or an expiry of the event that can not be read."""


def issued_on(issued_date: str, now: datetime) -> str:
    """When the certificate was issued, as ``yyyy-MM-ddTHH:mm:ssZ``; ``now`` (UTC) when the event's date is blank.

    Text after a moment or a day is ignored. Raises InvalidDate.
    """
    if not issued_date.strip():
        return _moment(now)
    moment = _read(_MOMENT.match(issued_date)) or _read(_DAY.match(issued_date))
    if moment is None:
        raise InvalidDate("issued date is not in valid format")
    return _moment(moment)


def expires(expiry: str, issued: str) -> str:
    """When the certificate expires: a moment as it is, or steps such as ``2m 1y`` from ``issued``; ``""`` for never.

    ``issued`` is what ``issued_on`` gave. Raises InvalidDate.
    """
    if not expiry.strip():
        return ""
    if _read(_MOMENT.fullmatch(expiry)):
        return expiry
    moment = _read(_MOMENT.fullmatch(issued))
    if moment is None:
        raise InvalidDate("issued date is not in valid format")
    for word in expiry.split(" "):
        step = _STEP.fullmatch(word)
        if step is None:
            raise _invalid(word)
        count, unit = step.groups()
        try:
            moment += relativedelta(**{_UNITS[unit.lower()]: int(count)})  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            raise _invalid(word) from None
    return _moment(moment)


def long_date(moment: str) -> str:
    """``dd MMMM yyyy`` in English of a ``yyyy-MM-ddTHH:mm:ssZ``: ``12 June 2024``."""
    year, month, day = moment[:10].split("-")
    return f"{day} {_MONTHS[int(month) - 1]} {year}"


def last_issued_on(now: datetime) -> str:
    """``now`` as an enrolment has it: ``2024-06-12T08:00:06.123+0000``. spec: §3.6"""
    return to_millis(now).replace("Z", "+0000")


def to_millis(now: datetime) -> str:
    """``now`` as a signature has it: ``2024-06-12T08:00:06.123Z``. spec: §3.5.3"""
    return f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"


def held_date(completed_on: datetime | None, today: date) -> str:
    """The day of a course's completion, ``today`` when it is not known: ``2024-06-12``. Naive times are UTC. §3.9"""
    if completed_on is None:
        return today.isoformat()
    return (completed_on if completed_on.tzinfo is None else completed_on.astimezone(UTC)).date().isoformat()


def _read(found: re.Match[str] | None) -> datetime | None:
    if found is None:
        return None
    try:
        return datetime(*map(int, found.groups()), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None


def _moment(moment: datetime) -> str:
    # strftime writes no leading zeros of a year
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def _invalid(word: str) -> InvalidDate:
    return InvalidDate(f"Given expiry date is invalid{one_line(word)}")
