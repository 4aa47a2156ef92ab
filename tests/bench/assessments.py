"""What the scoring of attempts costs: the job's own steps in this process, on the real stores, without Kafka and Flink.

Attempts with few questions and with many are measured one after the other, each in a keyspace of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis
from apache_beam.pvalue import TaggedOutput
from cassandra.cluster import Cluster

from deploy.local.progress import Progress
from deploy.local.stack import Stack
from pipelines import assessment_aggregator as job
from pipelines.flink import DEFAULTS
from schemas import redis_keys
from schemas.cassandra import create_statements
from tests.bench.steps import Spent, steps_of, watched
from tests.bench.stores import RELATION_CACHE_DATABASE, Compared
from transforms.assessment_scores import CERTIFICATE
from transforms.decode import Record

__all__ = ["AssessmentsMeasured", "AssessmentsPlan", "measure_assessments"]

COURSE, BATCH, CONTENT = "do_2140777", "0140777", "do_2140778"
SERVICES = ("cassandra", "redis")
SECONDS = 60
BUNDLE = int(DEFAULTS["max_bundle_size"])
BEGINS = 1_714_623_600_000


@dataclass(frozen=True)
class AssessmentsPlan:
    """So many attempts, two of each learner, after ``warm_up`` of them; once for each number of ``questions``."""

    attempts: int = 2_000
    questions: tuple[int, ...] = (10, 100)
    warm_up: int = 200


@dataclass(frozen=True)
class AssessmentsMeasured:
    """What was found for attempts of so many questions."""

    questions: int
    attempts: int
    event_bytes: int
    spent: Spent
    correct: dict[str, Compared] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.attempts / self.spent.seconds

    @property
    def cpu_per_1000(self) -> float:
        return 1000 * self.spent.cpu / self.attempts

    @property
    def is_right(self) -> bool:
        return all(compared.wrong == 0 for compared in self.correct.values())


def measure_assessments(
    plan: AssessmentsPlan, stack: Stack, progress: Progress, batch_size: int | None = None
) -> list[AssessmentsMeasured]:
    """Run the job's steps, ``batch_size`` attempts at a time (the job's own, if none). Raises StackError."""
    stack.up(SERVICES)
    found = stack.environment()
    measured = []
    for questions in plan.questions:
        progress("assessments", f"{plan.attempts} attempts of {questions} questions")
        run = f"assessments{questions}_{int(time.time())}"
        with _stores(found, run) as session:
            measured.append(_measure(plan, questions, found, run, session, batch_size))
    progress("assessments", "done", done=True)
    return measured


def _measure(
    plan: AssessmentsPlan, questions: int, found: Mapping[str, Any], run: str, session: Any, batch_size: int | None
) -> AssessmentsMeasured:
    settings = job.Settings(
        **{
            "job.env": run,
            "lms-cassandra.host": found["lms-cassandra.host"],
            "lms-cassandra.port": found["lms-cassandra.port"],
            "lms-cassandra.keyspace": run,
            "redis.host": found["redis.host"],
            "redis.port": found["redis.port"],
            "redis.database.relationCache.id": RELATION_CACHE_DATABASE,
        }
    )
    options = {"batch_size": batch_size} if batch_size else {}
    steps = steps_of(job, settings, job.stores(settings), **options).begun()
    steps.handle_all([_record(number, questions, "warm-up") for number in range(plan.warm_up)], BUNDLE)
    records = [_record(number, questions, "learner") for number in range(plan.attempts)]
    outputs, spent = watched(lambda: steps.handle_all(records, BUNDLE))
    event_bytes = sum(len(record.value or b"") for record in records) // len(records)
    return AssessmentsMeasured(
        questions,
        plan.attempts,
        event_bytes,
        spent,
        _judge(session, run, plan, questions, outputs),
    )


def _record(number: int, questions: int, who: str) -> Record:
    """An attempt; learners' attempts alternate between half of the points and a quarter of them."""
    points = 1.0 if number % 2 == 0 else 0.5
    user_id = f"{who}-{number // 2}"
    event = {
        "assessmentTs": BEGINS + number,
        "batchId": BATCH,
        "courseId": COURSE,
        "userId": user_id,
        "attemptId": f"attempt-{number}",
        "contentId": CONTENT,
        "events": [_answer(user_id, question, points) for question in range(questions)],
    }
    return Record(orjson.dumps(event), "assessments", 0, number, 0, lasting=True)


def _answer(user_id: str, question: int, points: float) -> dict[str, Any]:
    options = [{str(option): f'{{"text":"Option {option} of question {question}\\n"}}'} for option in range(1, 5)]
    return {
        "eid": "ASSESS",
        "ets": BEGINS + question,
        "ver": "3.1",
        "mid": f"ASSESS:{user_id}:{question}",
        "actor": {"id": user_id, "type": "User"},
        "context": {
            "channel": "01309282781705830427",
            "env": "contentplayer",
            "pdata": {"id": "dev.sunbird.portal", "ver": "5.1.0", "pid": "sunbird-portal.contentplayer"},
        },
        "object": {"id": CONTENT, "type": "Content", "ver": "1"},
        "tags": [],
        "edata": {
            "item": {
                "id": f"do_21407790000{question}",
                "maxscore": 2,
                "type": "mcq",
                "exlength": 0,
                "params": [*options, {"answer": '{"correct":["1"]}'}],
                "title": f"Question {question}: which of these absorbs light?\n",
                "desc": "",
                "mmc": [],
                "mc": [],
                "uri": "",
            },
            "index": question,
            "pass": "Yes",
            "score": points,
            "resvalues": options[:1],
            "duration": 11,
        },
    }


@contextmanager
def _stores(settings: Mapping[str, Any], keyspace: str) -> Iterator[Any]:
    cluster = Cluster([settings["lms-cassandra.host"]], port=settings["lms-cassandra.port"], connect_timeout=10)
    relations = redis.Redis(settings["redis.host"], settings["redis.port"], RELATION_CACHE_DATABASE)
    try:
        session = cluster.connect()
        session.default_timeout = SECONDS
        relations.flushdb()
        relations.sadd(redis_keys.leafnodes(COURSE, COURSE), CONTENT, *(f"do_{number}" for number in range(11)))
        for statement in create_statements("dev"):
            if "sunbird_courses" in statement:
                session.execute(statement.replace("sunbird_courses", keyspace))
        try:
            yield session
        finally:
            session.execute(f"DROP KEYSPACE {keyspace}")
            relations.flushdb()
    finally:
        relations.close()
        cluster.shutdown()


def _judge(
    session: Any, keyspace: str, plan: AssessmentsPlan, questions: int, outputs: list[TaggedOutput]
) -> dict[str, Compared]:
    judged = {name: Compared() for name in ("attempts", "totals", "certificate requests")}
    rows = session.execute(f"SELECT user_id, attempt_id, grand_total FROM {keyspace}.assessment_aggregator")  # noqa: S608
    found = {row.attempt_id: row.grand_total for row in rows if row.user_id.startswith("learner")}
    wanted = {
        f"attempt-{number}": f"{float(questions if number % 2 == 0 else questions / 2)}/{2.0 * questions}"
        for number in range(plan.attempts)
    }
    judged["attempts"].note_all("", wanted, found)
    rows = session.execute(f"SELECT user_id, aggregates FROM {keyspace}.user_activity_agg")  # noqa: S608
    totals = {row.user_id: row.aggregates for row in rows}
    for number in range(0, plan.attempts, 2):
        expected = {
            f"score:{CONTENT}": float(questions),
            f"max_score:{CONTENT}": 2.0 * questions,
            f"attempts_count:{CONTENT}": float(min(2, plan.attempts - number)),
        }
        judged["totals"].note(f"learner-{number // 2}", expected, totals.get(f"learner-{number // 2}"))
    tags = Counter(output.tag for output in outputs)
    judged["certificate requests"].note_all("", {CERTIFICATE: plan.attempts}, tags)
    return judged
