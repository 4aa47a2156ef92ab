"""The step that stores attempts with their scores: many events at once through the stores, each learner's in order.

``transforms.assessment`` and ``transforms.assessment_totals`` have the rules. Here is the order of reads and writes:
check the content, count its questions, read all attempts of the learners, compute everything, write the attempts, then
what follows from them, emit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from apache_beam.pvalue import TaggedOutput

from schemas import redis_keys
from transforms.assessment import Assessment, InvalidAssessment, Question, assessment_of, last_answers, question_of
from transforms.assessment_failures import failed_event, unchanged_event
from transforms.assessment_question_counts import UNKNOWN, QuestionCounts
from transforms.assessment_totals import (
    Attempt,
    attempt_details,
    attempt_of,
    grand_total,
    in_table_order,
    latest_attempt,
    totals,
)
from transforms.audit import certificate_request
from transforms.counters import count
from transforms.dead_letter import FAILED
from transforms.decode import parse_object
from transforms.enrolments import OWNERS_IN_ONE_SELECT, Enrolment
from transforms.keyed_batch import KeyedBatch
from transforms.services import ContentReads, ServiceRefused
from transforms.stores import KeyValues, Opens, Refused, Row, Select, Tables, Update

__all__ = ["CERTIFICATE", "AssessmentStores", "AssessmentTables", "ScoreAssessments"]

CERTIFICATE = "certificate"

# Bytes of the events that are in memory at a time, all taken apart: that takes some ten times as much. An event has
# about 900 for each question.
BYTES_AT_ONCE = 4_000_000

_EPOCH = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)

Attempts = dict[tuple[str, str], Attempt]
"""A learner's attempts in a batch of a course, by content and attempt."""


@dataclass(frozen=True)
class AssessmentStores:
    """The recipes of the stores. Without ``content_cache`` the number of questions has no limit."""

    tables: Opens[Tables]
    relation_cache: Opens[KeyValues]
    content_cache: Opens[KeyValues] | None
    contents: Opens[ContentReads]
    calls: Opens[Executor]


@dataclass(frozen=True)
class AssessmentTables:
    """The tables' full names, ``keyspace.table``."""

    attempts: str
    aggregates: str


@dataclass(slots=True)
class _Event:
    """An event on its way through the step; ``ended`` when nothing more is done for it."""

    payload: bytes
    assessment: Assessment
    questions: list[Question] = field(default_factory=list)
    outputs: list[TaggedOutput] = field(default_factory=list)
    ended: bool = False


class ScoreAssessments(KeyedBatch):
    """Takes ``(shard of the user, valid event)``, all bytes; gives CERTIFICATE values (JSON as bytes) and FAILED
    Kafka records (key, value).

    The counters are those of handling each event alone, but for the calls of the content service, which is asked once
    for all events of a content. Raises StoreUnavailable, so that the bundle fails and nothing of it is committed.

    spec: assessment-aggregator §3.2-§3.8
    """

    def __init__(
        self,
        job: str,
        stores: AssessmentStores,
        tables: AssessmentTables,
        *,
        detail_type: str,
        size: int,
        remembered_seconds: int,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._names = tables
        self._detail_type = detail_type
        self._remembered_seconds = remembered_seconds
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._relation_cache = self._stores.relation_cache.open()
        self._question_counts = (
            QuestionCounts(
                self._stores.content_cache.open(),
                self._stores.contents.open(),
                self._stores.calls.open(),
                self._remembered_seconds,
                self._clock,
            )
            if self._stores.content_cache
            else None
        )
        self._counts: Counter[str] = Counter()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        self._counts.clear()
        outputs = [output for some in _cut(payloads) for output in self._score(some)]
        for name, times in self._counts.items():
            count(self._job, name, times)
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-event-count")
        reason = (
            f"refused by the store: {error}"
            if isinstance(error, Refused)
            else f"could not be handled: {type(error).__name__}"
        )
        return [TaggedOutput(FAILED, failed_event(reason, payload, parse_object(payload)))]

    def _score(self, payloads: list[bytes]) -> list[TaggedOutput]:
        now = self._clock()
        events = [_Event(payload, assessment_of(parse_object(payload))) for payload in payloads]
        self._check_contents(events)
        self._read_questions(events)
        learners = self._read_attempts(event.assessment.enrolment for event in events if not event.ended)
        written: dict[tuple[Enrolment, str, str], Update] = {}
        for event in events:
            if not event.ended:
                self._advance(event, learners[event.assessment.enrolment], written, now)
        aggregated = {event.assessment.enrolment for event in events if not event.ended}
        self._write(list(written.values()))
        self._write(
            [
                self._aggregate_update(learner, attempts, now)
                for learner, attempts in learners.items()
                if attempts and learner in aggregated
            ]
        )
        return [output for event in events for output in event.outputs]

    # --- which events go on (§3.2-§3.5)

    def _check_contents(self, events: list[_Event]) -> None:
        """End the events whose content is not part of the course. spec §3.2"""
        courses = list({event.assessment.enrolment.course_id: None for event in events})
        found = self._relation_cache.members([redis_keys.leafnodes(course_id, course_id) for course_id in courses])
        leaf_nodes = dict(zip(courses, found, strict=True))
        for event in events:
            of_course = leaf_nodes[event.assessment.enrolment.course_id]
            self._counts["cache-hit-count" if of_course else "cache-hit-miss-count"] += 1
            if of_course and event.assessment.content_id not in of_course:
                self._turn_away(event, "failed-event-count")

    def _read_questions(self, events: list[_Event]) -> None:
        """Take what was answered from the events, and end those with more of it than there is. spec §3.3-§3.5"""
        answers = {
            place: last_answers(event.assessment.answers)
            for place, event in enumerate(events)
            if event.assessment.answers and not event.ended
        }
        if self._question_counts:
            self._limit(events, answers)
        for place, of_event in answers.items():
            event = events[place]
            if not event.ended:
                try:
                    event.questions = [question_of(answer) for answer in of_event]
                except InvalidAssessment as error:
                    self._fail(event, str(error))

    def _limit(self, events: list[_Event], answers: dict[int, list[dict[str, Any]]]) -> None:
        """spec §3.4"""
        assert self._question_counts is not None  # noqa: S101 - only then is there a limit
        most: dict[str, int] = {}
        for place, of_event in answers.items():
            content_id = events[place].assessment.content_id
            most[content_id] = max(len(of_event), most.get(content_id, 0))
        if not most:
            return
        stored, told = self._question_counts.look_up(most, self._counts)
        for place, of_event in answers.items():
            event = events[place]
            content_id = event.assessment.content_id
            self._counts["cache-hit-count"] += 1
            total: int | ServiceRefused = stored[content_id]
            if total == UNKNOWN:
                self._counts["cache-hit-miss-count"] += 1
                total = told[content_id]
            if isinstance(total, ServiceRefused):
                self._fail(event, f"Failed to fetch the content meta for the content ID: {content_id}")
            elif UNKNOWN < total < len(of_event):
                self._turn_away(event, "ignored-event-count")

    def _turn_away(self, event: _Event, counter: str) -> None:
        self._counts[counter] += 1
        event.outputs.append(TaggedOutput(FAILED, unchanged_event(event.payload, parse_object(event.payload))))
        event.ended = True

    def _fail(self, event: _Event, reason: str) -> None:
        self._counts["failed-event-count"] += 1
        failed = failed_event(reason, event.payload, parse_object(event.payload))
        event.outputs.append(TaggedOutput(FAILED, failed))
        event.ended = True

    # --- the attempts (§3.5, §3.7)

    def _read_attempts(self, enrolments: Iterable[Enrolment]) -> dict[Enrolment, Attempts]:
        """All attempts of each learner in that batch of the course: one statement for many learners of a batch."""
        learners: dict[Enrolment, Attempts] = {enrolment: {} for enrolment in enrolments}
        by_batch: dict[tuple[str, str], list[str]] = defaultdict(list)
        for user_id, course_id, batch_id in learners:
            by_batch[course_id, batch_id].append(user_id)
        columns = ("content_id", "attempt_id", "last_attempted_on", "created_on", "total_max_score", "total_score")
        selects = [
            Select(
                self._names.attempts,
                ("user_id", *columns),
                {"user_id": users[start : start + OWNERS_IN_ONE_SELECT], "course_id": course_id, "batch_id": batch_id},
            )
            for (course_id, batch_id), users in by_batch.items()
            for start in range(0, len(users), OWNERS_IN_ONE_SELECT)
        ]
        for select, rows in zip(selects, self._tables.select(selects), strict=True):
            if isinstance(rows, Refused):
                raise rows
            for row in rows:
                attempt = _attempt(row)
                enrolment = Enrolment(row["user_id"], select.where["course_id"], select.where["batch_id"])
                learners[enrolment][attempt.content_id, attempt.attempt_id] = attempt
        return learners

    def _advance(
        self,
        event: _Event,
        attempts: Attempts,
        written: dict[tuple[Enrolment, str, str], Update],
        now: int,
    ) -> None:
        """Score the event's attempt, and ask for a certificate with what there is then. spec §3.5, §3.6, §3.8"""
        if not event.questions:
            self._counts["recompute-agg-event-count"] += 1
        elif not self._take(event, attempts, written, now):
            event.ended = True
            return
        self._counts["db-score-read-count"] += 1
        self._counts["db-score-update-count"] += bool(attempts)
        self._counts["cert-issue-events-count"] += 1
        request = certificate_request(event.assessment.enrolment, now, self._new_id, latest_attempt(attempts))
        event.outputs.append(TaggedOutput(CERTIFICATE, request))

    def _take(
        self,
        event: _Event,
        attempts: Attempts,
        written: dict[tuple[Enrolment, str, str], Update],
        now: int,
    ) -> bool:
        """Put the event's attempt among the others unless it is there; whether to go on. spec §3.5"""
        enrolment, content_id, attempt_id, attempted_on, _ = event.assessment
        stored = attempts.get((content_id, attempt_id))
        created_on = now
        if stored is not None:
            self._counts["db-read-count"] += 1
            if attempted_on <= (stored.attempted_on or 0):
                self._counts["skipped-event-count"] += 1
                return attempted_on == (stored.attempted_on or 0)
            created_on = now if stored.created_on is None else stored.created_on
        try:
            attempt = attempt_of(content_id, attempt_id, attempted_on, created_on, event.questions)
        except InvalidAssessment as error:
            self._fail(event, str(error))
            return False
        attempts[content_id, attempt_id] = attempt
        written[enrolment, content_id, attempt_id] = self._attempt_update(enrolment, attempt, event.questions, now)
        self._counts["batch-success-event-count"] += 1
        self._counts["db-update-count"] += 1
        return True

    # --- the writes (§3.5, §3.7)

    def _write(self, updates: Sequence[Update]) -> None:
        """Write each by itself. Raises Refused, upon which each event is handled alone."""
        if not updates:
            return
        for refused in self._tables.write([[update] for update in updates]):
            if refused is not None:
                raise refused

    def _attempt_update(self, enrolment: Enrolment, attempt: Attempt, questions: list[Question], now: int) -> Update:
        user_id, course_id, batch_id = enrolment
        return Update(
            self._names.attempts,
            {
                "course_id": course_id,
                "batch_id": batch_id,
                "user_id": user_id,
                "content_id": attempt.content_id,
                "attempt_id": attempt.attempt_id,
            },
            {
                "updated_on": now,
                "created_on": attempt.created_on,
                "last_attempted_on": attempt.attempted_on,
                "total_score": attempt.score,
                "total_max_score": attempt.max_score,
                "question": questions,
                "grand_total": grand_total(attempt.score, attempt.max_score),
            },
        )

    def _aggregate_update(self, enrolment: Enrolment, attempts: Attempts, now: int) -> Update:
        user_id, course_id, batch_id = enrolment
        in_order = in_table_order(attempts.values())
        aggregates = totals(in_order)
        return Update(
            self._names.aggregates,
            {
                "activity_type": "Course",
                "activity_id": course_id,
                "user_id": user_id,
                "context_id": f"cb:{batch_id}",
            },
            {"agg_details": attempt_details(in_order, self._detail_type)},
            {"aggregates": aggregates, "agg_last_updated": dict.fromkeys(aggregates, now)},
        )


def _cut(payloads: list[bytes]) -> Iterator[list[bytes]]:
    """In parts of at most BYTES_AT_ONCE, or of one event."""
    some: list[bytes] = []
    size = 0
    for payload in payloads:
        if some and size + len(payload) > BYTES_AT_ONCE:
            yield some
            some, size = [], 0
        some.append(payload)
        size += len(payload)
    if some:
        yield some


def _attempt(row: Row) -> Attempt:
    return Attempt(
        row["content_id"],
        row["attempt_id"],
        _epoch_millis(row["last_attempted_on"]),
        _epoch_millis(row["created_on"]),
        row["total_score"] or 0.0,
        row["total_max_score"] or 0.0,
    )


def _epoch_millis(moment: datetime | None) -> int | None:
    """A Cassandra timestamp, which the client gives as a naive UTC datetime."""
    return None if moment is None else (moment - _EPOCH) // _MILLISECOND
