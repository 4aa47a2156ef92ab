"""Who gets a certificate: the criteria of a batch's templates, as plain functions over plain values.

Each check answers with the reason why not, as one line for an operator, or None when it is met. They read nothing and
know no job, so they can be used alone: a template's ``criteria``, an enrolment row, a score and a user go in.

spec: collection-cert-pre-processor §3.3-§3.6
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transforms.certificate_templates import BrokenTemplate, Template

__all__ = [
    "InvalidCriteria",
    "check_enrolment",
    "check_score",
    "check_user",
    "criteria_of",
    "issued_entry",
    "json_equal",
    "number_of",
    "score_percentages",
    "valid_criteria",
]

COMPLETED = 2

_MEMBERS = ("enrollment", "assessment", "user", "users")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "EQ": operator.eq,
    "eq": operator.eq,
    "=": operator.eq,
    "ne": operator.ne,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


class InvalidCriteria(ValueError):
    """The criteria can not be what anybody meant. Nobody gets a certificate by them until they are corrected."""


def valid_criteria(criteria: Any) -> dict[str, Any]:
    """The criteria of a template, as its JSON gave them. Raises InvalidCriteria.

    They are an object with at least one of ``enrollment``, ``assessment``, ``user`` and ``users``, and each of these
    that is there is an object. spec: collection-cert-pre-processor §3.3
    """
    if not isinstance(criteria, dict) or not any(name in criteria for name in _MEMBERS):
        raise InvalidCriteria(f"criteria without any of {', '.join(_MEMBERS)}")
    for name in _MEMBERS:
        # what is no object would be no condition at all, and everybody would be given a certificate
        if not isinstance(criteria.get(name), dict | None):
            raise InvalidCriteria(f"criteria.{name} is no object")
    return criteria


def criteria_of(template: Template) -> dict[str, Any]:
    """A template's criteria, as ``valid_criteria``. Raises InvalidCriteria, also for a text that is no JSON object."""
    try:
        return valid_criteria(template.json_object("criteria"))
    except BrokenTemplate as error:
        raise InvalidCriteria(str(error)) from error


def issued_entry(issued: Iterable[Mapping[str, str]] | None, name: str) -> Mapping[str, str] | None:
    """The first entry of ``issued_certificates`` with this name, in whatever case. spec: …-pre-processor §3.4"""
    return next((entry for entry in issued or () if (entry.get("name") or "").lower() == name.lower()), None)


def check_enrolment(criteria: Mapping[str, Any], row: Mapping[str, Any] | None, name: str, reissue: bool) -> str | None:
    """Whether the enrolment ``row`` (None when there is none) allows the certificate ``name``.

    A column that the row lacks counts as null. spec: collection-cert-pre-processor §3.4
    """
    if row is None:
        return "no enrolment in the batch"
    if row.get("active") is not True:
        return "the enrolment is not active"
    if not reissue and issued_entry(row.get("issued_certificates"), name) is not None:
        return "already issued"
    wanted = criteria.get("enrollment") or {}
    if wanted:
        status = wanted.get("status")
        has = row.get("status") or 0
        if number_of(COMPLETED if status is None else status) != has:
            return f"enrolment status is {has}, wanted {COMPLETED if status is None else status}"
    return None


def score_percentages(agg: Mapping[str, float] | None, aggregates: Mapping[str, float] | None) -> dict[str, float]:
    """The percentage of each content that has a score; 0.0 where the greatest possible score is not above 0.

    ``aggregates`` wins over the older ``agg``. spec: collection-cert-pre-processor §3.5
    """
    known = {**(agg or {}), **(aggregates or {})}
    percentages = {}
    for name, score in known.items():
        if name.startswith("score:"):
            content = name.removeprefix("score:")
            most = known.get(f"max_score:{content}", 1.0)
            percentage = float(score) * 100.0 / most if most > 0 else 0.0
            percentages[content] = percentage if math.isfinite(percentage) else 0.0
    return percentages


def check_score(criteria: Mapping[str, Any], best: float) -> str | None:
    """Whether the best percentage fulfils ``criteria.assessment.score``. Raises InvalidCriteria.

    A number must be equal; of an object ``{operator: number}`` every entry must hold, and an operator that nobody
    knows never does. spec: collection-cert-pre-processor §3.5
    """
    wanted = (criteria.get("assessment") or {}).get("score")
    if wanted is None:
        return "criteria.assessment has no score"
    if not isinstance(wanted, dict):
        wanted = {"=": wanted}
    elif not wanted:
        return "criteria.assessment.score has no operator"
    if unknown := [name for name in wanted if name not in _OPERATORS]:
        return f"criteria.assessment.score: unknown operator {unknown[0]}"
    for name, value in wanted.items():
        limit = number_of(value)
        if limit is None:
            raise InvalidCriteria("criteria.assessment.score is no number")
        if not _OPERATORS[name](best, limit):
            return f"best score is {best:g}, wanted {name} {limit:g}"
    return None


def check_user(criteria: Mapping[str, Any], user: Mapping[str, Any]) -> str | None:
    """Whether the user has every member of ``criteria.user`` and ``criteria.users``, equal as JSON.

    spec: collection-cert-pre-processor §3.6
    """
    for members in ("user", "users"):
        for name, wanted in (criteria.get(members) or {}).items():
            if name not in user or not json_equal(user[name], wanted):
                return f"the user's {name} is another one"
    return None


def number_of(value: Any) -> float | None:
    """A number, or a text that is one; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def json_equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(json_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(json_equal, one, other))
    return bool(one == other)
