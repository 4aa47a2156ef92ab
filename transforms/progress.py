"""A learner's progress: what one unit of work does to an enrolment.

Everything here is computed in memory. ``EnrolmentState`` starts as what the tables hold; ``advance`` applies one unit
of work and says what follows from it. Units applied one after the other leave the state exactly as if each had been
written and read again, so a batch of any size reads once and writes once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from transforms.aggregate import NOT_CONSUMED, Consumed, completed, consume
from transforms.consumption import COMPLETED, Enrolment
from transforms.relations import Relations

__all__ = [
    "Delivery",
    "EnrolmentState",
    "Outcome",
    "Plan",
    "PlannedContent",
    "Relations",
    "Rules",
    "advance",
    "aggregates",
]

IN_PROGRESS = 1
RETIRED = "Retired"


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
class EnrolmentState:
    """What the tables hold of one enrolment, and what has to be written to them.

    ``rows``: content -> consumption. ``status`` is None without an enrolment row; ``completed_on`` in epoch ms.
    ``counted`` (content -> counts), ``merged`` (content -> status, as the last unit of work saw it) and ``change``
    (columns of the enrolment row) hold absolute values, so only the last of each needs to be written.
    """

    enrolment: Enrolment
    rows: dict[str, Consumed] = field(default_factory=dict)
    status: int | None = None
    completed_on: int | None = None
    counted: dict[str, PlannedContent] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)
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

    There is at least one delivery; one without contents has the progress counted again from what the tables hold.
    ``collection_status`` is asked only for a course without leaf nodes. ``now`` in epoch milliseconds.
    spec: activity-aggregate-updater §3.4, §3.5, §3.9, §3.10; enrolment-reconciliation §3.2, §3.5, §3.6
    """
    course_id = state.enrolment.course_id
    planned = _plan(state, deliveries)
    merged = {content: consumed.status for content, consumed in state.rows.items()}
    merged.update((content, max(COMPLETED, merged.get(content, 0))) for content in planned)
    outcome = Outcome()
    has_leaf_nodes = relations.knows(course_id)
    if not has_leaf_nodes:
        outcome.failed = _failed_consumption(state, merged, planned)
        outcome.store_checksums = False
        outcome.retired = collection_status(course_id) == RETIRED
        if not outcome.retired:
            return outcome

    for delivery in deliveries:
        # What an earlier delivery counted and noted as seen is part of the plan, should there be yet another one.
        kept = delivery.earlier.contents if delivery.earlier else {}
        delivery.plan.contents = kept | {content: planned[content] for content in delivery.contents}
    for content, plan in planned.items():
        outcome.first_times += [(content, action) for action in plan.actions]
        # The counters' write makes the row when it is missing, and leaves the status to the LMS (spec §3.7).
        status = state.rows[content].status if content in state.rows else IN_PROGRESS
        state.rows[content] = Consumed(status, plan.view_count, plan.completed_count)
    state.counted.update(planned)
    state.merged = merged
    if has_leaf_nodes:
        _advance_enrolment(state, deliveries, outcome, relations, rules, now)
    return outcome


def aggregates(state: EnrolmentState, relations: Relations, rules: Rules) -> dict[str, int]:
    """How much of the course and of each unit touched is done, by the id of the course, which is first, or unit.

    Those that an earlier unit of work touched are touched by the last one, too: contents only join the merged map.
    spec: activity-aggregate-updater §3.5, §3.6
    """
    course_id = state.enrolment.course_id
    collections = [course_id] if relations.knows(course_id) else []
    if rules.unit_aggregates:
        collections += relations.units(course_id, state.merged)
    done = completed(state.merged)
    return {collection: len(relations.required(course_id, collection) & done) for collection in collections}


def _plan(state: EnrolmentState, deliveries: list[Delivery]) -> dict[str, PlannedContent]:
    """What happens to each content of the input: what it did when it was delivered before, else what it adds."""
    times = deliveries[0].contents
    if len(deliveries) > 1:
        times = sum((delivery.contents for delivery in deliveries), Counter[str]())
    # They may have been units of their own then, and the first of them says what was new.
    earlier: dict[str, PlannedContent] = {}
    for delivery in reversed(deliveries):
        earlier |= delivery.earlier.contents if delivery.earlier else {}
    planned = {}
    for content, count in times.items():
        repeated = earlier.get(content)
        if repeated is None:
            after, first = consume(state.rows.get(content, NOT_CONSUMED), count)
            repeated = PlannedContent(after.view_count, after.completed_count, first)
        planned[content] = repeated
    return planned


def _advance_enrolment(
    state: EnrolmentState, deliveries: list[Delivery], outcome: Outcome, relations: Relations, rules: Rules, now: int
) -> None:
    """Update the enrolment row, when there is one that may change. spec: activity-aggregate-updater §3.5, §3.9"""
    if state.status is None:
        return
    is_completed = state.status == COMPLETED
    if is_completed and state.completed_on is not None:
        for delivery in deliveries:
            if delivery.earlier and delivery.earlier.completed_on == state.completed_on:
                # An earlier delivery of this record completed the enrolment, then its worker died: say it again.
                outcome.completes = True
                delivery.plan.completed_on = state.completed_on
    if is_completed and rules.skip_completed_enrolments:
        return
    required = relations.required(state.enrolment.course_id, state.enrolment.course_id)
    done = len(required & completed(state.merged))
    is_complete = done >= len(required)
    if is_completed and not is_complete:
        # what was completed stays as it was (spec: activity-aggregate-updater §8.6, enrolment-reconciliation §3.6)
        return
    state.change |= {"progress": done, "contentstatus": state.merged, "datetime": now}
    if is_complete:
        state.change |= {"status": COMPLETED, "completedon": now}
        state.status, state.completed_on, deliveries[-1].plan.completed_on = COMPLETED, now, now
        outcome.completes = True
    else:
        state.change["status"] = state.status = IN_PROGRESS


def _failed_consumption(state: EnrolmentState, merged: dict[str, int], planned: dict[str, PlannedContent]) -> bytes:
    """The failed topic's record for a course without leaf nodes. spec: activity-aggregate-updater §3.5.1"""
    user_id, course_id, batch_id = state.enrolment

    def describe(content: str, status: int) -> dict[str, Any]:
        counts = planned.get(content) or state.rows[content]
        return {
            "contentId": content,
            "status": status,
            "completedCount": counts.completed_count,
            "viewCount": counts.view_count,
            "fromInput": content in planned,
            "eventsFor": planned[content].actions if content in planned else (),
        }

    contents = {content: describe(content, status) for content, status in merged.items()}
    return orjson.dumps({"userId": user_id, "batchId": batch_id, "courseId": course_id, "contents": contents})
