"""The events that a progress job writes: AUDIT telemetry and the certificate request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from transforms.aggregate import COMPLETE, START
from transforms.consumption import Enrolment

__all__ = ["certificate_request", "content_audit", "enrolment_audit"]

NewId = Callable[[], str]
"""Gives a fresh random UUID (version 4) as text at each call."""

_CONTENT_PROPS = {START: ["viewcount"], COMPLETE: ["viewcount", "completedcount"]}


def content_audit(enrolment: Enrolment, content_id: str, action: str, now: int, new_id: NewId) -> bytes:
    """A learner's first view (START) or first completion (COMPLETE) of a content; ``now`` in epoch milliseconds.

    spec: activity-aggregate-updater §3.10 a
    """
    return _audit(
        enrolment,
        edata={"props": _CONTENT_PROPS[action], "type": action},
        cdata=[{"type": "CourseBatch", "id": enrolment.batch_id}],
        about={"id": content_id, "type": "Content"},
        now=now,
        new_id=new_id,
    )


def enrolment_audit(enrolment: Enrolment, now: int, new_id: NewId) -> bytes:
    """A learner's completion of a course; ``now`` in epoch milliseconds. spec: activity-aggregate-updater §3.10 b"""
    return _audit(
        enrolment,
        edata={"props": ["status", "completedon"], "type": "enrol-complete"},
        cdata=[{"type": "CourseBatch", "id": enrolment.batch_id}, {"type": "Course", "id": enrolment.course_id}],
        about={"id": enrolment.user_id, "type": "User"},
        now=now,
        new_id=new_id,
    )


def certificate_request(enrolment: Enrolment, now: int, new_id: NewId, attempt_id: str | None = None) -> bytes:
    """The request for a certificate; ``now`` in epoch milliseconds, ``attempt_id`` when an attempt is the reason.

    spec: activity-aggregate-updater §3.10 b, assessment-aggregator §3.8
    """
    user_id, course_id, batch_id = enrolment
    return orjson.dumps(
        {
            "eid": "BE_JOB_REQUEST",
            "ets": now,
            "mid": f"LP.{now}.{new_id()}",
            "actor": {"id": "Course Certificate Generator", "type": "System"},
            "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
            "object": {"id": f"{batch_id}_{course_id}", "type": "CourseCertificateGeneration"},
            "edata": {
                "userIds": [user_id],
                "action": "issue-certificate",
                "iteration": 1,
                "trigger": "auto-issue",
                "batchId": batch_id,
                "reIssue": False,
                "courseId": course_id,
                **({} if attempt_id is None else {"attemptId": attempt_id}),
            },
        }
    )


def _audit(
    enrolment: Enrolment,
    edata: dict[str, Any],
    cdata: list[dict[str, str]],
    about: dict[str, str],
    now: int,
    new_id: NewId,
) -> bytes:
    """An AUDIT event of the course-progress jobs. spec: core §1.2"""
    return orjson.dumps(
        {
            "actor": {"id": enrolment.user_id, "type": "User"},
            "eid": "AUDIT",
            "edata": edata,
            "ver": "3.0",
            "syncts": now,
            "ets": now,
            "context": {
                "channel": "in.sunbird",
                "env": "Course",
                "sid": new_id(),
                "did": new_id(),
                "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "course-progress-updater"},
                "cdata": cdata,
            },
            "mid": f"LP.AUDIT.{new_id()}",
            "object": {**about, "rollup": {"l1": enrolment.course_id}},
            "tags": [],
        }
    )
