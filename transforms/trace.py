"""Why a learner has, or has not, progress and a certificate: the verdict of each step, from what was read of it.

Plain functions over plain values. What is met and what is not is decided by the rules of the jobs themselves; here it
is only put into words (certificates: ``transforms.trace_certificate``, topics: ``transforms.trace_records``). No step
holds personal data: ids, counts, times, names of members and of certificates.

spec: activity-aggregate-updater §3
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from transforms.aggregate import Consumed, completed
from transforms.consumption import COMPLETED, Enrolment
from transforms.progress import RETIRED, Relations
from transforms.stores import Row

__all__ = [
    "CERTIFICATE",
    "CONSUMPTION",
    "CRITERIA",
    "ENROLMENT",
    "PROGRESS",
    "RELATIONS",
    "SHOWN",
    "TEMPLATES",
    "Aggregated",
    "Fault",
    "Learner",
    "Step",
    "Unread",
    "Verdict",
    "consumption_step",
    "enrolment_step",
    "first",
    "listed",
    "moment",
    "progress_step",
    "relation_cache_step",
    "row_of",
    "unknown",
]

ENROLMENT = "enrolment"
CONSUMPTION = "consumption"
RELATIONS = "relation cache"
PROGRESS = "progress"
TEMPLATES = "templates"
CRITERIA = "criteria"
CERTIFICATE = "certificate"

# So many ids are shown; ``details`` have all.
SHOWN = 10

_STATUSES = {0: "not started", 1: "in progress", 2: "completed"}


class Verdict(StrEnum):
    """What is to be said of a step."""

    OK = "ok"
    NO = "no"
    UNKNOWN = "unknown"
    """It could not be looked at, or not well enough."""
    NOT_REACHED = "not reached"
    """It does not come to it, because of an earlier step."""


class Unread(NamedTuple):
    """In place of something that could not be read."""

    reason: str


class Fault(NamedTuple):
    """In place of something that the job would get an error for."""

    reason: str


Learner = Enrolment


@dataclass(frozen=True)
class Step:
    """One step of the walk.

    ``looked_at``: the table, key, service or topic; ``found``: what was there, as one text; ``why``: why not, as one
    sentence; ``to_do``: what helps. ``template``: the template's id where a step is about one of them. ``details``:
    the same as values that JSON can hold.
    """

    name: str
    looked_at: str
    found: str
    verdict: Verdict
    why: str = ""
    to_do: str = ""
    template: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def unknown(name: str, looked_at: str, reason: str, template: str | None = None) -> Step:
    """A step that could not be looked at."""
    return Step(name, looked_at, reason, Verdict.UNKNOWN, f"The {name} could not be looked at: {reason}", "", template)


# --- 1: the enrolment


def enrolment_step(table: str, learner: Learner, rows: Sequence[Row] | Unread) -> Step:
    """Whether the learner is enrolled; ``rows`` are the learner's enrolments in all batches of the course."""
    if isinstance(rows, Unread):
        return unknown(ENROLMENT, table, rows.reason)
    row = row_of(learner, rows)
    others = sorted(row["batchid"] for row in rows if row["batchid"] != learner.batch_id)
    if row is None:
        elsewhere = f" The learner is enrolled in another batch of the course: {listed(others)}." if others else ""
        return Step(
            ENROLMENT,
            table,
            f"no row{elsewhere}",
            Verdict.NO,
            f"The learner is not enrolled in this batch.{elsewhere}",
            "Enrol the learner in this batch, or trace the batch that the learner is in.",
            details={"enrolled": False, "otherBatches": others},
        )
    status = row.get("status") or 0
    active = row.get("active") is True
    found = [
        "active" if active else "not active",
        f"status {status} ({_STATUSES.get(status, 'unheard of')})",
        f"progress {row.get('progress') or 0}",
        f"completed on {moment(row['completedon'])}" if row.get("completedon") else "no date of completion",
    ]
    details = {
        "enrolled": True,
        "active": active,
        "status": status,
        "progress": row.get("progress") or 0,
        "completedOn": moment(row.get("completedon")),
        "changedOn": moment(row.get("datetime")),
        "otherBatches": others,
    }
    if active:
        return Step(ENROLMENT, table, ", ".join(found), Verdict.OK, details=details)
    return Step(
        ENROLMENT,
        table,
        ", ".join(found),
        Verdict.NO,
        "The enrolment is not active: the learner left the batch, and gets no certificate.",
        "Let the learner join the batch again.",
        details=details,
    )


def row_of(learner: Learner, rows: Sequence[Row] | Unread) -> Row | None:
    """The row of the learner's batch."""
    if isinstance(rows, Unread):
        return None
    return next((row for row in rows if row["batchid"] == learner.batch_id), None)


# --- 2: what was consumed


def consumption_step(table: str, rows: Sequence[Row] | Unread) -> Step:
    """Which contents the LMS and the job noted; without a completed one there is no progress."""
    if isinstance(rows, Unread):
        return unknown(CONSUMPTION, table, rows.reason)
    consumed = consumed_of(rows)
    done = completed({content: one.status for content, one in consumed.items()})
    uncounted = sorted(content for content in done if not consumed[content].completed_count)
    found = f"{len(consumed)} contents, {len(done)} of them with status 2 (completed)"
    if uncounted:
        found += f"; completed, and not counted by activity-aggregate-updater: {listed(uncounted)}"
    details = {
        "contents": [
            {"id": content, "status": one.status, "viewCount": one.view_count, "completedCount": one.completed_count}
            for content, one in sorted(consumed.items())
        ],
        "completed": sorted(done),
        "uncounted": uncounted,
    }
    if done:
        return Step(CONSUMPTION, table, found, Verdict.OK, details=details)
    what = "opened contents, but completed none" if consumed else "has not consumed any content"
    return Step(
        CONSUMPTION,
        table,
        found if consumed else "no rows",
        Verdict.NO,
        f"The learner {what} of this course in this batch, as far as the LMS knows.",
        "The learner has to go on; if it was done offline, the app has to be online to report it.",
        details=details,
    )


def consumed_of(rows: Sequence[Row] | Unread) -> dict[str, Consumed]:
    """The rows by content."""
    if isinstance(rows, Unread):
        return {}
    return {
        row["contentid"]: Consumed.from_row(row.get("status"), row.get("viewcount"), row.get("completedcount"))
        for row in rows
    }


# --- 3: what the course consists of


def relation_cache_step(
    looked_at: str, course_id: str, relations: Relations | Unread | Fault, status: str | Unread | None, topic: str
) -> Step:
    """Whether the course's leaf nodes are known.

    ``status`` is the search service's word on a course without; ``topic`` is where relation-cache-updater reads.
    """
    event = f"Publish the course again, or send a relation-cache-update event for it on {topic}"
    if isinstance(relations, Unread):
        return unknown(RELATIONS, looked_at, relations.reason)
    if isinstance(relations, Fault):
        why = f"What the relation cache has of the course can not be read: {relations.reason}"
        return Step(RELATIONS, looked_at, relations.reason, Verdict.NO, why, f"Delete the key. {event}.")
    leaf_nodes = relations.leaf_nodes.get((course_id, course_id), frozenset())
    optional = relations.optional_nodes.get((course_id, course_id), frozenset()) & leaf_nodes
    homeless = sorted(content for content in leaf_nodes if not relations.ancestors.get((course_id, content)))
    details = {
        "leafNodes": sorted(leaf_nodes),
        "optionalNodes": sorted(optional),
        "withoutAncestors": homeless,
        "courseStatus": None if isinstance(status, Unread) else status,
    }
    if leaf_nodes:
        found = f"{len(leaf_nodes)} leaf nodes, {len(optional)} of them optional"
        if homeless:
            found += f"; without ancestors, so that they count for no unit: {listed(homeless)}"
        return Step(RELATIONS, looked_at, found, Verdict.OK, details=details)
    said = status.reason if isinstance(status, Unread) else f"the search service says {status or 'nothing of it'}"
    if status == RETIRED:
        why = "The course is retired and has no leaf nodes in the relation cache: nothing is counted any more."
        return Step(RELATIONS, looked_at, f"no leaf nodes; {said}", Verdict.NO, why, f"{event}.", details=details)
    return Step(
        RELATIONS,
        looked_at,
        f"no leaf nodes; {said}",
        Verdict.NO,
        "The relation cache does not have the course's leaf nodes: its events go to the failed topic uncounted.",
        f"{event}; then replay the learner's events from the failed topic.",
        details=details,
    )


# --- 4: progress


class Aggregated(NamedTuple):
    """``completedCount`` of user_activity_agg by course or unit; absent where there is no row."""

    counts: Mapping[str, int]


def progress_step(
    looked_at: str,
    learner: Learner,
    row: Row | None,
    rows: Sequence[Row] | Unread,
    relations: Relations | Unread | Fault,
    aggregated: Aggregated | Unread,
    sync_topic: str,
) -> Step:
    """What the consumption comes to, and whether the enrolment says the same. spec: activity-aggregate-updater §3.5"""
    is_complete = row is not None and row.get("status") == COMPLETED
    if isinstance(rows, Unread) or isinstance(relations, Unread | Fault):
        if is_complete:
            return Step(PROGRESS, looked_at, "the enrolment is complete", Verdict.OK, details={"complete": True})
        return Step(PROGRESS, looked_at, "contents and leaf nodes were not both read", Verdict.NOT_REACHED)
    counted = _Counted.of(learner.course_id, rows, relations)
    if not counted.has_leaf_nodes:
        if is_complete:
            found = "the enrolment is complete, and stays so without leaf nodes"
            return Step(PROGRESS, looked_at, found, Verdict.OK, details={"complete": True})
        return Step(PROGRESS, looked_at, "no leaf nodes to compare with", Verdict.NOT_REACHED)
    aggregates = {} if isinstance(aggregated, Unread) else aggregated.counts
    units = [
        {"id": unit, "done": done, "required": required, "aggregated": aggregates.get(unit)}
        for unit, (done, required) in counted.units.items()
    ]
    noted = (row.get("progress") or 0) if row else 0
    if is_complete:
        judged = _Judged(_how_complete(counted), Verdict.OK)
    elif row is None:
        judged = _Judged(f"{counted.share}; no enrolment to note it in", Verdict.NOT_REACHED)
    else:
        judged = _incomplete(counted, noted, sync_topic)
    of_units = ", ".join(f"{unit['id']} {unit['done']}/{unit['required']}" for unit in units[:SHOWN])
    more = f" and {len(units) - SHOWN} more" if len(units) > SHOWN else ""
    details = {
        "complete": is_complete,
        "required": sorted(counted.required),
        "done": sorted(counted.done),
        "missing": counted.missing,
        "noted": noted,
        "aggregated": aggregates.get(learner.course_id),
        "units": units,
    }
    found = f"{judged.found}; units: {of_units}{more}" if units else judged.found
    return Step(PROGRESS, looked_at, found, judged.verdict, judged.why, judged.to_do, details=details)


class _Judged(NamedTuple):
    found: str
    verdict: Verdict
    why: str = ""
    to_do: str = ""


@dataclass(frozen=True)
class _Counted:
    """What the consumption comes to; ``units``: of each, how many contents are done and how many are required."""

    has_leaf_nodes: bool
    has_completed: bool
    required: frozenset[str]
    done: frozenset[str]
    units: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, course: str, rows: Sequence[Row], relations: Relations) -> _Counted:
        all_done = completed({content: one.status for content, one in consumed_of(rows).items()})
        leaf_nodes = relations.leaf_nodes.get((course, course), frozenset())
        required = relations.required(course, course)
        of_units = {unit: relations.required(course, unit) for unit in sorted(relations.units(course, leaf_nodes))}
        units = {unit: (len(contents & all_done), len(contents)) for unit, contents in of_units.items()}
        return cls(bool(leaf_nodes), bool(all_done), required, required & all_done, units)

    @property
    def missing(self) -> list[str]:
        return sorted(self.required - self.done)

    @property
    def share(self) -> str:
        return f"{len(self.done)} of {len(self.required)} required contents done"


def _how_complete(counted: _Counted) -> str:
    if not counted.required:
        return "complete: every leaf node is optional, so the first completed content completes the course"
    if counted.missing:
        return f"the enrolment is complete and stays so, although {counted.share}"
    return f"complete: {counted.share}"


def _incomplete(counted: _Counted, noted: int, sync_topic: str) -> _Judged:
    sync = f"Send a sync for the learner (a user-enrolment-sync event on {sync_topic})"
    if counted.has_completed and not counted.missing:
        why = f"All {len(counted.required)} required contents are completed, but the enrolment does not say so."
        return _Judged(f"{counted.share}; the enrolment says {noted}, not complete", Verdict.NO, why, f"{sync}.")
    missing = listed(counted.missing) or "a first completed content"
    found = f"{counted.share}, missing: {missing}"
    why = f"The course is not complete: {found}."
    to_do = "The learner has to complete the missing contents."
    if noted == len(counted.done):
        return _Judged(found, Verdict.NO, why, to_do)
    said = f"the enrolment says {noted}"
    return _Judged(f"{found}; {said}", Verdict.NO, f"{why[:-1]}; {said}.", f"{to_do} {sync} to correct the number.")


# --- words


def listed(ids: Collection[str]) -> str:
    """The first ids, and how many more there are."""
    shown = ", ".join(list(ids)[:SHOWN])
    return f"{shown} and {len(ids) - SHOWN} more" if len(ids) > SHOWN else shown


def moment(value: datetime | int | None) -> str | None:
    """A time in UTC: a naive datetime as Cassandra's client gives it, or epoch milliseconds."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def first(steps: Iterable[Step], *verdicts: Verdict) -> Step | None:
    """The first step with one of these verdicts."""
    return next((step for step in steps if step.verdict in verdicts), None)
