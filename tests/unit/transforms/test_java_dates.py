"""Texts with a date as Java's SimpleDateFormat reads them: merge-user-courses §3.1, §5."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from transforms.java_dates import UnknownPattern, epoch_millis_of

COURSE_DATE = "yyyy-MM-dd HH:mm:ss:SSSZ"


def millis(*parts: Any) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-02 09:30:15:042+0000", millis(2024, 5, 2, 9, 30, 15, 42_000)),
        ("2024-05-02 14:00:00:000+0530", millis(2024, 5, 2, 8, 30)),
        ("2024-05-02 04:00:00:000-0430", millis(2024, 5, 2, 8, 30)),
        ("2024-05-02 08:30:00:000GMT", millis(2024, 5, 2, 8, 30)),
        ("2024-05-02 08:30:00:000 UTC", millis(2024, 5, 2, 8, 30)),
        ("2024-05-02 14:00:00:000gmt+5:30", millis(2024, 5, 2, 8, 30)),
        # text after a complete match
        ("2024-05-02 09:30:15:042+0000 and more", millis(2024, 5, 2, 9, 30, 15, 42_000)),
        ("2024-05-02 09:30:15:042+00001", millis(2024, 5, 2, 9, 30, 15, 42_000)),
        # fewer and more digits than letters
        ("2024-5-2 9:3:5:4+0000", millis(2024, 5, 2, 9, 3, 5, 4_000)),
        ("2024-05-02 09:30:15:1042+0000", millis(2024, 5, 2, 9, 30, 16, 42_000)),
        # spaces before a number
        ("  2024- 05-02  09:30:15:042 +0000", millis(2024, 5, 2, 9, 30, 15, 42_000)),
        # beyond their range
        ("2024-13-01 00:00:00:000+0000", millis(2025, 1, 1)),
        ("2024-00-01 00:00:00:000+0000", millis(2023, 12, 1)),
        ("2023-02-30 24:61:61:000+0000", millis(2023, 3, 3, 1, 2, 1)),
        ("0024-05-02 00:00:00:000+0000", millis(24, 5, 2)),
    ],
)
def test_the_jobs_own_format(text: str, expected: int) -> None:
    assert epoch_millis_of(text, COURSE_DATE) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a date",
        "2024-05-02",
        "2024-05-02 09:30:15.042+0000",
        "2024-05-02 09:30:15:042",
        "2024-05-02 09:30:15:042Z",
        "2024-05-02 09:30:15:042+00",
        "2024-05-02 09:30:15:042+00:00",
        "2024-05-02 09:30:15:042+2460",
        "2024-05-02T09:30:15:042+0000",
        "2024/05/02 09:30:15:042+0000",
        "99999-01-01 00:00:00:000+0000",
        "0000-01-01 00:00:00:000+0000",
        f"{'9' * 5_000}-01-01 00:00:00:000+0000",
        "2024-05-02 09:30:15:042\u0660+0000",
    ],
)
def test_what_can_not_be_read(text: str) -> None:
    assert epoch_millis_of(text, COURSE_DATE) is None


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("yyyy-MM-dd'T'HH:mm:ssZ", "2024-05-02T09:30:15+0530", millis(2024, 5, 2, 4, 0, 15)),
        ("dd.MM.yyyy", "02.05.2024", millis(2024, 5, 2)),
        ("yyyyMMddHHmmss", "20240502093015", millis(2024, 5, 2, 9, 30, 15)),
        ("d MMM yyyy", "2 May 2024", millis(2024, 5, 2)),
        ("d MMMM yyyy", "2 SEPTEMBER 2024", millis(2024, 9, 2)),
        ("dd/MM/yy", "02/05/24", millis(2024, 5, 2)),
        ("dd/MM/yy", "02/05/1999", millis(1999, 5, 2)),
        ("HH 'o''clock'", "9 o'clock", millis(1970, 1, 1, 9)),
        ("''yyyy", "'2024", millis(2024, 1, 1)),
        ("yyyy ä", "2024 ä", millis(2024, 1, 1)),
    ],
)
def test_other_formats(pattern: str, text: str, expected: int) -> None:
    assert epoch_millis_of(text, pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "named"), [("EEE, d", "letter E"), ("hh:mm a", "letter h"), ("yyyy 'x", "quote"), ("dd dd", "twice")]
)
def test_a_pattern_that_is_not_understood(pattern: str, named: str) -> None:
    with pytest.raises(UnknownPattern, match=named):
        epoch_millis_of("", pattern)
