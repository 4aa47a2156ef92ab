"""One person's two accounts: what of the source's learning record the target's rows get.

Pure functions over rows as the tables have them: a timestamp is a datetime, a null None. What they give is only what
differs from what the target has, so that what others write to its rows meanwhile stays.

spec: merge-user-courses §3
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from transforms.decode import id_at
from transforms.java_dates import epoch_millis_of
from transforms.stores import Row

__all__ = [
    "AggregateChange",
    "InvalidMerge",
    "Merge",
    "aggregate_change",
    "consumption_changes",
    "enrolments_to_carry",
    "merge_of",
    "sync_event",
]

INVALID = "ERR_MERGE_USER_COURSES_SAMZA"
COMPLETED_COUNT = "completedCount"

ENROLMENT_KEY = ("courseid", "batchid")
CONSUMPTION_KEY = (*ENROLMENT_KEY, "contentid")

_LATER_TEXTS = ("lastaccesstime", "lastcompletedtime", "lastupdatedtime")
_GREATER = ("status", "progress", "datetime", "last_access_time", "last_completed_time", "last_updated_time")
_SUMS = ("viewcount", "completedcount")

Key = tuple[str, ...]


class InvalidMerge(ValueError):
    """An event that names no two accounts."""


class Merge(NamedTuple):
    """The account whose record is carried over, and the one that gets it."""

    source: str
    target: str


def merge_of(parsed: dict[str, Any]) -> Merge:
    """The accounts that an event names. Raises InvalidMerge. spec: merge-user-courses §2"""
    source, target = id_at(parsed, "edata.fromAccountId"), id_at(parsed, "edata.toAccountId")
    if source is None or target is None or source == target:
        raise InvalidMerge(INVALID)
    return Merge(source, target)


def consumption_changes(source: Iterable[Row], target: Iterable[Row], date_format: str) -> dict[Key, dict[str, Any]]:
    """What to write to the target's consumption: (courseid, batchid, contentid) -> columns.

    ``date_format`` is Java's pattern of the texts with a date. spec: merge-user-courses §3.1
    """
    # of several that match, the last
    known = {tuple(part.lower() for part in _key(row, CONSUMPTION_KEY)): row for row in target}
    changes: dict[Key, dict[str, Any]] = {}
    for row in source:
        key = _key(row, CONSUMPTION_KEY)
        met = known.get(tuple(part.lower() for part in key))
        if met is None:
            changes[key] = carried_columns(row, CONSUMPTION_KEY)
            continue
        met_key = _key(met, CONSUMPTION_KEY)
        so_far = changes.setdefault(met_key, {})
        so_far |= _merged(row, {**met, **so_far}, date_format)
    return {key: columns for key, columns in changes.items() if columns}


def carried_columns(row: Row, key: Sequence[str]) -> dict[str, Any]:
    """All columns of a row that hold something, but for the user and the rest of the key."""
    return {name: value for name, value in row.items() if value is not None and name not in ("userid", *key)}


def _key(row: Row, columns: Sequence[str]) -> Key:
    return tuple(row[column] for column in columns)


def _merged(source: Row, target: Row, date_format: str) -> dict[str, Any]:
    """The columns of the target's row that change."""

    def later(mine: str, theirs: str) -> str:
        my_moment, their_moment = epoch_millis_of(mine, date_format), epoch_millis_of(theirs, date_format)
        if my_moment is None or (their_moment is not None and my_moment <= their_moment):
            return theirs
        return mine

    rules: dict[str, Callable[[Any, Any], Any]] = {
        **dict.fromkeys(_GREATER, max),
        **dict.fromkeys(_SUMS, lambda mine, theirs: mine + theirs),
        **dict.fromkeys(_LATER_TEXTS, later),
    }
    changes = {}
    for column, rule in rules.items():
        mine, theirs = source.get(column), target.get(column)
        if mine is None:
            continue
        value = mine if theirs is None else rule(mine, theirs)
        if value != theirs:
            changes[column] = value
    return changes


class AggregateChange(NamedTuple):
    """What to write to an aggregate's row: columns that are replaced, and entries that are added to maps."""

    assign: dict[str, Any]
    add: dict[str, dict[str, Any]]


def aggregate_change(source: Row, target: Row | None, now: int) -> AggregateChange:
    """What the target's row of the same course and context gets; ``now`` in epoch milliseconds.

    ``target`` is None when there is no such row. spec: merge-user-courses §3.2
    """
    mine, theirs = _map(source, "aggregates"), _map(target, "aggregates")
    taken: dict[str, Any] = {}
    for name, value in mine.items():
        of_score = name.removeprefix("max_") if name.startswith("max_score:") else None
        # a largest score goes with its score
        if name == COMPLETED_COUNT or of_score in mine or (name in theirs and value <= theirs[name]):
            continue
        taken[name] = value
        if name.startswith("score:") and f"max_{name}" in mine:
            taken[f"max_{name}"] = mine[f"max_{name}"]
    updated = _map(source, "agg_last_updated")
    completed = max(mine.get(COMPLETED_COUNT, 0.0), theirs.get(COMPLETED_COUNT, 0.0))
    add = {
        "aggregates": {**taken, COMPLETED_COUNT: completed},
        "agg_last_updated": {**{name: updated.get(name, now) for name in taken}, COMPLETED_COUNT: now},
    }
    my_counts, their_counts = _map(source, "agg"), _map(target, "agg")
    counts = {n: value for n, value in my_counts.items() if n not in their_counts or value > their_counts[n]}
    if counts:
        add["agg"] = counts
    details = (target or {}).get("agg_details") or []
    known = set(details)
    more = [entry for entry in source.get("agg_details") or [] if entry not in known]
    return AggregateChange({"agg_details": [*details, *more]} if more else {}, add)


def _map(row: Row | None, column: str) -> Mapping[str, Any]:
    return (row or {}).get(column) or {}


def enrolments_to_carry(source: Iterable[Row], target: Iterable[Row]) -> list[Row]:
    """The source's enrolments in batches that the target is not in. spec: merge-user-courses §3.3"""
    batches = {row["batchid"] for row in target}
    return [row for row in source if row["batchid"] not in batches]


def sync_event(enrolment: Row, now: int, new_id: Callable[[], str]) -> bytes:
    """What is said of each of the target's enrolments; ``now`` in epoch milliseconds. spec: merge-user-courses §3.4"""
    user_id, batch_id = enrolment["userid"], enrolment["batchid"]
    return orjson.dumps(
        {
            "actor": {"id": "Course Batch Updater", "type": "System"},
            "eid": "BE_JOB_REQUEST",
            "edata": {
                "action": "batch-enrolment-sync",
                "iteration": 1,
                "batchId": batch_id,
                "userId": user_id,
                "courseId": enrolment["courseid"],
                "reset": ["completionPercentage", "status", "progress"],
            },
            "ets": now,
            "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
            "mid": f"LP.{now}.{new_id()}",
            "object": {"id": f"{batch_id}_{user_id}", "type": "CourseBatchEnrolment"},
        }
    )
