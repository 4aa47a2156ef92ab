"""The step that keeps learners' progress: many events at once through the stores, each owner's in order.

``transforms.progress`` has the rules. Here is the order of reads and writes around them: look up what was seen, read,
compute everything, note what is about to be done, write step by step, store the checksums last, emit.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from apache_beam.pvalue import TaggedOutput

from transforms.audit import NewId, certificate_request, content_audit, enrolment_audit
from transforms.consumption import Work
from transforms.counters import count
from transforms.dead_letter import FAILED, LARGEST_DEAD_LETTER, dead_letter
from transforms.decode import parse_object
from transforms.dedup import checksum
from transforms.enrolments import Enrolment
from transforms.keyed_batch import KeyedBatch
from transforms.progress import Delivery, EnrolmentState, Outcome, Plan, Rules, advance
from transforms.progress_rows import ProgressRows, ProgressTables
from transforms.relations import KnownStatuses, RelationCache, Relations
from transforms.stores import CollectionStatuses, KeyValues, Opens, Refused, Tables

__all__ = [
    "AUDIT",
    "CERTIFICATE",
    "ProgressStores",
    "ProgressTables",
    "UpdateProgress",
    "failed_consumption",
    "failed_work",
]

AUDIT = "audit"
CERTIFICATE = "certificate"

T = TypeVar("T")


@dataclass(frozen=True)
class ProgressStores:
    """The recipes of the stores. Without ``dedup`` no event is dropped as seen; ``collections`` asks for the status
    of a course that has no leaf nodes."""

    tables: Opens[Tables]
    relation_cache: Opens[KeyValues]
    dedup: Opens[KeyValues] | None
    collections: Opens[CollectionStatuses]


@dataclass(slots=True)
class _Group:
    """The part of a unit of work that belongs to one enrolment."""

    enrolment: Enrolment
    checksums: dict[str, str] = field(default_factory=dict)
    works: list[Work] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    said_again: list[tuple[str, str]] = field(default_factory=list)
    completed_again: bool = False
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def has_contents(self) -> bool:
        return any(delivery.contents for delivery in self.deliveries)


class UpdateProgress(KeyedBatch):
    """Takes ``(shard of the user, Work)`` and gives AUDIT, CERTIFICATE and FAILED values (JSON as bytes).

    ``events_per_unit`` events are one unit of work: with 1, each is handled as if alone, in order; with more, the
    events of a unit that belong to one enrolment are merged. ``statements_per_batch`` limits a CQL batch; the
    expiries are in seconds. Raises StoreUnavailable, so that the bundle fails and nothing of it is committed.

    spec: activity-aggregate-updater §3.2-§3.11
    """

    def __init__(
        self,
        job: str,
        stores: ProgressStores,
        tables: ProgressTables,
        rules: Rules,
        *,
        size: int,
        events_per_unit: int,
        statements_per_batch: int,
        checksum_expiry: int,
        plan_expiry: int,
        status_expiry: int,
        clock: Callable[[], int],
        new_id: NewId,
    ) -> None:
        super().__init__(size if events_per_unit == 1 else events_per_unit)
        self._job = job
        self._stores = stores
        self._names = tables
        self._rules = rules
        self._events_per_unit = events_per_unit
        self._statements_per_batch = statements_per_batch
        self._checksum_expiry = checksum_expiry
        self._plan_expiry = plan_expiry
        self._status_expiry = status_expiry
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._counts: Counter[str] = Counter()
        tables = self._stores.tables.open()
        self._rows = ProgressRows(tables, self._names, self._rules, self._statements_per_batch, self._counts)
        self._relation_cache = RelationCache(self._stores.relation_cache.open(), self._counts)
        self._dedup = self._stores.dedup.open() if self._stores.dedup else None
        self._statuses = KnownStatuses(self._stores.collections.open(), self._status_expiry, self._clock)
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        self._counts.clear()
        now = self._clock()
        groups = self._group([Work.from_bytes(payload) for payload in payloads])
        seen = self._look_up_earlier(groups)
        relations = Relations()
        courses = {group.enrolment.course_id for group in groups if self._is_new(group, seen)}
        self._relation_cache.read_leaf_nodes(relations, courses)
        for group in groups:
            self._drop_seen(group, seen, relations)
        to_advance = [group for group in groups if group.has_contents]
        refused: dict[Enrolment, Refused] = {}
        states = self._read_states(to_advance, relations, refused)
        self._read_relations(relations, to_advance, states)
        self._advance(to_advance, states, refused, relations, now)
        self._store_plans(to_advance, refused)
        self._rows.write(states, relations, now, refused)
        self._store_checksums(to_advance, refused)
        outputs = [output for group in groups for output in self._outputs(group, refused, now)]
        for name, times in self._counts.items():
            count(self._job, name, times)
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return [failed_work(self._job, Work.from_bytes(payload), f"could not be handled: {type(error).__name__}")]

    # --- collect and de-duplicate (§3.2, §3.3)

    def _group(self, works: list[Work]) -> list[_Group]:
        """The groups of all units of work, in order. spec §3.2"""
        groups: list[_Group] = []
        for unit in _cut(works, self._events_per_unit):
            by_enrolment: dict[Enrolment, _Group] = {}
            for work in unit:
                enrolment = work.consumption.enrolment
                group = by_enrolment.setdefault(enrolment, _Group(enrolment))
                group.works.append(work)
                group.deliveries.append(Delivery(work.delivery, Counter(work.consumption.contents)))
                if self._dedup is not None:
                    group.checksums |= {c: checksum(enrolment, c) for c in work.consumption.contents}
            groups.extend(by_enrolment.values())
        return groups

    def _look_up_earlier(self, groups: list[_Group]) -> set[str]:
        """The stored checksums among those of the batch; plans of earlier deliveries go to their delivery."""
        if self._dedup is None:
            return set()
        deliveries = [d for group in groups for d in group.deliveries if d.name]
        plans = [_plan_key(delivery) for delivery in deliveries]
        checksums = list({key for group in groups for key in group.checksums.values()})
        values = self._dedup.get(plans + checksums)
        for delivery, text in zip(deliveries, values, strict=False):
            if text:
                delivery.earlier = Plan.from_text(text)
        return {key for key, value in zip(checksums, values[len(plans) :], strict=True) if value is not None}

    def _is_new(self, group: _Group, seen: set[str]) -> bool:
        if self._dedup is None:
            return True
        return not seen.issuperset(group.checksums.values())

    def _drop_seen(self, group: _Group, seen: set[str], relations: Relations) -> None:
        """Leave only new contents in a group's deliveries, each once; what the batch will store counts as seen."""
        if self._dedup is None:
            return
        will_be_stored = relations.knows(group.enrolment.course_id)
        in_unit: set[str] = set()
        for delivery in group.deliveries:
            left: Counter[str] = Counter()
            for content in delivery.contents:
                key = group.checksums[content]
                if key not in seen and key not in in_unit:
                    in_unit.add(key)
                    left[content] = 1
                elif key in seen and delivery.earlier and content in delivery.earlier.contents:
                    # This very record stored the checksum, and its worker died before its events were written.
                    group.said_again.extend((content, action) for action in delivery.earlier.contents[content].actions)
            delivery.contents = left
            if not left and delivery.earlier and delivery.earlier.completed_on is not None:
                group.completed_again = True
        if will_be_stored:
            seen |= in_unit

    # --- read (§3.4-§3.6)

    def _read_states(
        self, groups: list[_Group], relations: Relations, refused: dict[Enrolment, Refused]
    ) -> dict[Enrolment, EnrolmentState]:
        """What the tables hold of the groups' enrolments. spec §3.4, §3.9"""
        states = {group.enrolment: EnrolmentState(group.enrolment) for group in groups}
        self._rows.read_consumption(states, refused)
        self._rows.read_enrolments(states, [e for e in states if relations.knows(e.course_id)], refused)
        return states

    def _read_relations(
        self, relations: Relations, groups: list[_Group], states: dict[Enrolment, EnrolmentState]
    ) -> None:
        """The optional nodes of the courses, and the units above every content with their nodes. spec §3.5, §3.6"""
        contents = {
            (state.enrolment.course_id, content)
            for group in groups
            if self._rules.unit_aggregates
            for state in (states[group.enrolment],)
            for content in (*state.rows, *(c for d in group.deliveries for c in d.contents))
        }
        courses = {group.enrolment.course_id for group in groups if relations.knows(group.enrolment.course_id)}
        self._relation_cache.read_others(relations, courses, contents)

    # --- compute (§3.4-§3.6)

    def _advance(
        self,
        groups: list[_Group],
        states: dict[Enrolment, EnrolmentState],
        refused: dict[Enrolment, Refused],
        relations: Relations,
        now: int,
    ) -> None:
        # what the service does not know is not remembered, but one answer is enough for a batch
        collection_status = functools.cache(self._statuses.status)
        for group in groups:
            if group.enrolment in refused:
                continue
            deliveries = [delivery for delivery in group.deliveries if delivery.contents]
            group.outcome = advance(states[group.enrolment], deliveries, relations, collection_status, self._rules, now)

    # --- write (§3.7-§3.9, §3.11)

    def _store_plans(self, groups: list[_Group], refused: dict[Enrolment, Refused]) -> None:
        if self._dedup is None:
            return
        plans = {
            _plan_key(delivery): delivery.plan.to_text()
            for group in groups
            if group.enrolment not in refused
            for delivery in group.deliveries
            if delivery.name and delivery.plan.contents
        }
        if plans:
            self._dedup.set(plans, self._plan_expiry)

    def _store_checksums(self, groups: list[_Group], refused: dict[Enrolment, Refused]) -> None:
        """Last of all, so that a failure before leaves the event to be processed again. spec §3.11"""
        if self._dedup is None:
            return
        checksums = {
            group.checksums[content]: ""
            for group in groups
            if group.outcome.store_checksums and group.enrolment not in refused
            for delivery in group.deliveries
            for content in delivery.contents
        }
        if checksums:
            self._dedup.set(checksums, self._checksum_expiry)

    # --- emit (§3.10)

    def _outputs(self, group: _Group, refused: dict[Enrolment, Refused], now: int) -> Iterable[TaggedOutput]:
        enrolment, outcome = group.enrolment, group.outcome
        if group.has_contents:
            self._counts["processed-enrolment-count"] += 1
        if enrolment in refused and group.has_contents:
            for work in group.works:
                self._counts["failed-events-count"] += 1
                yield failed_work(self._job, work, f"refused by the store: {refused[enrolment]}")
            return
        if outcome.failed is not None:
            self._counts["retired-consumption-events-count" if outcome.retired else "failed-events-count"] += 1
            yield from failed_consumption(self._job, outcome.failed, group.works)
        for content, action in (*group.said_again, *outcome.first_times):
            yield TaggedOutput(AUDIT, content_audit(enrolment, content, action, now, self._new_id))
        if outcome.completes or group.completed_again:
            self._counts["enrolment-complete-count"] += 1
            self._counts["cert-issue-events-count"] += 1
            yield TaggedOutput(CERTIFICATE, certificate_request(enrolment, now, self._new_id))
            yield TaggedOutput(AUDIT, enrolment_audit(enrolment, now, self._new_id))


def failed_work(job: str, work: Work, reason: str) -> TaggedOutput:
    """The dead letter of an event that was parsed before. spec: core §4.3"""
    return TaggedOutput(FAILED, dead_letter(job, reason, work.value, parse_object(work.value)))


def failed_consumption(job: str, failed: bytes, works: Iterable[Work]) -> Iterator[TaggedOutput]:
    """What goes to the failed topic for a course without leaf nodes: ``failed``, unless Kafka would refuse it.

    With tens of thousands of contents, dead letters of the events take its place.
    spec: activity-aggregate-updater §3.5.1, enrolment-reconciliation §3.5
    """
    if len(failed) <= LARGEST_DEAD_LETTER:
        yield TaggedOutput(FAILED, failed)
        return
    reason = "no leaf nodes in the relation cache, and more contents than a record can list"
    for work in works:
        yield failed_work(job, work, reason)


def _cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _plan_key(delivery: Delivery) -> str:
    """Beside the bare checksums of the same database, told from them by its prefix."""
    return f"plan:{delivery.name}"
