"""The main acceptance cases of assessment-aggregator §9 on the real servers, through Kafka and Flink."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.local.stack import Stack
from schemas.cassandra import create_statements
from tests.e2e.installation import Installation, RunningJob, Written, from_file

JOB = "assessment-aggregator"
ATTEMPTS, AGGREGATES = "sunbird_courses.assessment_aggregator", "sunbird_courses.user_activity_agg"
BATCH = "0140777"
TEN = 1_714_644_000_000  # 2024-05-02T10:00:00Z

numbers = itertools.count()


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a course of the contents A, B, C, D, as Redis and the content service know them."""
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site"), [JOB]) as site:
        course = site.name("course")
        site.relation_cache.sadd(f"{course}:{course}:leafnodes", *(site.name(content) for content in "ABCD"))
        site.units.set(site.name("A"), '{"name":"A","total_questions":2}')
        site.stub(f"contents/{site.name('B')}", {"totalQuestions": 4})
        site.stub(f"contents/{site.name('C')}", {"name": "C"})
        site.settings["assessment.skip.missingRecords"] = True
        site.settings["content.read.api"] = f"{site.settings['service.content.basePath']}/content/v3/read"
        yield site


@pytest.fixture(scope="module")
def job(site: Installation) -> Iterator[RunningJob]:
    with site.submitted(JOB) as running:
        yield running()


def at(millis: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=millis)


def answer(question: str | None, score: Any = 1, maxscore: Any = 1, **edata: Any) -> dict[str, Any]:
    item = {"id": question, "maxscore": maxscore, **edata.pop("item", {})}
    return {"ets": edata.pop("ets", TEN), "edata": {"item": item, "score": score, **edata}}


class Learner:
    """A learner of the course."""

    def __init__(self, site: Installation) -> None:
        self.site = site
        self.id = site.name(f"learner-{next(numbers)}")
        self.course = site.name("course")

    def recompute(self, **members: Any) -> dict[str, Any]:
        ids = {"userId": self.id, "courseId": self.course, "batchId": BATCH, "contentId": self.site.name("A")}
        return {**ids, **members}

    def event(self, *answers: Any, content: str = "A", attempt: str = "x", time: int = TEN, **more: Any) -> Any:
        found = {"contentId": self.site.name(content), "attemptId": attempt, "assessmentTs": time, **more}
        return self.recompute(events=list(answers or (answer("q1"),)), **found)

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return self.site.rows(ATTEMPTS, user_id=self.id, course_id=self.course, batch_id=BATCH)

    @property
    def key(self) -> dict[str, str]:
        return {
            "activity_type": "Course",
            "activity_id": self.course,
            "user_id": self.id,
            "context_id": f"cb:{BATCH}",
        }

    @property
    def totals(self) -> dict[str, Any] | None:
        return self.site.row(AGGREGATES, **self.key)

    def aggregates(self, **changed: float) -> dict[str, float]:
        """Names like ``score_A`` as they are in the table."""
        names = {name: f"{name.rpartition('_')[0]}:{self.site.name(name[-1])}" for name in changed}
        return {names[name]: value for name, value in changed.items()}


def handle(site: Installation, *events: Any) -> list[Written]:
    """Send events, in order, wait until they are handled; what was written."""
    site.written()
    values = [one if isinstance(one, bytes) else orjson.dumps(one) for one in events]
    site.send(site.topics.read_by(JOB), *values, key=b"one")
    site.handled(JOB)
    return site.written()


def asked_for(site: Installation, written: list[Written]) -> list[str]:
    """The attempts of the certificate requests, sorted: without a key they lie in any partition, so in any order."""
    requests = [found for found in written if found.topic == site.topics.certificates]
    assert all(found.key is None for found in requests)
    return sorted(found.event["edata"]["attemptId"] for found in requests)


def test_first_attempt(site: Installation, job: RunningJob) -> None:
    """§9 cases 1, 2, 4 and 13: what the server has of every type"""
    learner = Learner(site)
    site.insert(AGGREGATES, **learner.key, aggregates={"completedCount": 7.0})
    resvalues = [{"1": 4}, {"2": {"x": True}}, {"3": None}, None]
    full = {"type": "mcq", "title": "T é\n", "desc": "d", "params": [{"1": "a", "2": "b"}, {}]}
    written = handle(
        site,
        learner.event(
            answer("q1", 0, 2, ets=TEN + 1),
            answer("q2", "0.5"),
            answer("q1", 2, 2, ets=TEN + 9, duration=2.5, resvalues=resvalues, item=full),
            answer("q1", 1, 2, ets=TEN + 5),
        ),
    )
    (row,) = learner.attempts
    assert (row["total_score"], row["total_max_score"], row["grand_total"]) == (2.5, 3.0, "2.5/3.0")
    assert row["last_attempted_on"] == at(TEN)
    assert row["created_on"] == row["updated_on"]
    first, second = (question._asdict() for question in row["question"])
    assert [dict(entry) for entry in first.pop("resvalues")] == [{"1": "4.0"}, {"2": '{"x":true}'}, {}]
    assert [dict(entry) for entry in first.pop("params")] == [{"1": "a", "2": "b"}, {}]
    assert first == {
        "id": "q1",
        "assess_ts": at(TEN + 9),
        "max_score": 2.0,
        "score": 2.0,
        "type": "mcq",
        "title": "T é\n",
        "description": "d",
        "duration": Decimal("2.5"),
    }
    assert [second[name] for name in ("id", "score", "type", "title", "description")] == ["q2", 0.5, None, None, None]
    assert (second["resvalues"], second["params"], second["duration"]) == ([], [], Decimal("0.0"))
    totals = learner.totals
    assert totals is not None
    scores = learner.aggregates(score_A=2.5, max_score_A=3.0, attempts_count_A=1.0)
    assert dict(totals["aggregates"]) == {"completedCount": 7.0, **scores}
    assert dict(totals["agg_last_updated"]) == dict.fromkeys(scores, row["updated_on"])
    assert list(map(orjson.loads, totals["agg_details"])) == [
        {
            "attempt_id": "x",
            "last_attempted_on": "May 2, 2024, 10:00:00 AM",
            "score": 2.5,
            "content_id": site.name("A"),
            "max_score": 3.0,
            "type": "attempt_metrics",
        }
    ]
    assert asked_for(site, written) == ["x"]


def test_many_attempts_of_many_learners(site: Installation, job: RunningJob) -> None:
    """§9 cases 3, 5 and 10, all in one go"""
    learners = [Learner(site) for _ in range(40)]
    events: list[Any] = []
    for time, score, attempt, content in (
        (TEN + 60, 1, "x", "A"),
        (TEN, 0, "x", "A"),
        (TEN + 300, 0.5, "x", "A"),
        (TEN + 60, 1, "x", "A"),
        (TEN + 400, 0.25, "y", "A"),
        (TEN + 400, 0.25, "y", "A"),
        (TEN, 1, "z", "B"),
    ):
        events += [one.event(answer("q1", score), attempt=attempt, time=time, content=content) for one in learners]
    requests = asked_for(site, handle(site, *events))
    assert requests == [""] * 40 + ["x"] * 80 + ["y"] * 80
    for learner in learners:
        assert [(row["attempt_id"], row["total_score"]) for row in learner.attempts] == [
            ("x", 0.5),
            ("y", 0.25),
            ("z", 1.0),
        ]
        assert learner.totals is not None
        assert dict(learner.totals["aggregates"]) == {
            **learner.aggregates(score_A=0.5, max_score_A=1.0, attempts_count_A=2.0),
            **learner.aggregates(score_B=1.0, max_score_B=1.0, attempts_count_B=1.0),
        }
        assert len(learner.totals["agg_details"]) == 3


def test_recompute(site: Installation, job: RunningJob) -> None:
    """§9 case 11, with rows that lack what they may lack"""
    learner = Learner(site)
    ids = {"user_id": learner.id, "course_id": learner.course, "batch_id": BATCH, "content_id": site.name("A")}
    site.insert(ATTEMPTS, **ids, attempt_id="b", total_score=2.0, total_max_score=3.0, last_attempted_on=at(TEN))
    site.insert(ATTEMPTS, **ids, attempt_id="a", total_score=None, total_max_score=None, last_attempted_on=None)
    site.insert(ATTEMPTS, **ids, attempt_id="c", total_score=1.0, total_max_score=5.0, last_attempted_on=at(TEN + 1))
    assert asked_for(site, handle(site, learner.recompute())) == ["c"]
    assert learner.totals is not None
    scores = learner.aggregates(score_A=2.0, max_score_A=3.0, attempts_count_A=3.0)
    assert dict(learner.totals["aggregates"]) == scores
    details = list(map(orjson.loads, learner.totals["agg_details"]))
    assert [(one["attempt_id"], "last_attempted_on" in one) for one in details] == [
        ("a", False),
        ("b", True),
        ("c", True),
    ]


def test_what_can_not_be_scored_goes_to_the_failed_topic(site: Installation, job: RunningJob) -> None:
    """§9 cases 6, 8, 9 and 12"""
    learner = Learner(site)
    three = [answer(f"q{number}") for number in range(3)]
    unchanged = [
        learner.event(content="elsewhere", mid="LP.1"),
        learner.event(*three),
        learner.recompute(contentId="nowhere"),
    ]
    bad = [learner.event(content="D"), learner.event(userId=None), learner.event(answer("q", ets="x"), mid="LP.2")]
    good = [
        learner.event(*three, content="B", attempt="b"),
        learner.event(*three, content="C", attempt="c"),
        learner.event(*(answer(f"q{n % 2}", ets=TEN + n) for n in range(5)), attempt="a"),
    ]
    written = handle(site, *unchanged, b'{"courseId":', *bad, b"null", b"", *good)
    assert [(row["attempt_id"], len(row["question"])) for row in learner.attempts] == [("a", 2), ("b", 3), ("c", 3)]
    failed = [found for found in written if found.topic == site.topics.failed_of(JOB)]
    as_they_came = [found.event for found in failed if "metadata" not in found.event]
    assert sorted(as_they_came, key=orjson.dumps) == sorted(unchanged, key=orjson.dumps)
    assert sorted(found.key or b"" for found in failed) == [b""] * 7 + [b"LP.1", b"LP.2"]
    reasons = sorted(found.event["metadata"]["validation_error"] for found in failed if "metadata" in found.event)
    content = site.name("D")
    assert f"Failed to fetch the content meta for the content ID: {content}" in reasons
    assert len(reasons) == 6
    assert {found.event["metadata"]["src"] for found in failed if "metadata" in found.event} == {"AssessmentAggregator"}
    assert '{"courseId":' in [found.event.get("rawEvent") for found in failed]
    assert job.failures == [], "no record stops the job"


def test_on_a_table_with_the_key_of_the_migration_scripts(site: Installation, tmp_path: Path) -> None:
    """§4: either key serves every statement. From a file."""
    keyspace = site.name("other").replace("-", "_")
    for statement in create_statements("dev"):
        if "sunbird_courses" in statement:
            text = statement.replace("sunbird_courses", keyspace)
            old_key = "PRIMARY KEY (course_id, batch_id, user_id, content_id, attempt_id)"
            text = text.replace("PRIMARY KEY ((user_id, course_id), batch_id, content_id, attempt_id)", old_key)
            order = "user_id ASC, content_id ASC" if old_key in text else "content_id ASC"
            site.session.execute(text.replace("batch_id ASC, content_id ASC", f"batch_id ASC, {order}"))
    try:
        learners = [Learner(site) for _ in range(30)]
        events = [
            learner.event(answer("q1", score), attempt=attempt)
            for score, attempt in ((1, "x"), (0.5, "y"))
            for learner in learners
        ]
        configuration = site.configuration(JOB, **{"lms-cassandra__keyspace": keyspace})
        counted, _ = from_file(JOB, configuration, tmp_path, *map(orjson.dumps, events))
        assert counted["batch-success-event-count"] == 60
        for learner in learners:
            row = site.row(f"{keyspace}.user_activity_agg", **learner.key)
            assert row is not None
            scores = learner.aggregates(score_A=1.0, max_score_A=1.0, attempts_count_A=2.0)
            assert dict(row["aggregates"]) == scores
    finally:
        site.session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)
