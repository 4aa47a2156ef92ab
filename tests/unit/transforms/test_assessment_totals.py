"""What follows from attempts: totals, details, the latest (assessment-aggregator §3.5, §3.7, §3.8)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.assessment import InvalidAssessment
from transforms.assessment_totals import (
    Attempt,
    attempt_details,
    attempt_of,
    grand_total,
    in_table_order,
    latest_attempt,
    totals,
)


def attempt(content: str = "A", name: str = "x", time: int | None = 0, score: float = 1, most: float = 2) -> Attempt:
    return Attempt(content, name, time, None, score, most)


def by_place(*attempts: Attempt) -> dict[tuple[str, str], Attempt]:
    return {(one.content_id, one.attempt_id): one for one in attempts}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2.0"),
        (1.33, "1.33"),
        (0.5, "0.5"),
        (0.125, "0.12"),
        (0.375, "0.38"),
        (12.345, "12.35"),
        (1.005, "1.0"),
        (0.1 + 0.2, "0.3"),
        (1234567.891, "1234567.89"),
        (0.999, "1.0"),
    ],
)
def test_the_grand_total(value: float, text: str):
    """§3.5"""
    assert grand_total(value, 10) == f"{text}/10.0"


def test_sums_are_not_rounded():
    found = attempt_of("A", "x", 1, 2, [{"score": 0.1, "max_score": 1.0}] * 3)
    assert found == Attempt("A", "x", 1, 2, 0.1 + 0.1 + 0.1, 3.0)


def test_a_sum_that_is_no_number():
    with pytest.raises(InvalidAssessment, match="sum"):
        attempt_of("A", "x", 1, 2, [{"score": 1.0, "max_score": 1.7e308}] * 2)


def test_the_best_attempt_of_each_content():
    """§3.7: the largest possible score is that of the best attempt, the first of equal ones"""
    attempts = [
        attempt("A", "1", score=3, most=4),
        attempt("A", "2", score=4, most=9),
        attempt("A", "3", score=4, most=5),
        attempt("B", "1", score=0, most=0),
    ]
    assert totals(in_table_order(reversed(attempts))) == {
        "score:A": 4,
        "max_score:A": 9,
        "attempts_count:A": 3.0,
        "score:B": 0,
        "max_score:B": 0,
        "attempts_count:B": 1.0,
    }
    assert totals([]) == {}


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2024, 5, 2, 4, 20, tzinfo=UTC), "May 2, 2024, 4:20:00 AM"),
        (datetime(2024, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), "Dec 31, 2024, 11:59:59 PM"),
        (datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC), "Jan 1, 2024, 12:00:01 AM"),
        (datetime(2024, 9, 10, 12, 5, tzinfo=UTC), "Sep 10, 2024, 12:05:00 PM"),
        (datetime(1969, 12, 31, 23, 59, 59, 1_000, tzinfo=UTC), "Dec 31, 1969, 11:59:59 PM"),
    ],
)
def test_details_have_java_s_dates(moment: datetime, text: str):
    """§3.7"""
    millis = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000
    (found,) = attempt_details([attempt(time=round(millis), score=2, most=2)], "kind")
    assert found == (
        f'{{"attempt_id":"x","last_attempted_on":"{text}","score":2,"content_id":"A","max_score":2,"type":"kind"}}'
    )


def test_a_detail_without_a_date():
    (found,) = attempt_details([attempt(time=None, score=1.0, most=2.0)], "attempt_metrics")
    assert found == '{"attempt_id":"x","score":1.0,"content_id":"A","max_score":2.0,"type":"attempt_metrics"}'


@pytest.mark.parametrize(
    ("attempts", "latest"),
    [
        ([], ""),
        ([attempt()], "x"),
        ([attempt(name="a", time=5), attempt(name="b", time=6), attempt(name="c", time=6)], "b"),
        ([attempt(name="a", time=None), attempt(name="b", time=-7)], "b"),
        ([attempt(name="b", time=None), attempt(name="a", time=None)], "a"),
        ([attempt("A"), attempt("B")], ""),
    ],
)
def test_the_latest_attempt(attempts: list[Attempt], latest: str):
    """§3.8, §9 case 10"""
    assert latest_attempt(by_place(*attempts)) == latest


attempts = st.builds(attempt, st.sampled_from("AB"), st.sampled_from("xyz"), st.integers(0, 3), st.floats(0, 9))


@given(st.lists(attempts, max_size=6), st.randoms())
def test_the_order_of_attempts_does_not_matter(given_attempts: list[Attempt], random: Any):
    places = by_place(*given_attempts)
    shuffled = list(places.values())
    random.shuffle(shuffled)
    assert totals(in_table_order(shuffled)) == totals(in_table_order(places.values()))
    assert latest_attempt(by_place(*shuffled)) == latest_attempt(places)
