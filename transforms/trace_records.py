"""What the topics say of a learner: requests for certificates, dead letters, and what waits to be handled.

Plain functions over records that were read; nothing of a record is shown but where it stands and why it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from transforms.consumption import Enrolment
from transforms.decode import NotAnObject, id_at, parse_object, value_at
from transforms.issue_requests import issue_request_of
from transforms.trace import Step, Unread, Verdict, moment, unknown

__all__ = [
    "BACKLOG",
    "DEAD_LETTERS",
    "REQUESTS",
    "Backlog",
    "FoundRecord",
    "Tail",
    "asks_to_generate",
    "asks_to_issue",
    "backlog_step",
    "dead_letters_step",
    "failure_of",
    "might_name",
    "requests_step",
]

REQUESTS = "requests"
DEAD_LETTERS = "dead letters"
BACKLOG = "backlog"

# of each topic, the newest
_SHOWN = 3
_LONGEST_REASON = 300


class FoundRecord(NamedTuple):
    """A record that is about the learner; ``timestamp`` in epoch milliseconds, ``reason`` of a dead letter."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    reason: str = ""

    @property
    def place(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    def as_details(self) -> dict[str, Any]:
        details: dict[str, Any] = self._asdict() | {"timestamp": moment(self.timestamp)}
        if not self.reason:
            del details["reason"]
        return details


class Tail(NamedTuple):
    """What was found at the end of a topic: ``read`` records of the ``wanted`` last ones, of ``total`` that it has."""

    found: Sequence[FoundRecord]
    read: int
    wanted: int
    total: int

    @property
    def is_cut(self) -> bool:
        """Whether the time was up before all was looked at."""
        return self.read < self.wanted

    @property
    def extent(self) -> str:
        """How much of the topic was looked at."""
        if self.is_cut:
            return f"the time was up after {self.read:,} of the last {self.wanted:,} records"
        return f"all {self.total:,} records" if self.wanted >= self.total else f"the last {self.wanted:,} records"


class Backlog(NamedTuple):
    """Where a group stands in its topic: by partition the committed offset (None: none) and the waiting records."""

    group: str
    committed: Mapping[int, int | None]
    waiting: Mapping[int, int]


# --- which records are about the learner


def might_name(learner: Enrolment) -> Callable[[bytes | None], bool]:
    """A test of a value that costs little: false only for records that surely do not name the learner."""
    plain = learner.user_id.encode()
    # JSON may write other characters in several ways
    is_sure = learner.user_id.isascii() and learner.user_id.isprintable() and not set(learner.user_id) & set('"\\/')
    return lambda value: value is not None and (not is_sure or plain in value)


def asks_to_issue(value: bytes, learner: Enrolment) -> bool:
    """Whether an event asks to check this learner. spec: collection-cert-pre-processor §2"""
    request = issue_request_of(_object(value) or {})
    return request is not None and (
        (request.course_id, request.batch_id) == (learner.course_id, learner.batch_id)
        and learner.user_id in request.user_ids
    )


def asks_to_generate(value: bytes, learner: Enrolment) -> bool:
    """Whether an event asks for a certificate of this learner. spec: collection-certificate-generator §2"""
    parsed = _object(value)
    return (
        parsed is not None
        and learner.user_id in _users(parsed)
        and id_at(parsed, "edata.related.courseId") == learner.course_id
        and id_at(parsed, "edata.related.batchId") == learner.batch_id
    )


def failure_of(value: bytes, learner: Enrolment) -> str | None:
    """Why a dead letter failed; None when it does not name the learner, or names another course or batch of his."""
    parsed = _object(value)
    if parsed is None:
        return None
    raw = parsed.get("rawEvent")
    names = learner.user_id in raw if isinstance(raw, str) else learner.user_id in _users(parsed)
    for wanted, paths in (
        (learner.course_id, ("courseId", "edata.courseId", "edata.related.courseId")),
        (learner.batch_id, ("batchId", "edata.batchId", "edata.related.batchId")),
    ):
        found = next((one for path in paths if (one := id_at(parsed, path)) is not None), wanted)
        names = names and found == wanted
    if not names:
        return None
    reason = value_at(parsed, "failInfo.error")
    if isinstance(reason, str) and reason:
        reason = " ".join(reason.split())
        return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
    if isinstance(parsed.get("contents"), dict):
        return "the course had no leaf nodes in the relation cache"
    return "without a reason"


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(value)
    except NotAnObject:
        return None


def _users(parsed: dict[str, Any]) -> set[str]:
    users = {id_at(parsed, "userId"), id_at(parsed, "edata.userId")}
    listed, data = value_at(parsed, "edata.userIds"), value_at(parsed, "edata.data")
    users.update(user for user in (listed if isinstance(listed, list) else ()) if isinstance(user, str))
    users.update(id_at(element, "recipientId") for element in (data if isinstance(data, list) else ()))
    return {user for user in users if user is not None}


# --- 8: what the topics say


def requests_step(issue: Tail | Unread, generate: Tail | Unread, looked_at: tuple[str, str], is_due: bool) -> Step:
    """Whether the certificate was asked for; ``is_due``: it is missing although the criteria are met."""
    topics = ", ".join(looked_at)
    for tail in (issue, generate):
        if isinstance(tail, Unread):
            return unknown(REQUESTS, topics, tail.reason)
    assert isinstance(issue, Tail)  # noqa: S101 - the types of what was just asked
    assert isinstance(generate, Tail)  # noqa: S101
    found = "; ".join(
        f"{topic}: {_newest(tail)} ({tail.extent})" for topic, tail in zip(looked_at, (issue, generate), strict=True)
    )
    details = {
        "issue": [record.as_details() for record in issue.found],
        "generate": [record.as_details() for record in generate.found],
        "read": {looked_at[0]: issue.read, looked_at[1]: generate.read},
    }
    if not is_due or issue.found or generate.found:
        return Step(REQUESTS, topics, found, Verdict.OK, details=details)
    if issue.is_cut or generate.is_cut:
        return replace(unknown(REQUESTS, topics, found), details=details)
    return Step(
        REQUESTS,
        topics,
        found,
        Verdict.NO,
        f"No request for it was found ({looked_at[0]}: {issue.extent}).",
        ISSUE,
        details=details,
    )


ISSUE = "Issue the certificate: POST /v1/course/batch/cert/issue with this learner, or an issue-certificate event."


def _newest(tail: Tail) -> str:
    if not tail.found:
        return "no request"
    newest = max(tail.found, key=lambda record: record.timestamp)
    return f"{len(tail.found)} for the learner, the newest at {newest.place} of {moment(newest.timestamp)}"


def dead_letters_step(tails: Mapping[str, Tail | Unread], telling: Collection[str]) -> Step:
    """The dead letters that name the learner, by topic; those on ``telling`` topics tell why something is missing."""
    topics = ", ".join(tails)
    unread = [tail.reason for tail in tails.values() if isinstance(tail, Unread)]
    read = {topic: tail for topic, tail in tails.items() if isinstance(tail, Tail)}
    letters = sorted(
        (record for tail in read.values() for record in tail.found), key=lambda record: record.timestamp, reverse=True
    )
    if not read:
        return unknown(DEAD_LETTERS, topics, "; ".join(dict.fromkeys(unread)))
    shown = "; ".join(f"{one.place} of {moment(one.timestamp)}: {one.reason}" for one in letters[:_SHOWN])
    extents = ", ".join(f"{topic}: {tail.extent}" for topic, tail in read.items())
    found = f"{len(letters)} about the learner: {shown}" if letters else f"none about the learner ({extents})"
    found = "; ".join([found, *unread])
    details = {
        "letters": [record.as_details() for record in letters],
        "read": {topic: tail.read for topic, tail in read.items()},
    }
    if not letters and (unread or any(tail.is_cut for tail in read.values())):
        return replace(unknown(DEAD_LETTERS, topics, found), details=details)
    newest = next((letter for letter in letters if letter.topic in telling), None)
    if newest is None:
        return Step(DEAD_LETTERS, topics, found, Verdict.OK, details=details)
    return Step(
        DEAD_LETTERS,
        topics,
        found,
        Verdict.NO,
        f"A record about the learner failed on {moment(newest.timestamp)}: {newest.reason}.",
        f"Mend what it says, then send the record at {newest.place} again to the topic that it came from.",
        details=details,
    )


def backlog_step(backlogs: Mapping[str, Backlog | Unread], requests: Sequence[FoundRecord], is_missing: bool) -> Step:
    """How much waits for the three jobs, by topic; whether one of the learner's requests does."""
    looked_at = ", ".join(f"{one.group}" for one in backlogs.values() if isinstance(one, Backlog)) or "consumer groups"
    read = {topic: one for topic, one in backlogs.items() if isinstance(one, Backlog)}
    unread = [one.reason for one in backlogs.values() if isinstance(one, Unread)]
    if not read:
        return unknown(BACKLOG, looked_at, "; ".join(dict.fromkeys(unread)))
    idle = [one.group for one in read.values() if all(offset is None for offset in one.committed.values())]
    late = {topic: sum(one.waiting.values()) for topic, one in read.items()}
    waiting = [
        record
        for record in requests
        if (one := read.get(record.topic)) and record.offset >= (one.committed.get(record.partition) or 0)
    ]
    found = "; ".join(
        f"{topic}: {late[topic]:,} records wait" + (f", {one.group} has never committed" if one.group in idle else "")
        for topic, one in read.items()
    )
    details = {
        "groups": [
            {"group": one.group, "topic": topic, "waiting": late[topic], "hasCommitted": one.group not in idle}
            for topic, one in read.items()
        ],
        "learnersRequestsWaiting": [record.as_details() for record in waiting],
    }
    if not is_missing or not any(late.values()):
        return Step(BACKLOG, looked_at, "; ".join([found, *unread]), Verdict.OK, details=details)
    why = "Records wait for the jobs, perhaps the learner's among them."
    if waiting:
        why = f"The learner's request at {waiting[-1].place} waits for {read[waiting[-1].topic].group}."
    return Step(
        BACKLOG,
        looked_at,
        "; ".join([found, *unread]),
        Verdict.NO,
        why,
        "See that the job runs with this group (kafka.groupId); then wait until it has caught up.",
        details=details,
    )
