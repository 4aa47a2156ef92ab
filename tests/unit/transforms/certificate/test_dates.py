"""Dates and expiry, the access code."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transforms.certificate.samples import NOW
from transforms.certificate.access_code import access_code
from transforms.certificate.dates import (
    InvalidDate,
    expires,
    held_date,
    issued_on,
    last_issued_on,
    long_date,
    to_millis,
)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-06-12", "2024-06-12T00:00:00Z"),
        ("2024-6-2", "2024-06-02T00:00:00Z"),
        ("2024-06-12 10:00", "2024-06-12T00:00:00Z"),
        ("2024-06-12T10:11:12Z", "2024-06-12T10:11:12Z"),
        ("2024-06-12T10:11:12Z and more", "2024-06-12T10:11:12Z"),
        ("2024-06-12T10:11:12.123Z", "2024-06-12T00:00:00Z"),
        ("2024-06-12T25:00:00Z", "2024-06-12T00:00:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("24-06-12", "0024-06-12T00:00:00Z"),
        ("", "2024-06-12T08:00:06Z"),
        ("  ", "2024-06-12T08:00:06Z"),
    ],
)
def test_the_day_of_issue(text, moment):
    """§9 case 12"""
    assert issued_on(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["2023-02-29", "12-06-2024x", "2024-13-01", "2024-06-123", "June", " 2024-06-12", "٢٠٢٤-٠٦-١٢"]
)
def test_no_day(text):
    with pytest.raises(InvalidDate, match=r"^issued date is not in valid format$"):
        issued_on(text, NOW)


def test_the_day_of_issue_is_in_utc():
    assert issued_on("", datetime(2024, 6, 12, 2, 0, tzinfo=timezone(timedelta(hours=5.5)))) == "2024-06-11T20:30:00Z"


@pytest.mark.parametrize(
    ("expiry", "issued", "moment"),
    [
        ("", "2019-08-31T12:52:25Z", ""),
        ("2m", "2019-08-31T12:52:25Z", "2019-10-31T12:52:25Z"),
        ("2D 2y", "2019-08-31T12:52:25Z", "2021-09-02T12:52:25Z"),
        ("2d 2m", "2019-08-31T12:52:25Z", "2019-11-02T12:52:25Z"),
        ("1m", "2019-01-31T00:00:00Z", "2019-02-28T00:00:00Z"),
        ("1m 1y", "2024-01-31T00:00:00Z", "2025-02-28T00:00:00Z"),
        ("1y 1m", "2024-01-31T00:00:00Z", "2025-02-28T00:00:00Z"),
        ("1m 1m", "2024-01-31T00:00:00Z", "2024-03-29T00:00:00Z"),
        ("0d", "2024-01-31T00:00:00Z", "2024-01-31T00:00:00Z"),
        ("2030-01-01T00:00:00Z", "2024-01-31T00:00:00Z", "2030-01-01T00:00:00Z"),
    ],
)
def test_expiry(expiry, issued, moment):
    """§9 case 12"""
    assert expires(expiry, issued) == moment


@pytest.mark.parametrize(
    ("expiry", "word"),
    [
        ("3w", "3w"),
        ("1m  1y", ""),
        ("1m 1", "1"),
        ("m", "m"),
        ("-1m", "-1m"),
        ("٣m", "٣m"),
        ("2030-13-01T00:00:00Z", "2030-13-01T00:00:00Z"),
        ("9999y", "9999y"),
        ("999999999d", "999999999d"),
        ("9" * 5000 + "d", "9" * 200),
        ("a\nb", "a b"),
    ],
)
def test_no_expiry(expiry, word):
    """§9 case 12"""
    with pytest.raises(InvalidDate) as raised:
        expires(expiry, "2024-01-31T00:00:00Z")
    assert str(raised.value) == f"Given expiry date is invalid{word}"


@given(st.text() | st.from_regex("[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}(T[0-9:]{8}Z)?"))
def test_whatever_the_text_only_invalid_date_is_raised(text):
    reason = ""
    try:
        assert re.fullmatch("[0-9-]{10}T[0-9:]{8}Z", issued_on(text, NOW))
        expires(text, "2024-06-12T08:00:06Z")
    except InvalidDate as error:
        reason = str(error)
    assert reason == "" or reason.isprintable()


def test_the_long_date_is_english_everywhere():
    """§9 case 12"""
    assert long_date("2024-06-12T00:00:00Z") == "12 June 2024"
    assert long_date("0024-01-02T00:00:00Z") == "02 January 0024"
    assert [long_date(f"2024-{month:02}-01T00:00:00Z")[3:6] for month in range(1, 13)] == (
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    )


def test_moments_with_milliseconds():
    assert last_issued_on(NOW) == "2024-06-12T08:00:06.123+0000"
    assert to_millis(NOW) == "2024-06-12T08:00:06.123Z"
    assert last_issued_on(datetime(2024, 6, 12, tzinfo=UTC)) == "2024-06-12T00:00:00.000+0000"


def test_the_day_of_completion():
    today = date(2024, 7, 1)
    assert held_date(None, today) == "2024-07-01"
    assert held_date(datetime(2024, 6, 12, 23, 59), today) == "2024-06-12"
    assert held_date(datetime(2024, 6, 12, 2, 0, tzinfo=timezone(timedelta(hours=5.5))), today) == "2024-06-11"


def test_access_codes():
    """§9 case 9"""
    codes = [access_code(random.Random(1).choice) for _ in range(2)]
    assert codes[0] == codes[1]
    chance = random.Random(2)
    many = [access_code(chance.choice) for _ in range(2000)]
    assert all(re.fullmatch("([A-HJ-NP-Z][1-9]){3}", code) for code in many)
    assert len(set(many)) == len(many)
    for place in range(6):
        assert len(Counter(code[place] for code in many)) == (24 if place % 2 == 0 else 9)
