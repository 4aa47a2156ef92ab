"""What the stores hold of learners, held against what a scenario implies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from deploy.local.scenario import COMPLETED, Course, EndState, Enrolment


@dataclass(slots=True)
class Stored:
    """What the tables hold of an enrolment.

    ``status`` is None without a row, ``completed_on`` in UTC. ``aggregates``: activity -> completed contents.
    ``counted``: content -> (views, completions), of the contents that have any.
    """

    status: int | None = None
    progress: int | None = None
    completed_on: datetime | None = None
    content_status: Mapping[str, int] = field(default_factory=dict)
    aggregates: dict[str, int] = field(default_factory=dict)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)


class Reader:
    """Reads what the tables hold of enrolments; many at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._enrolment = session.prepare(
            "SELECT status, progress, completedon, contentstatus FROM sunbird_courses.user_enrolments "
            "WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        self._aggregates = session.prepare(
            "SELECT aggregates FROM sunbird_courses.user_activity_agg "
            "WHERE activity_type = 'Course' AND activity_id = ? AND user_id = ? AND context_id = ?"
        )
        self._consumption = session.prepare(
            "SELECT contentid, viewcount, completedcount FROM sunbird_courses.user_content_consumption "
            "WHERE userid = ? AND courseid = ? AND batchid = ?"
        )

    def read(self, courses: Collection[Course], enrolments: Collection[Enrolment]) -> dict[Enrolment, Stored]:
        """What is stored of each enrolment; all of them are of one of the courses."""
        units = {course.id: [course.id, *course.units] for course in courses}
        found = {enrolment: Stored() for enrolment in enrolments}
        for enrolment, rows in zip(found, self._rows(self._enrolment, list(found)), strict=True):
            for row in rows:
                stored = found[enrolment]
                stored.status, stored.progress = row.status or 0, row.progress
                stored.completed_on = row.completedon.replace(tzinfo=UTC) if row.completedon else None
                stored.content_status = dict(row.contentstatus or {})
        for enrolment, rows in zip(found, self._rows(self._consumption, list(found)), strict=True):
            found[enrolment].counted = {
                row.contentid: (row.viewcount or 0, row.completedcount or 0)
                for row in rows
                if row.viewcount or row.completedcount
            }
        activities = [(enrolment, activity) for enrolment in found for activity in units[enrolment.course_id]]
        keys = [(activity, enrolment.user_id, f"cb:{enrolment.batch_id}") for enrolment, activity in activities]
        for (enrolment, activity), rows in zip(activities, self._rows(self._aggregates, keys), strict=True):
            for row in rows:
                if "completedCount" in (row.aggregates or {}):
                    found[enrolment].aggregates[activity] = int(row.aggregates["completedCount"])
        return found

    def _rows(self, statement: Any, keys: Sequence[tuple[str, ...]]) -> list[Any]:
        results = execute_concurrent_with_args(self._session, statement, keys, concurrency=64)
        return [result.result_or_exc.all() for result in results]


def differences(enrolment: Enrolment, wanted: EndState, stored: Stored) -> list[str]:
    """What is not as it should be, a line for each; empty when all of it is right."""
    found: list[str] = []

    def check(what: str, is_: object, should_be: object) -> None:
        if is_ != should_be:
            found.append(f"{enrolment.user_id}: {what} is {is_}, not {should_be}")

    check("the enrolment's status", stored.status, wanted.status)
    check("the progress", stored.progress, wanted.progress)
    check("completedon is set", stored.completed_on is not None, wanted.status == COMPLETED)
    for activity in sorted({*stored.aggregates, *wanted.aggregates}):
        check(f"the aggregate of {activity}", stored.aggregates.get(activity, 0), wanted.aggregates.get(activity, 0))
    for content in sorted({*stored.counted, *wanted.counted}):
        once = (1, 1) if content in wanted.counted else (0, 0)
        check(f"(views, completions) of {content}", stored.counted.get(content, (0, 0)), once)
    # a content that came after the enrolment was complete is no part of it any more
    completed = {content for content, status in stored.content_status.items() if status == COMPLETED}
    if not completed <= wanted.counted or (wanted.progress is not None and len(completed) < wanted.progress):
        found.append(f"{enrolment.user_id}: contentstatus has the completed contents {sorted(completed)}")
    return found
