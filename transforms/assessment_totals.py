"""What follows from a learner's attempts at the assessments of a course.

spec: assessment-aggregator §3.5, §3.7, §3.8
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from transforms.assessment import InvalidAssessment, Question

__all__ = ["Attempt", "attempt_details", "attempt_of", "grand_total", "in_table_order", "latest_attempt", "totals"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the table holds of an attempt, but for its questions. Times in epoch milliseconds."""

    content_id: str
    attempt_id: str
    attempted_on: int | None
    created_on: int | None
    score: float
    max_score: float


def attempt_of(
    content_id: str, attempt_id: str, attempted_on: int, created_on: int, questions: Iterable[Question]
) -> Attempt:
    """An attempt with the sums of its questions. Raises InvalidAssessment when a sum is no number any more."""
    asked = list(questions)
    score = sum((question["score"] for question in asked), 0.0)
    max_score = sum((question["max_score"] for question in asked), 0.0)
    if not math.isfinite(score) or not math.isfinite(max_score):
        raise InvalidAssessment("the sum of the scores is larger than a number can be")
    return Attempt(content_id, attempt_id, attempted_on, created_on, score, max_score)


def grand_total(score: float, max_score: float) -> str:
    """``2.5/3.0``: one or two decimals, half-even on the exact values. spec: assessment-aggregator §3.5"""
    return f"{_decimals(score)}/{_decimals(max_score)}"


def in_table_order(attempts: Iterable[Attempt]) -> list[Attempt]:
    """By content, then attempt."""
    return sorted(attempts, key=lambda attempt: (attempt.content_id, attempt.attempt_id))


def totals(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Score, largest possible score and number of attempts of each content, in the words of ``aggregates``.

    Of equal attempts the first of ``attempts``, which are in table order, counts. spec: assessment-aggregator §3.7
    """
    of_content: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        of_content.setdefault(attempt.content_id, []).append(attempt)
    found: dict[str, float] = {}
    for content_id, tried in of_content.items():
        best = max(tried, key=lambda attempt: attempt.score)
        found[f"score:{content_id}"] = best.score
        found[f"max_score:{content_id}"] = best.max_score
        found[f"attempts_count:{content_id}"] = float(len(tried))
    return found


def attempt_details(attempts: Iterable[Attempt], kind: str) -> list[str]:
    """One JSON text for each attempt, in their order; ``kind`` is their type. spec: assessment-aggregator §3.7"""
    return [
        orjson.dumps(
            {
                "attempt_id": attempt.attempt_id,
                **({} if attempt.attempted_on is None else {"last_attempted_on": _date_text(attempt.attempted_on)}),
                "score": attempt.score,
                "content_id": attempt.content_id,
                "max_score": attempt.max_score,
                "type": kind,
            }
        ).decode()
        for attempt in attempts
    ]


def latest_attempt(attempts: Mapping[tuple[str, str], Attempt]) -> str:
    """The id of the latest attempt when all are at one content, else ``""``. spec: assessment-aggregator §3.8"""
    if len({content_id for content_id, _ in attempts}) != 1:
        return ""
    return min(attempts.values(), key=lambda attempt: (-_time(attempt), attempt.attempt_id)).attempt_id


def _time(attempt: Attempt) -> float:
    return -math.inf if attempt.attempted_on is None else attempt.attempted_on


def _decimals(value: float) -> str:
    written = f"{value:.2f}"
    return written[:-1] if written.endswith("0") else written


def _date_text(millis: int) -> str:
    """``May 2, 2024, 4:20:00 AM``, UTC."""
    moment = _EPOCH + timedelta(milliseconds=millis)
    half = "AM" if moment.hour < 12 else "PM"
    day = f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year:04d}"
    return f"{day}, {moment.hour % 12 or 12}:{moment.minute:02d}:{moment.second:02d} {half}"
