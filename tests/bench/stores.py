"""The stores of a measurement: what is in them before it, and what is found in them after.

A measurement has its own keyspace and its own Redis databases, so that nothing that was there before disturbs it and
nothing of it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from cassandra.cluster import Cluster, Session
from cassandra.concurrent import execute_concurrent_with_args

from deploy.local.scenario import COMPLETED, Course, EndState, Enrolment, Platform
from schemas.cassandra import create_statements
from tests.bench.load import Load, relation_cache

__all__ = ["DEDUP_DATABASE", "EXAMPLES", "RELATION_CACHE_DATABASE", "Compared", "Stores", "opened"]

RELATION_CACHE_DATABASE = 14
DEDUP_DATABASE = 15
TABLES = ("user_content_consumption", "user_activity_agg", "user_enrolments")
IN_FLIGHT = 64
SECONDS = 60
EXAMPLES = 5


@dataclass
class Compared:
    """How many of the expected things are right and wrong, with some of the wrong ones."""

    right: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, what: str, wanted: Any, found: Any) -> None:
        if wanted == found:
            self.right += 1
            return
        self.wrong += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{what}: expected {wanted}, found {found}")

    def note_all(self, what: str, wanted: dict[Any, Any], found: dict[Any, Any]) -> None:
        """Each entry of either is one thing."""
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            self.note(f"{what} {key}".strip(), wanted.get(key), found.get(key))


@contextmanager
def opened(settings: dict[str, Any], environment: str, keyspace: str) -> Iterator[Stores]:
    """The stores that the stack's settings name, with an empty keyspace and empty databases; all gone afterwards."""
    cluster = Cluster([settings["lms-cassandra.host"]], port=settings["lms-cassandra.port"], connect_timeout=10)
    try:
        session = cluster.connect()
        session.default_timeout = SECONDS
        stores = Stores(session, environment, keyspace, settings["redis.host"], settings["redis.port"])
        try:
            yield stores
        finally:
            stores.clear()
    finally:
        cluster.shutdown()


class Stores:
    """Writes what is there before a load, reads what is there after it."""

    def __init__(self, session: Session, environment: str, keyspace: str, redis_host: str, redis_port: int) -> None:
        self._session = session
        self._keyspace = keyspace
        self._relation_cache = redis.Redis(redis_host, redis_port, RELATION_CACHE_DATABASE, socket_timeout=SECONDS)
        self._dedup = redis.Redis(redis_host, redis_port, DEDUP_DATABASE, socket_timeout=SECONDS)
        self.clear()
        self._create(environment)
        self._platform = Platform(session, environment, keyspace)

    def _create(self, environment: str) -> None:
        wanted = {"sunbird_courses", *(f"sunbird_courses.{table}" for table in TABLES)}
        for statement in create_statements(environment):
            name = statement.replace("IF NOT EXISTS ", "").split()[2].partition("(")[0]
            if name in wanted:
                self._session.execute(statement.replace("sunbird_courses", self._keyspace))

    def clear(self) -> None:
        self._session.execute(f"DROP KEYSPACE IF EXISTS {self._keyspace}")
        self._relation_cache.flushdb()
        self._dedup.flushdb()

    # --- before

    def publish(self, course: Course) -> None:
        """What relation-cache-updater leaves."""
        with self._relation_cache.pipeline() as pipeline:
            for key, members in relation_cache(course).items():
                pipeline.sadd(key, *members)
            pipeline.execute()

    def enrol(self, load: Load) -> None:
        """Enrol the learners, and write the rows that the LMS has written by the time that the job sees the events."""
        self._platform.enrol(load.scenario.enrolments)
        self._platform.store_consumption(load.written_by_lms())

    # --- after

    def compare(self, load: Load, enrolments: Collection[Enrolment] = ()) -> dict[str, Compared]:
        """Compare each learner's rows with what the load implies, table by table; without ``enrolments``, of all."""
        chosen = list(enrolments or load.end_states)
        (course,) = load.scenario.courses
        activities = (course.id, *course.units)
        consumption = self._select(
            "SELECT contentid, viewcount, completedcount FROM {}.user_content_consumption"
            " WHERE userid = ? AND courseid = ? AND batchid = ?",
            chosen,
        )
        rows_of_enrolments = self._select(
            "SELECT status, progress, contentstatus, completedon FROM {}.user_enrolments"
            " WHERE userid = ? AND courseid = ? AND batchid = ?",
            chosen,
        )
        aggregates = self._select(
            "SELECT activity_id, aggregates FROM {}.user_activity_agg"
            " WHERE activity_type = 'Course' AND activity_id = ? AND user_id = ? AND context_id = ?",
            [(activity, e.user_id, f"cb:{e.batch_id}") for e in chosen for activity in activities],
        )
        compared = {table: Compared() for table in TABLES}
        for number, enrolment in enumerate(chosen):
            user_id, state = enrolment.user_id, load.end_states[enrolment]
            # a row that the job has not touched carries no counts
            counts = {
                row.contentid: (row.viewcount, row.completedcount)
                for row in consumption[number]
                if (row.viewcount, row.completedcount) != (None, None)
            }
            compared["user_content_consumption"].note_all(user_id, dict.fromkeys(state.counted, (1, 1)), counts)
            of_learner = aggregates[number * len(activities) : (number + 1) * len(activities)]
            done = {row.activity_id: row.aggregates["completedCount"] for rows in of_learner for row in rows}
            wanted = {activity: float(count) for activity, count in state.aggregates.items()}
            # a unit of which something was begun and nothing is completed has a row with nothing in it
            compared["user_activity_agg"].note_all(user_id, wanted, {a: count for a, count in done.items() if count})
            found = [_enrolment(row) for row in rows_of_enrolments[number]]
            compared["user_enrolments"].note(user_id, [_expected_enrolment(state)], found)
        return compared

    def _select(self, text: str, arguments: Collection[tuple[Any, ...]]) -> list[list[Any]]:
        statement = self._session.prepare(text.format(self._keyspace))
        results = execute_concurrent_with_args(self._session, statement, arguments, concurrency=IN_FLIGHT)
        return [list(result.result_or_exc) for result in results]


def _enrolment(row: Any) -> tuple[Any, ...]:
    completed = {content for content, status in (row.contentstatus or {}).items() if status == COMPLETED}
    return row.status, row.progress, completed, row.completedon is not None


def _expected_enrolment(state: EndState) -> tuple[Any, ...]:
    return state.status, state.progress, set(state.counted), state.certificate
