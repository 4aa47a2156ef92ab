"""Counting a learner's progress in a course again, from what the tables hold.

The rules are those of ``transforms.progress``; an event brings nothing but the name of an enrolment. Many events go
through the stores at once: read, compute everything, write step by step, the enrolments last, emit.

spec: enrolment-reconciliation §2, §3
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from apache_beam.pvalue import TaggedOutput

from transforms.audit import NewId, certificate_request, enrolment_audit
from transforms.consumption import Consumption, Work, enrolment_of
from transforms.counters import count
from transforms.decode import value_at
from transforms.enrolments import Enrolment
from transforms.keyed_batch import KeyedBatch
from transforms.progress import RETIRED, Delivery, EnrolmentState, Outcome, Rules, advance
from transforms.progress_rows import ProgressRows, ProgressTables
from transforms.relations import KnownStatuses, RelationCache, Relations
from transforms.stores import CollectionStatuses, KeyValues, Opens, Refused, Tables
from transforms.update_progress import AUDIT, CERTIFICATE, failed_consumption, failed_work

__all__ = [
    "AUDIT",
    "CERTIFICATE",
    "ReconcileProgress",
    "ReconciliationStores",
    "reconciliation_of",
]

_log = logging.getLogger(__name__)

ACTION = "user-enrolment-sync"


def reconciliation_of(parsed: dict[str, Any]) -> Consumption | None:
    """The enrolment that an event wants counted again, without contents; None when it is not for this job.

    Raises InvalidEvent.

    spec: enrolment-reconciliation §2
    """
    action = value_at(parsed, "edata.action")
    if not isinstance(action, str) or action.lower() != ACTION:
        return None
    return Consumption(enrolment_of(parsed), ())


@dataclass(frozen=True)
class ReconciliationStores:
    """The recipes of the stores; ``collections`` asks for the status of a course that has no leaf nodes."""

    tables: Opens[Tables]
    relation_cache: Opens[KeyValues]
    collections: Opens[CollectionStatuses]


class ReconcileProgress(KeyedBatch):
    """Takes ``(shard of the user, Work)`` and gives AUDIT, CERTIFICATE and FAILED values (JSON as bytes).

    ``statements_per_batch`` limits a CQL batch; ``status_expiry`` is in seconds. An enrolment that several events of a
    batch name is read and written once, and each of them has the effect that it would have alone. Raises
    StoreUnavailable, so that the bundle fails and nothing of it is committed.

    spec: enrolment-reconciliation §3
    """

    def __init__(
        self,
        job: str,
        stores: ReconciliationStores,
        tables: ProgressTables,
        rules: Rules,
        *,
        size: int,
        statements_per_batch: int,
        status_expiry: int,
        clock: Callable[[], int],
        new_id: NewId,
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._names = tables
        self._rules = rules
        self._statements_per_batch = statements_per_batch
        self._status_expiry = status_expiry
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._counts: Counter[str] = Counter()
        tables = self._stores.tables.open()
        self._rows = ProgressRows(tables, self._names, self._rules, self._statements_per_batch, self._counts)
        self._relation_cache = RelationCache(self._stores.relation_cache.open(), self._counts)
        self._statuses = KnownStatuses(self._stores.collections.open(), self._status_expiry, self._clock)
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        self._counts.clear()
        now = self._clock()
        works = [Work.from_bytes(payload) for payload in payloads]
        refused: dict[Enrolment, Refused] = {}
        states = self._read_consumed([work.consumption.enrolment for work in works], refused)
        relations = Relations()
        self._relation_cache.read_leaf_nodes(relations, {enrolment.course_id for enrolment in states})
        statuses = self._ask_for_statuses(states, relations)
        self._rows.read_enrolments(states, [e for e in states if relations.knows(e.course_id)], refused)
        self._read_relations(states, relations, statuses)
        outcomes = [
            advance(state, [Delivery("", Counter())], relations, statuses.get, self._rules, now)
            if (state := states.get(work.consumption.enrolment)) and state.enrolment not in refused
            else Outcome()
            for work in works
        ]
        self._rows.write(states, relations, now, refused)
        outputs = [
            output
            for work, outcome in zip(works, outcomes, strict=True)
            for output in self._outputs(work, outcome, refused, now)
        ]
        for name, times in self._counts.items():
            count(self._job, name, times)
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return [failed_work(self._job, Work.from_bytes(payload), f"could not be handled: {type(error).__name__}")]

    def _read_consumed(
        self, enrolments: list[Enrolment], refused: dict[Enrolment, Refused]
    ) -> dict[Enrolment, EnrolmentState]:
        """What was consumed; an enrolment without consumption is done with. spec §3.1"""
        states = {enrolment: EnrolmentState(enrolment) for enrolment in enrolments}
        self._rows.read_consumption(states, refused)
        return {enrolment: state for enrolment, state in states.items() if state.rows}

    def _ask_for_statuses(self, states: dict[Enrolment, EnrolmentState], relations: Relations) -> dict[str, str | None]:
        """The status of each course without leaf nodes, asked for once. spec §3.5"""
        courses = dict.fromkeys(e.course_id for e in states if not relations.knows(e.course_id))
        return {course: self._statuses.status(course) for course in courses}

    def _read_relations(
        self, states: dict[Enrolment, EnrolmentState], relations: Relations, statuses: dict[str, str | None]
    ) -> None:
        """What the aggregates are counted from; not for a course whose events fail. spec §3.2, §3.3, §3.5"""
        counted = [
            enrolment
            for enrolment in states
            if relations.knows(enrolment.course_id) or statuses[enrolment.course_id] == RETIRED
        ]
        contents = {
            (enrolment.course_id, content)
            for enrolment in counted
            if self._rules.unit_aggregates
            for content in states[enrolment].rows
        }
        courses = {enrolment.course_id for enrolment in counted if relations.knows(enrolment.course_id)}
        self._relation_cache.read_others(relations, courses, contents)

    def _outputs(
        self, work: Work, outcome: Outcome, refused: dict[Enrolment, Refused], now: int
    ) -> Iterator[TaggedOutput]:
        enrolment = work.consumption.enrolment
        if enrolment in refused:
            self._counts["failed-events-count"] += 1
            yield failed_work(self._job, work, f"refused by the store: {refused[enrolment]}")
            return
        if outcome.failed is not None:
            self._counts["retired-consumption-events-count" if outcome.retired else "failed-events-count"] += 1
            yield from failed_consumption(self._job, outcome.failed, [work])
        if outcome.completes:
            self._counts["enrolment-complete-count"] += 1
            self._counts["cert-issue-events-count"] += 1
            yield TaggedOutput(CERTIFICATE, certificate_request(enrolment, now, self._new_id))
            yield TaggedOutput(AUDIT, enrolment_audit(enrolment, now, self._new_id))
