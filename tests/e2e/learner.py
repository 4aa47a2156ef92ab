"""A learner of the acceptance cases in an installation: what the LMS wrote, what the progress job made of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from schemas import redis_keys
from tests.e2e.installation import PROGRESS, Installation, Written
from transforms.consumption import Enrolment
from transforms.dedup import checksum

CONSUMPTION = "sunbird_courses.user_content_consumption"
AGGREGATES = "sunbird_courses.user_activity_agg"
ENROLMENTS = "sunbird_courses.user_enrolments"

BATCH = "B"

_numbers = itertools.count(1)


@dataclass
class Learner:
    """Somebody with a course of their own: contents a, b, c, d in units U1 {a, b} and U2 {c, d}, enrolled.

    spec: activity-aggregate-updater §9
    """

    site: Installation
    enrolled: bool = True
    cached: bool = True
    user: str = field(init=False)
    course: str = field(init=False)

    def __post_init__(self) -> None:
        number = next(_numbers)
        self.user = self.site.name(f"learner-{number}")
        self.course = self.site.name(f"do_{number}")
        if self.cached:
            self.relate("leafnodes", {self.course: "abcd", "U1": "ab", "U2": "cd"})
            above = {"a": ["U1"], "b": ["U1"], "c": ["U2"], "d": ["U2"]}
            self.relate("ancestors", {content: [*units, self.course] for content, units in above.items()})
        if self.enrolled:
            self.enrol()

    @property
    def enrolment_id(self) -> Enrolment:
        return Enrolment(self.user, self.course, BATCH)

    # --- given

    def relate(self, kind: str, sets: Mapping[str, Collection[str]]) -> None:
        for name, members in sets.items():
            self.site.relation_cache.sadd(getattr(redis_keys, kind)(self.course, name), *members)

    def enrol(self, status: int = 0, **columns: Any) -> None:
        self.site.insert(ENROLMENTS, userid=self.user, courseid=self.course, batchid=BATCH, status=status, **columns)

    def consumed(self, content: str, status: int = 2, views: int = 1, completions: int = 1) -> None:
        counts = {"status": status, "viewcount": views, "completedcount": completions}
        key = {"userid": self.user, "courseid": self.course, "batchid": BATCH, "contentid": content}
        self.site.insert(CONSUMPTION, **key, **counts)

    def event(self, *contents: str | tuple[str, Any], **changed: Any) -> bytes:
        """An event that reports contents as completed, or with the status given."""
        pairs = [content if isinstance(content, tuple) else (content, 2) for content in contents]
        edata = {
            "action": "batch-enrolment-update",
            "iteration": 1,
            "userId": self.user,
            "courseId": self.course,
            "batchId": BATCH,
            "contents": [{"contentId": content, "status": status} for content, status in pairs],
        }
        return orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_718_000_000_123, "edata": {**edata, **changed}})

    # --- when

    def reports(self, *contents: str | tuple[str, Any]) -> None:
        """One event; returns when the job has handled it."""
        self.site.consume(self.event(*contents), user=self.user)

    # --- then

    def counts(self, content: str) -> tuple[Any, Any, Any] | None:
        """(status, views, completions) of a content; None without a row."""
        row = self.site.row(CONSUMPTION, userid=self.user, courseid=self.course, batchid=BATCH, contentid=content)
        return row and (row["status"], row["viewcount"], row["completedcount"])

    @property
    def enrolment(self) -> dict[str, Any] | None:
        return self.site.row(ENROLMENTS, userid=self.user, courseid=self.course, batchid=BATCH)

    @property
    def progress(self) -> tuple[int | None, int | None, datetime | None]:
        """(status, progress, completedon) of the enrolment."""
        row = self.enrolment
        assert row is not None
        return row["status"], row["progress"], row["completedon"]

    def aggregates(self, *activities: str) -> dict[str, dict[str, float]]:
        """What is aggregated of each activity that has a row; C is the course."""
        found = {}
        for activity in activities or ("C", "U1", "U2", "M"):
            row = self.site.row(
                AGGREGATES,
                activity_type="Course",
                activity_id=self.course if activity == "C" else activity,
                user_id=self.user,
                context_id=f"cb:{BATCH}",
            )
            if row is not None:
                found[activity] = dict(row["aggregates"])
        return found

    def done(self) -> dict[str, float]:
        return {activity: aggregates["completedCount"] for activity, aggregates in self.aggregates().items()}

    def checksum_lives(self, content: str) -> int | None:
        """The seconds that the checksum of a content lives; None when it is not stored."""
        key = checksum(self.enrolment_id, content)
        if self.site.dedup.get(key) != "":
            return None
        return int(self.site.dedup.ttl(key))

    def audits(self, written: list[Written]) -> Counter[tuple[str, str]]:
        """(object id, type) of the AUDIT events about this learner."""
        events = [record.event for record in written if record.topic == self.site.topics.audit]
        return Counter((e["object"]["id"], e["edata"]["type"]) for e in events if e["actor"]["id"] == self.user)

    def certificate_requests(self, written: list[Written]) -> list[dict[str, Any]]:
        events = [record.event for record in written if record.topic == self.site.topics.certificates]
        return [event for event in events if event["edata"]["userIds"] == [self.user]]


def failed(site: Installation, written: list[Written], job: str = PROGRESS) -> list[dict[str, Any]]:
    """What came onto a job's failed topic."""
    return [record.event for record in written if record.topic == site.topics.failed_of(job)]
