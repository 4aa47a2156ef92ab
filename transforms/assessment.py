"""One attempt at an assessment: what an event says of it, and its score.

spec: assessment-aggregator §2, §3.1, §3.3, §3.5
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from transforms.decode import id_at
from transforms.enrolments import Enrolment

__all__ = [
    "Assessment",
    "InvalidAssessment",
    "Question",
    "assessment_of",
    "double_text",
    "last_answers",
    "number_of",
    "question_of",
]

Question = dict[str, Any]
"""A value of the type ``question``: each of its fields."""

# A Cassandra key holds at most 65,535 bytes, and three or four ids, whichever of the two keys the table has (spec §4).
LONGEST_ID = 16_000
# The years that a Cassandra timestamp can be read back of, in epoch milliseconds.
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class InvalidAssessment(ValueError):
    """An event that can not be scored because of its data. The message is one line without personal data."""


class Assessment(NamedTuple):
    """What one event says: the attempt of one learner at one content; without ``answers``, a request to recompute.

    ``attempted_on`` is in epoch milliseconds. ``answers`` are the entries of ``events`` as they came.
    """

    enrolment: Enrolment
    content_id: str
    attempt_id: str = ""
    attempted_on: int = 0
    answers: tuple[dict[str, Any], ...] = ()


def assessment_of(parsed: dict[str, Any]) -> Assessment:
    """What an event says. Raises InvalidAssessment. spec: assessment-aggregator §3.1"""
    user_id, course_id, batch_id, content_id = (
        _required_id(parsed, name) for name in ("userId", "courseId", "batchId", "contentId")
    )
    enrolment = Enrolment(user_id, course_id, batch_id)
    answers = parsed.get("events")
    if answers is None or answers == []:
        return Assessment(enrolment, content_id)
    if not isinstance(answers, list):
        raise InvalidAssessment("events is not a list")
    attempt_id = _required_id(parsed, "attemptId")
    attempted_on = _epoch_millis("assessmentTs", parsed.get("assessmentTs"))
    for answer in answers:
        _check_answer(answer)
    return Assessment(enrolment, content_id, attempt_id, attempted_on, tuple(answers))


def last_answers(answers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest answer to each question, the first of those of the same time; by the questions' first appearance.

    Answers without the id of a question are answers to the same one. spec: assessment-aggregator §3.3
    """
    latest: dict[str | None, dict[str, Any]] = {}
    for answer in answers:
        question_id = _optional_text(answer["edata"]["item"].get("id"))
        known = latest.get(question_id)
        if known is None or answer["ets"] > known["ets"]:
            latest[question_id] = answer
    return list(latest.values())


def question_of(answer: dict[str, Any]) -> Question:
    """What is stored of an answer. Raises InvalidAssessment. spec: assessment-aggregator §3.5"""
    edata = answer["edata"]
    item = edata["item"]
    try:
        return {
            "id": _optional_text(item.get("id")),
            "assess_ts": int(answer["ets"]),
            "max_score": _number_or_0("maxscore", item.get("maxscore")),
            "score": _number_or_0("score", edata.get("score")),
            "type": _optional_text(item.get("type")),
            "title": _optional_text(item.get("title")),
            "resvalues": _text_maps(edata.get("resvalues")),
            "params": _text_maps(item.get("params")),
            "description": _optional_text(item.get("desc")),
            "duration": Decimal(double_text(_number_or_0("duration", edata.get("duration")))),
        }
    except (RecursionError, TypeError):
        # more levels than can be written
        raise InvalidAssessment("an answer is nested too deeply") from None


def number_of(value: Any) -> float | None:
    """A number, or a text that holds one, as double; None for everything else. spec: assessment-aggregator §2"""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def double_text(value: float) -> str:
    """A finite double as Java writes it: ``3.0``, ``0.25``, ``1.0E7``, ``1.5E-4``."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    written = "".join(map(str, digits))
    fraction = written[1:].rstrip("0") or "0"
    return f"{'-' * sign}{written[0]}.{fraction}E{int(exponent) + len(written) - 1}"


def _required_id(parsed: dict[str, Any], name: str) -> str:
    value = id_at(parsed, name)
    if value is None:
        raise InvalidAssessment(f"{name} is missing, blank or not a string")
    if len(value) > LONGEST_ID // 4 and len(value.encode()) > LONGEST_ID:
        raise InvalidAssessment(f"{name} is longer than {LONGEST_ID} bytes, more than a Cassandra key can hold")
    return value


def _check_answer(answer: Any) -> None:
    if not isinstance(answer, dict):
        raise InvalidAssessment("events[] has an entry that is not an object")
    _epoch_millis("events[].ets", answer.get("ets"))
    edata = answer.get("edata")
    if not isinstance(edata, dict) or not isinstance(edata.get("item"), dict):
        raise InvalidAssessment("events[].edata.item is missing or not an object")


def _epoch_millis(name: str, value: Any) -> int:
    whole = type(value) is int or (type(value) is float and value.is_integer())
    if not whole or not _FIRST <= value <= _LAST:
        raise InvalidAssessment(f"{name} is missing or not a time in epoch milliseconds")
    return int(value)


def _number_or_0(name: str, value: Any) -> float:
    if value is None:
        return 0.0
    number = number_of(value)
    if number is None:
        raise InvalidAssessment(f"events[]: {name} is not a number")
    return number


def _text_maps(entries: Any) -> list[dict[str, str]]:
    """What is no object, and what is null, is left out."""
    if not isinstance(entries, list):
        return []
    return [
        {name: value if type(value) is str else _text(value) for name, value in entry.items() if value is not None}
        for entry in entries
        if isinstance(entry, dict)
    ]


def _optional_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    """A value that is neither text nor null as compact JSON. spec: assessment-aggregator §3.5"""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return double_text(float(value))
    return orjson.dumps(_with_doubles(value)).decode()


def _with_doubles(value: Any) -> Any:
    """All numbers as doubles, and objects without their members that are null."""
    if isinstance(value, dict):
        return {name: _with_doubles(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_with_doubles(member) for member in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
