"""The generate-certificate event: what a certificate needs to know of learner, course, batch and template.

spec: collection-cert-pre-processor §3.7
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["clean_course_name", "generate_event", "issue_date", "recipient_name", "related_data"]

_ESCAPE = re.compile(r"\\([btnfr\"'\\])")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "'": "'", "\\": "\\"}
_CONTROL = re.compile(r"[\x00-\x1f]")


def recipient_name(user: Mapping[str, Any]) -> str:
    """First and last name with a space between; what is absent, null or the text ``null`` counts as empty."""
    return f"{_name(user.get('firstName'))} {_name(user.get('lastName'))}".strip()


def _name(value: Any) -> str:
    return value if isinstance(value, str) and value.lower() != "null" else ""


def clean_course_name(name: str) -> str:
    """Escape sequences as the characters that they stand for, then without control characters."""
    return _CONTROL.sub("", _ESCAPE.sub(lambda escape: _ESCAPED[escape[1]], name))


def issue_date(completed_on: datetime | None, now: int) -> str:
    """The day of completion, or of ``now`` (epoch milliseconds), as ``yyyy-MM-dd`` in UTC.

    ``completed_on`` is in UTC, as Cassandra's client gives it.
    """
    return f"{completed_on or datetime.fromtimestamp(now / 1000, UTC):%Y-%m-%d}"


def related_data(
    batch_id: str,
    course_id: str,
    template_name: str,
    wanted: Mapping[str, Any],
    *,
    user: Mapping[str, Any],
    enrolment: Mapping[str, Any],
    percentages: Mapping[str, float] | None,
    course_name: str,
) -> dict[str, Any]:
    """The member ``related``: the ids and the certificate's name, then what ``additionalProps`` (``wanted``) asks for.

    ``enrolment`` is the row by lower-case column, ``percentages`` the kept scores (None: no score was looked at).
    """

    def names(kind: str) -> list[str]:
        value = wanted.get(kind)
        return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []

    related: dict[str, Any] = {"batchId": batch_id, "courseId": course_id, "type": template_name}
    locations = user.get("userLocations")
    found = {
        place["type"]: place.get("name")
        for place in (locations if isinstance(locations, list) else [])
        if isinstance(place, dict) and place.get("type") in names("location")
    }
    if found:
        related["location"] = found
    if names("enrollment"):
        related["enrollment"] = {
            name: _as_json(enrolment[name.lower()]) for name in names("enrollment") if name.lower() in enrolment
        }
    if "score" in names("assessment") and percentages is not None:
        related["assessment"] = {"score": dict(percentages)}
    related |= {name: user[name] for name in names("user") if name in user}
    if names("course"):
        related["course"] = {"name": course_name}
    return related


def _as_json(value: Any) -> Any:
    """A column's value: timestamps as epoch milliseconds."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=UTC).timestamp() * 1000)
    if isinstance(value, Mapping):
        return {str(name): _as_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def generate_event(
    *,
    user_id: str,
    org_id: str,
    name_of_recipient: str,
    course_name: str,
    batch_id: str,
    template_id: str,
    template_name: str,
    template_url: str,
    issuer: Mapping[str, Any],
    signatories: list[Any],
    old_id: str,
    issued_on: str,
    base_path: str,
    related: Mapping[str, Any],
    now: int,
    new_id: Callable[[], str],
) -> dict[str, Any]:
    """The event; ``now`` in epoch milliseconds, ``issued_on`` as ``yyyy-MM-dd``."""
    return {
        "actor": {"id": "Certificate Generator", "type": "System"},
        "eid": "BE_JOB_REQUEST",
        "edata": {
            "issuedDate": issued_on,
            "data": [{"recipientName": name_of_recipient, "recipientId": user_id}],
            "criteria": {"narrative": template_name},
            "svgTemplate": template_url,
            "oldId": old_id,
            "templateId": template_id,
            "userId": user_id,
            "orgId": org_id,
            "issuer": issuer,
            "signatoryList": signatories,
            "courseName": course_name,
            "basePath": base_path,
            "related": related,
            "name": template_name,
            "tag": batch_id,
        },
        "ets": now,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
        "mid": f"LMS.{new_id()}",
        "object": {"id": user_id, "type": "GenerateCertificate"},
    }
