"""A learner's progress: what one unit of work does to an enrolment.

Everything here is computed in memory. ``EnrolmentState`` starts as what the tables hold; ``advance`` applies one unit
of work and says what follows from it. Units applied one after the other leave the state exactly as if each had been
written and read again, so a batch of any size reads once and writes once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from transforms.aggregate import NOT_CONSUMED, Consumed, completed, consume, count_done
from transforms.consumption import COMPLETED, Enrolment

__all__ = ["Delivery", "EnrolmentState", "Outcome", "Plan", "PlannedContent", "Relations", "Rules", "advance"]

IN_PROGRESS = 1
RETIRED = "Retired"
NO_MEMBERS: frozenset[str] = frozenset()


class PlannedContent(NamedTuple):
    """What a delivery does to one content: the counts it writes, and the first-time actions it announces."""

    view_count: int
    completed_count: int
    actions: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """What one delivered record is about to do, kept in the dedup database before its first write.

    The counts of a content are sums, so writing them twice would count twice; and a checksum that was stored by a
    worker that then died would silence the record's events. A redelivered record finds its plan and repeats it:
    the same counts, the same events. ``completed_on`` (epoch ms) is set when the record completed the enrolment.
    """

    contents: dict[str, PlannedContent] = field(default_factory=dict)
    completed_on: int | None = None

    def to_text(self) -> str:
        contents = {content: tuple(planned) for content, planned in self.contents.items()}
        return orjson.dumps([contents, self.completed_on]).decode()

    @classmethod
    def from_text(cls, text: str) -> Plan:
        contents, completed_on = orjson.loads(text)
        return cls({c: PlannedContent(v, n, tuple(actions)) for c, (v, n, actions) in contents.items()}, completed_on)


@dataclass(slots=True)
class Delivery:
    """One record's share in a unit of work: the contents left after de-duplication, and how often each counts.

    ``name`` is empty when the record has no lasting position. ``earlier`` is the plan of an earlier delivery of the
    same record, ``plan`` what this one does.
    """

    name: str
    contents: Counter[str]
    earlier: Plan | None = None
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that change how progress is computed (spec: activity-aggregate-updater §5)."""

    unit_aggregates: bool = True
    skip_completed_enrolments: bool = True


@dataclass(slots=True)
class Relations:
    """The relation cache of the courses at hand, keyed by (course, collection or content). Absent means empty."""

    leaf_nodes: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    optional_nodes: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    ancestors: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def done(self, course_id: str, collection_id: str, contents: set[str]) -> int:
        key = (course_id, collection_id)
        return count_done(self.leaf_nodes.get(key, NO_MEMBERS), self.optional_nodes.get(key, NO_MEMBERS), contents)

    def required(self, course_id: str) -> int:
        key = (course_id, course_id)
        return len(self.leaf_nodes[key] - self.optional_nodes.get(key, NO_MEMBERS))

    def units(self, course_id: str, contents: Mapping[str, Any]) -> set[str]:
        """The units above any of the contents, at every level, that have leaf nodes. spec §3.6, §8.7"""
        above = {unit for content in contents for unit in self.ancestors.get((course_id, content), NO_MEMBERS)}
        return {unit for unit in above if unit != course_id and self.leaf_nodes.get((course_id, unit))}


@dataclass(slots=True)
class EnrolmentState:
    """What the tables hold of one enrolment, and what has to be written to them.

    ``rows``: content -> consumption. ``status`` is None without an enrolment row; ``completed_on`` in epoch ms.
    ``counted``, ``aggregates`` (activity -> completed count) and ``change`` (columns of the enrolment row) hold
    absolute values: only the last of each needs to be written.
    """

    enrolment: Enrolment
    rows: dict[str, Consumed] = field(default_factory=dict)
    status: int | None = None
    completed_on: int | None = None
    counted: dict[str, Consumed] = field(default_factory=dict)
    aggregates: dict[str, int] = field(default_factory=dict)
    change: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What follows from one unit of work besides the writes.

    ``first_times``: (content, START or COMPLETE) in the order of the input. ``failed``: the value for the failed
    topic when the course has no leaf nodes. ``store_checksums`` is false when the work must stay repeatable.
    """

    first_times: list[tuple[str, str]] = field(default_factory=list)
    completes: bool = False
    failed: bytes | None = None
    retired: bool = False
    store_checksums: bool = True


def advance(
    state: EnrolmentState,
    deliveries: list[Delivery],
    relations: Relations,
    collection_status: Callable[[str], str | None],
    rules: Rules,
    now: int,
) -> Outcome:
    """Apply one unit of work to an enrolment: change ``state``, fill each delivery's plan, say what follows.

    ``deliveries`` have at least one content between them. ``collection_status`` is asked only for a course without
    leaf nodes. ``now`` in epoch milliseconds. spec: activity-aggregate-updater §3.4-§3.10
    """
    course_id = state.enrolment.course_id
    contents, planned, outcome = _merge(state, deliveries)
    has_leaf_nodes = bool(relations.leaf_nodes.get((course_id, course_id)))
    if not has_leaf_nodes:
        outcome.failed = _failed_consumption(state.enrolment, contents, planned)
        outcome.store_checksums = False
        outcome.retired = collection_status(course_id) == RETIRED
        if not outcome.retired:
            outcome.first_times = []
            return outcome

    for delivery in deliveries:
        delivery.plan.contents = {content: planned[content] for content in delivery.contents}
    for content, plan in planned.items():
        state.counted[content] = Consumed(COMPLETED, plan.view_count, plan.completed_count)
        # The counters' write makes the row when it is missing, and leaves the status to the LMS (spec §3.7).
        status = state.rows[content].status if content in state.rows else IN_PROGRESS
        state.rows[content] = Consumed(status, plan.view_count, plan.completed_count)

    done_contents = completed(contents)
    if has_leaf_nodes:
        done = relations.done(course_id, course_id, done_contents)
        state.aggregates[course_id] = done
        complete = done >= relations.required(course_id)
        _advance_enrolment(state, deliveries[-1], outcome, contents, done, complete, rules, now)
    if rules.unit_aggregates:
        for unit in relations.units(course_id, contents):
            state.aggregates[unit] = relations.done(course_id, unit, done_contents)
    return outcome


def _merge(
    state: EnrolmentState, deliveries: list[Delivery]
) -> tuple[dict[str, Consumed], dict[str, PlannedContent], Outcome]:
    """The merged map of the enrolment, what happens to each content of the input, and the first times."""
    contents = dict(state.rows)
    planned: dict[str, PlannedContent] = {}
    outcome = Outcome()
    times: Counter[str] = Counter()
    earlier: dict[str, PlannedContent] = {}
    for delivery in deliveries:
        times.update(delivery.contents)
        if delivery.earlier:
            earlier.update(delivery.earlier.contents)
    for content, count in times.items():
        after, first = consume(state.rows.get(content, NOT_CONSUMED), count)
        repeated = earlier.get(content)
        plan = repeated or PlannedContent(after.view_count, after.completed_count, first)
        contents[content] = Consumed(after.status, plan.view_count, plan.completed_count)
        planned[content] = plan
        outcome.first_times.extend((content, action) for action in plan.actions)
    return contents, planned, outcome


def _advance_enrolment(
    state: EnrolmentState,
    last: Delivery,
    outcome: Outcome,
    contents: dict[str, Consumed],
    done: int,
    complete: bool,
    rules: Rules,
    now: int,
) -> None:
    """Update the enrolment row, when there is one that may change. spec: activity-aggregate-updater §3.9"""
    if state.status is None:
        return
    is_completed = state.status == COMPLETED
    if is_completed and last.earlier and last.earlier.completed_on is not None:
        # An earlier delivery of this record completed the enrolment, then its worker died: say it again.
        outcome.completes = last.earlier.completed_on == state.completed_on
        last.plan.completed_on = state.completed_on if outcome.completes else None
    if is_completed and rules.skip_completed_enrolments:
        return
    state.change["progress"] = done
    state.change["contentstatus"] = {content: consumed.status for content, consumed in contents.items()}
    state.change["datetime"] = now
    if complete:
        state.change["status"] = state.status = COMPLETED
        state.change["completedon"] = state.completed_on = last.plan.completed_on = now
        outcome.completes = True
    elif not is_completed:
        state.change["status"] = state.status = IN_PROGRESS


def _failed_consumption(
    enrolment: Enrolment, contents: dict[str, Consumed], planned: dict[str, PlannedContent]
) -> bytes:
    """The failed topic's record for a course without leaf nodes. spec: activity-aggregate-updater §3.5.1"""
    return orjson.dumps(
        {
            "userId": enrolment.user_id,
            "batchId": enrolment.batch_id,
            "courseId": enrolment.course_id,
            "contents": {
                content: {
                    "contentId": content,
                    "status": consumed.status,
                    "completedCount": consumed.completed_count,
                    "viewCount": consumed.view_count,
                    "fromInput": content in planned,
                    "eventsFor": planned[content].actions if content in planned else (),
                }
                for content, consumed in contents.items()
            },
        }
    )
