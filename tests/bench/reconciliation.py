"""What counting progress again costs in a course of 200 contents.

The job's own steps in this process, on the local stack's Cassandra and Redis, without Kafka and Flink.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis
from apache_beam.pvalue import TaggedOutput
from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent_with_args

from deploy.local.progress import Progress
from deploy.local.stack import Stack
from pipelines import enrolment_reconciliation as job
from schemas.cassandra import create_statements
from tests.bench.load import Shape, relation_cache
from tests.bench.steps import Spent, steps_of, watched
from tests.bench.stores import RELATION_CACHE_DATABASE, Compared
from transforms.decode import Record

__all__ = ["ReconciliationsMeasured", "ReconciliationsPlan", "measure_reconciliations"]

BATCH = "0140777"
SERVICES = ("cassandra", "redis")
SECONDS = 60


@dataclass(frozen=True)
class ReconciliationsPlan:
    """So many learners after ``warm_up`` of them; every second has completed the course, the others half of it."""

    reconciliations: int = 500
    leaf_nodes: int = 200
    units: int = 20
    warm_up: int = 50


@dataclass(frozen=True)
class ReconciliationsMeasured:
    """What was found."""

    plan: ReconciliationsPlan
    spent: Spent
    correct: dict[str, Compared] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.plan.reconciliations / self.spent.seconds

    @property
    def cpu_per_1000(self) -> float:
        return 1000 * self.spent.cpu / self.plan.reconciliations

    @property
    def is_right(self) -> bool:
        return all(compared.wrong == 0 for compared in self.correct.values())


def measure_reconciliations(plan: ReconciliationsPlan, stack: Stack, progress: Progress) -> ReconciliationsMeasured:
    """Run the job's steps, in bundles as large as they are on Flink. Raises StackError."""
    stack.up(SERVICES)
    progress("reconciliations", f"{plan.reconciliations} learners of {plan.leaf_nodes} contents")
    found = stack.environment()
    run = f"reconciliation{int(time.time())}"
    course = Shape(leaf_nodes=plan.leaf_nodes, units=plan.units).course(run)
    settings = job.Settings(
        **{name: found[name] for name in ("lms-cassandra.host", "lms-cassandra.port", "redis.host", "redis.port")},
        **{"lms-cassandra.keyspace": run, "redis.database.relationCache.id": RELATION_CACHE_DATABASE},
    )
    learners = range(plan.warm_up + plan.reconciliations)
    records = [_record(number, course.id) for number in learners]
    with _stores(found, run, relation_cache(course)) as session:
        _consume(session, run, course.id, course.leaf_nodes, learners)
        steps = steps_of(job, settings, job.stores(settings)).begun()
        steps.handle_all(records[: plan.warm_up], job.AT_ONCE)
        outputs, spent = watched(lambda: steps.handle_all(records[plan.warm_up :], job.AT_ONCE))
        correct = _judge(session, run, plan, course.id, outputs)
    progress("reconciliations", "done", done=True)
    return ReconciliationsMeasured(plan, spent, correct)


def _record(number: int, course_id: str) -> Record:
    ids = {"userId": f"learner-{number}", "courseId": course_id, "batchId": BATCH}
    event = {"eid": "BE_JOB_REQUEST", "edata": {"action": "user-enrolment-sync", "iteration": 1, **ids}}
    return Record(orjson.dumps(event), "reconciliations", 0, number, 0, lasting=True)


def _has_completed(number: int) -> bool:
    return number % 2 == 0


@contextmanager
def _stores(settings: Mapping[str, Any], keyspace: str, relations: Mapping[str, set[str]]) -> Iterator[Any]:
    """A session, with an empty keyspace and the course in the relation cache; all gone afterwards."""
    cluster = Cluster([settings["lms-cassandra.host"]], port=settings["lms-cassandra.port"], connect_timeout=10)
    cache = redis.Redis(settings["redis.host"], settings["redis.port"], RELATION_CACHE_DATABASE)
    try:
        session = cluster.connect()
        session.default_timeout = SECONDS
        cache.flushdb()
        for key, members in relations.items():
            cache.sadd(key, *members)
        for statement in create_statements("dev"):
            if "sunbird_courses" in statement:
                session.execute(statement.replace("sunbird_courses", keyspace))
        try:
            yield session
        finally:
            session.execute(f"DROP KEYSPACE {keyspace}")
            cache.flushdb()
    finally:
        cache.close()
        cluster.shutdown()


def _consume(session: Any, keyspace: str, course_id: str, contents: list[str], learners: range) -> None:
    """The rows that the LMS and activity-aggregate-updater have written."""
    key = f"'{course_id}', '{BATCH}'"
    enrol = session.prepare(
        f"INSERT INTO {keyspace}.user_enrolments (userid, courseid, batchid, active, status) "  # noqa: S608
        f"VALUES (?, {key}, true, 1)"
    )
    execute_concurrent_with_args(session, enrol, [(f"learner-{number}",) for number in learners])
    consume = session.prepare(
        f"INSERT INTO {keyspace}.user_content_consumption "  # noqa: S608
        f"(userid, courseid, batchid, contentid, status, viewcount, completedcount) VALUES (?, {key}, ?, ?, 1, 1)"
    )
    for number in learners:
        half = len(contents) // 2
        rows = [
            (f"learner-{number}", content, 2 if place < half or _has_completed(number) else 1)
            for place, content in enumerate(contents)
        ]
        execute_concurrent_with_args(session, consume, rows)


def _judge(
    session: Any, keyspace: str, plan: ReconciliationsPlan, course_id: str, outputs: list[TaggedOutput]
) -> dict[str, Compared]:
    judged = {name: Compared() for name in ("enrolments", "aggregates", "certificate requests")}
    rows = session.execute(f"SELECT userid, status, progress, contentstatus FROM {keyspace}.user_enrolments")  # noqa: S608
    enrolments = {row.userid: (row.status, row.progress, len(row.contentstatus)) for row in rows}
    rows = session.execute(f"SELECT activity_id, user_id, aggregates FROM {keyspace}.user_activity_agg")  # noqa: S608
    aggregates: dict[str, dict[str, float]] = {}
    for row in rows:
        aggregates.setdefault(row.user_id, {})[row.activity_id] = row.aggregates["completedCount"]
    for number in range(plan.warm_up + plan.reconciliations):
        learner, leaf_nodes = f"learner-{number}", plan.leaf_nodes
        done = leaf_nodes if _has_completed(number) else leaf_nodes // 2
        status = 2 if _has_completed(number) else 1
        judged["enrolments"].note(learner, (status, done, leaf_nodes), enrolments.get(learner))
        found = aggregates.get(learner, {})
        units = sum(count for activity, count in found.items() if activity != course_id)
        judged["aggregates"].note(
            learner, (plan.units + 1, float(done), float(done)), (len(found), found.get(course_id), units)
        )
    completed = sum(_has_completed(number) for number in range(plan.warm_up, plan.warm_up + plan.reconciliations))
    requests = sum(output.tag == "certificate" for output in outputs)
    judged["certificate requests"].note("all", completed, requests)
    return judged
