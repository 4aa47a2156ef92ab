"""The step that carries one account's learning record over to another of the same person.

``transforms.merge_records`` has the rules. Here is the order of reads and writes around them. Merges that share no
account go through the stores together, one turn after the other.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, parse_object
from transforms.enrolments import rows_of_users
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.merge_records import (
    CONSUMPTION_KEY,
    ENROLMENT_KEY,
    InvalidMerge,
    Merge,
    aggregate_change,
    carried_columns,
    consumption_changes,
    enrolments_to_carry,
    merge_of,
    sync_event,
)
from transforms.overlapped import in_turns
from transforms.stores import Opens, Refused, Row, Select, Tables, Update

__all__ = ["SYNC", "MergeTables", "MergeUserCourses", "SelectMerges"]

_log = logging.getLogger(__name__)

SYNC = "sync"

# As the failed events name it (spec §6).
EVENT_NAME = "MergeUserCourses"
# Of both accounts at once: more partitions in one statement cost the coordinator more than they save the client.
COURSES_IN_ONE_SELECT = 12


@dataclass(frozen=True)
class MergeTables:
    """The tables' full names, ``keyspace.table``."""

    consumption: str
    aggregates: str
    enrolments: str


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectMerges(beam.DoFn):
    """Takes records, gives ``(shard of the target's account, value)``; FAILED gets the others' failed events.

    Never raises for the sake of a record. spec: merge-user-courses §2, §6
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        try:
            merge = merge_of(parse_object(record.value))
        except (NotAnObject, InvalidMerge) as error:
            count(self._job, "skipped-event-count" if isinstance(error, InvalidMerge) else "failed-events-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield failed_event(record.value, str(error))
            return
        yield shard_of(merge.target, self._shards), record.value or b""


def failed_event(value: bytes | None, reason: str) -> TaggedOutput:
    """The failed topic's event. spec: merge-user-courses §6"""
    try:
        parsed = parse_object(value)
    except NotAnObject:
        parsed = None
    return TaggedOutput(FAILED, dead_letter(EVENT_NAME, reason, value, parsed, code="DATA_ERROR"))


@dataclass(slots=True)
class _Work:
    """One event on its way: what it has to write, in batches, and what became of it."""

    merge: Merge
    value: bytes
    consumption: list[list[Update]] = field(default_factory=list)
    aggregates: list[list[Update]] = field(default_factory=list)
    enrolments: list[list[Update]] = field(default_factory=list)
    enrolled: list[Row] = field(default_factory=list)
    error: str | None = None

    def found(self, rows: list[Row] | Refused) -> list[Row]:
        """The rows, none when the server refuses to look for them, which is noted."""
        if isinstance(rows, Refused):
            self.refused(rows)
            return []
        return rows

    def refused(self, refused: Refused) -> None:
        self.error = self.error or f"refused by the store: {refused}"


class MergeUserCourses(KeyedBatch):
    """Takes ``(shard of the target's account, value)``, all bytes; gives SYNC and FAILED events, JSON as bytes.

    All is read and computed before the first write. The consumption, whose counts are sums, is written last: an event
    that comes again because something failed before that adds nothing twice. Raises StoreUnavailable, so that the
    bundle fails and nothing of it is committed.

    spec: merge-user-courses §3
    """

    def __init__(
        self,
        job: str,
        tables: Opens[Tables],
        names: MergeTables,
        *,
        size: int,
        date_format: str,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._opens = tables
        self._names = names
        self._date_format = date_format
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._tables = self._opens.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        now = self._clock()
        works = [_Work(merge_of(parse_object(payload)), payload) for payload in payloads]
        for turn in in_turns([work.merge for work in works]):
            self._merge([works[place] for place in turn], now)
        counts: Counter[str] = Counter()
        outputs = [output for work in works for output in self._outputs(work, counts, now)]
        for name, times in counts.items():
            count(self._job, name, times)
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return [failed_event(payload, f"could not be handled: {type(error).__name__}")]

    def _merge(self, works: list[_Work], now: int) -> None:
        """Merge accounts of which each occurs once."""
        accounts = [account for work in works for account in work.merge]
        consumption = rows_of_users(self._tables, self._names.consumption, accounts)
        enrolments = rows_of_users(self._tables, self._names.enrolments, accounts)
        aggregates = self._read_aggregates(works, enrolments)
        for work, of_courses in zip(works, aggregates, strict=True):
            try:
                self._plan(work, consumption, of_courses, enrolments, now)
            except Exception as error:
                # a table whose columns are of other types
                _log.exception("The records of two accounts could not be merged")
                work.error = f"could not be handled: {type(error).__name__}"
        self._write([(work, work.aggregates) for work in works])
        self._write([(work, work.enrolments) for work in works])
        targets = [work.merge.target for work in works if work.error is None]
        enrolled = rows_of_users(self._tables, self._names.enrolments, targets)
        for work in works:
            if work.error is None:
                work.enrolled = work.found(enrolled[work.merge.target])
        self._write([(work, work.consumption) for work in works])

    def _read_aggregates(self, works: list[_Work], enrolments: Mapping[str, list[Row] | Refused]) -> list[list[Row]]:
        """Both accounts' rows of the source's courses, for each work. spec §3.2"""
        selects = []
        owners = []
        for place, work in enumerate(works):
            courses = list(dict.fromkeys(row["courseid"] for row in work.found(enrolments[work.merge.source])))
            for start in range(0, len(courses), COURSES_IN_ONE_SELECT):
                some = courses[start : start + COURSES_IN_ONE_SELECT]
                where = {"activity_type": "Course", "activity_id": some, "user_id": list(work.merge)}
                selects.append(Select(self._names.aggregates, (), where))
                owners.append(place)
        found: list[list[Row]] = [[] for _ in works]
        for place, rows in zip(owners, self._tables.select(selects), strict=True):
            found[place] += works[place].found(rows)
        return found

    def _plan(
        self,
        work: _Work,
        consumption: Mapping[str, list[Row] | Refused],
        aggregates: list[Row],
        enrolments: Mapping[str, list[Row] | Refused],
        now: int,
    ) -> None:
        """What the target's rows get. spec §3.1, §3.2, §3.3"""
        source, target = work.merge
        changes = consumption_changes(
            work.found(consumption[source]), work.found(consumption[target]), self._date_format
        )
        work.consumption = [
            [Update(self._names.consumption, _where(target, CONSUMPTION_KEY, key), columns)]
            for key, columns in changes.items()
        ]
        theirs = {_place(row): row for row in aggregates if row["user_id"] == target}
        for row in aggregates:
            if row["user_id"] == source:
                assign, add = aggregate_change(row, theirs.get(_place(row)), now)
                activity_id, context_id = _place(row)
                where = {"activity_type": "Course", "activity_id": activity_id, "user_id": target}
                update = Update(self._names.aggregates, {**where, "context_id": context_id}, assign, add)
                work.aggregates.append([update])
        carried: dict[str, list[Update]] = defaultdict(list)
        for row in enrolments_to_carry(work.found(enrolments[source]), work.found(enrolments[target])):
            # a row with nothing beside its key can not be told from none
            if columns := carried_columns(row, ENROLMENT_KEY):
                where = _where(target, ENROLMENT_KEY, [row[name] for name in ENROLMENT_KEY])
                carried[row["batchid"]].append(Update(self._names.enrolments, where, columns))
        # a batch that is there is not carried over again, so all of it comes at once
        work.enrolments = list(carried.values())

    def _write(self, batches_of_works: list[tuple[_Work, list[list[Update]]]]) -> None:
        """The batches are small, and the client sends them together with their neighbours."""
        batches = [(work, batch) for work, of_work in batches_of_works if work.error is None for batch in of_work]
        results = self._tables.write([batch for _, batch in batches])
        for (work, _), result in zip(batches, results, strict=True):
            if result is not None:
                work.refused(result)

    def _outputs(self, work: _Work, counts: Counter[str], now: int) -> Iterator[TaggedOutput]:
        if work.error is not None:
            counts["failed-events-count"] += 1
            yield failed_event(work.value, work.error)
            return
        counts["success-events-count"] += 1
        for enrolment in work.enrolled:
            counts["db-update-user-course-batch"] += 1
            yield TaggedOutput(SYNC, sync_event(enrolment, now, self._new_id))


def _where(user_id: str, names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return {"userid": user_id, **dict(zip(names, values, strict=True))}


def _place(row: Row) -> tuple[str, str]:
    return row["activity_id"], row["context_id"]
