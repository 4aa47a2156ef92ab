"""The acceptance cases of assessment-aggregator §9, and its failures of §6, on DirectRunner."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import orjson
import pytest

from io_connectors.memory import MemoryRedis
from io_connectors.services import ContentReadApi
from pipelines import assessment_aggregator as job
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import AGGREGATES, BATCH, COURSE, NOW, USER, CertificateSite, dumps
from transforms.assessment_scores import AssessmentStores
from transforms.stores import Refused, Update

ATTEMPTS = "sunbird_courses.assessment_aggregator"
CERTIFICATES, FAILED = "dev.issue.certificate.request", "dev.telemetry.assess.failed"
TEN = 1_714_644_000_000  # 2024-05-02T10:00:00Z
NOON = TEN + 2 * 3_600_000
MINUTE = 60_000


def at(millis: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=millis)


def answer(question: str | None = "q1", score: Any = 1, maxscore: Any = 1, ets: Any = TEN, **edata: Any) -> Any:
    item = {"id": question, "maxscore": maxscore, "type": "mcq", "title": "T\n", "desc": "", "params": [{"1": "a"}]}
    item |= edata.pop("item", {})
    return {"eid": "ASSESS", "ets": ets, "edata": {"item": item, "score": score, "pass": "Yes", "duration": 11} | edata}


def event(*answers: Any, attempt: str = "attempt-1", time: int = TEN, content: str = "A", **members: Any) -> dict:
    return {
        "assessmentTs": time,
        "batchId": BATCH,
        "courseId": COURSE,
        "userId": USER,
        "attemptId": attempt,
        "contentId": content,
        "events": list(answers or (answer(),)),
        **members,
    }


def recompute(**members: Any) -> dict[str, Any]:
    return {"assessmentTs": TEN, "batchId": BATCH, "courseId": COURSE, "userId": USER, "contentId": "A", **members}


class Site(CertificateSite):
    """With a course of the contents A and B in the relation cache."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"job.env": "dev"}
        self.relations = MemoryRedis(self.name, 10).open()
        self.relations.replace_sets({f"{COURSE}:{COURSE}:leafnodes": {"A", "B"}})

    @property
    def stores(self) -> AssessmentStores:
        settings = job.Settings(**self.settings)
        return AssessmentStores(
            tables=self.cassandra,
            relation_cache=MemoryRedis(self.name, 10),
            content_cache=MemoryRedis(self.name, 5) if settings.limit_questions else None,
            contents=ContentReadApi("http://services/content/v3/read", self.http),
            calls=self.calls,
        )

    def score(self, *values: Any, now: int = NOW, **options: Any) -> Site:
        self.run(job, job.Settings(**self.settings), self.stores, *values, clock=lambda: now, **options)
        return self

    def limit(self) -> None:
        self.settings["assessment.skip.missingRecords"] = True

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return self.tables.rows(ATTEMPTS)

    @property
    def totals(self) -> dict[str, Any] | None:
        (row,) = self.tables.rows(AGGREGATES) or [None]
        return row

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.events(CERTIFICATES)

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [orjson.loads(value) for _, value in self.written.get(FAILED, ())]

    @property
    def reasons(self) -> list[str]:
        return [letter["metadata"]["validation_error"] for letter in self.failed]


@pytest.fixture
def site() -> Site:
    return Site()


def test_first_attempt(site: Site):
    """§9 case 1"""
    site.score(event(answer("q1", 2, 2), answer("q2", 0.5, 1)))
    (row,) = site.attempts
    questions = row.pop("question")
    assert row == {
        "user_id": USER,
        "course_id": COURSE,
        "batch_id": BATCH,
        "content_id": "A",
        "attempt_id": "attempt-1",
        "created_on": at(NOW),
        "updated_on": at(NOW),
        "last_attempted_on": at(TEN),
        "total_score": 2.5,
        "total_max_score": 3.0,
        "grand_total": "2.5/3.0",
    }
    assert questions == [
        {
            "id": name,
            "assess_ts": at(TEN),
            "max_score": max_score,
            "score": score,
            "type": "mcq",
            "title": "T\n",
            "resvalues": [],
            "params": [{"1": "a"}],
            "description": "",
            "duration": Decimal("11.0"),
        }
        for name, score, max_score in (("q1", 2.0, 2.0), ("q2", 0.5, 1.0))
    ]
    assert site.totals == {
        "activity_type": "Course",
        "activity_id": COURSE,
        "user_id": USER,
        "context_id": f"cb:{BATCH}",
        "agg": None,
        "aggregates": {"score:A": 2.5, "max_score:A": 3.0, "attempts_count:A": 1.0},
        "agg_last_updated": dict.fromkeys(("score:A", "max_score:A", "attempts_count:A"), at(NOW)),
        "agg_details": [
            '{"attempt_id":"attempt-1","last_attempted_on":"May 2, 2024, 10:00:00 AM","score":2.5,'
            '"content_id":"A","max_score":3.0,"type":"attempt_metrics"}'
        ],
    }
    (request,) = site.requests
    validator("issue-certificate").validate(request)
    assert re.fullmatch(rf"LP\.{NOW}\.[0-9a-f-]{{36}}", request.pop("mid"))
    assert request == {
        "eid": "BE_JOB_REQUEST",
        "ets": NOW,
        "actor": {"id": "Course Certificate Generator", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": f"{BATCH}_{COURSE}", "type": "CourseCertificateGeneration"},
        "edata": {
            "userIds": [USER],
            "action": "issue-certificate",
            "iteration": 1,
            "trigger": "auto-issue",
            "batchId": BATCH,
            "reIssue": False,
            "courseId": COURSE,
            "attemptId": "attempt-1",
        },
    }
    assert site.counts == {
        "batch-success-event-count": 1,
        "db-update-count": 1,
        "cache-hit-count": 1,
        "db-score-read-count": 1,
        "db-score-update-count": 1,
        "cert-issue-events-count": 1,
    }


def test_changed_answer(site: Site):
    """§9 case 2"""
    answers = [answer(score=score, ets=TEN + 1_000 * second) for second, score in ((1, 0), (9, 1), (5, 0))]
    site.score(event(*answers))
    (row,) = site.attempts
    (question,) = row["question"]
    assert (question["score"], question["assess_ts"]) == (1.0, at(TEN + 9_000))
    assert row["grand_total"] == "1.0/1.0"


@pytest.mark.parametrize("together", [True, False])
def test_best_of_two_attempts(site: Site, together: bool):
    """§9 case 3"""
    first = event(answer("q1", 4, 5))
    second = event(answer("q1", 3, 5), attempt="attempt-2", time=NOON)
    if together:
        site.score(first, second)
    else:
        site.score(first).score(second)
    assert site.totals["aggregates"] == {"score:A": 4.0, "max_score:A": 5.0, "attempts_count:A": 2.0}
    assert [orjson.loads(text)["attempt_id"] for text in site.totals["agg_details"]] == ["attempt-1", "attempt-2"]
    assert site.requests[-1]["edata"]["attemptId"] == "attempt-2"
    assert [request["edata"]["attemptId"] for request in site.requests] == ["attempt-1", "attempt-2"][not together :]


def test_existing_progress_survives(site: Site):
    """§9 case 4"""
    where = {"activity_type": "Course", "activity_id": COURSE, "user_id": USER, "context_id": f"cb:{BATCH}"}
    site.put(AGGREGATES, where, {"aggregates": {"completedCount": 7.0}, "agg_details": ["old"]})
    site.score(event())
    assert site.totals["aggregates"] == {
        "completedCount": 7.0,
        "score:A": 1.0,
        "max_score:A": 1.0,
        "attempts_count:A": 1.0,
    }
    assert len(site.totals["agg_details"]) == 1
    assert "completedCount" not in site.totals["agg_last_updated"]


@pytest.mark.parametrize("together", [True, False])
def test_out_of_order(site: Site, together: bool):
    """§9 case 5"""
    site.score(event(answer(score=1), time=NOON), now=NOW)
    before = site.attempts, site.totals
    older = event(answer(score=0), time=NOON - MINUTE)
    newer = event(answer(score=0.5), time=NOON + 5 * MINUTE)
    if together:
        site.score(older, newer, older, now=NOW + 1)
        assert site.counts["skipped-event-count"] == 2
    else:
        site.score(older, now=NOW + 1)
        assert (site.attempts, site.totals) == before
        assert (site.requests, site.failed) == ([], [])
        assert site.counts == {"cache-hit-count": 1, "db-read-count": 1, "skipped-event-count": 1}
        site.score(newer, now=NOW + 1)
    (row,) = site.attempts
    assert (row["total_score"], row["last_attempted_on"]) == (0.5, at(NOON + 5 * MINUTE))
    assert (row["created_on"], row["updated_on"]) == (at(NOW), at(NOW + 1))
    assert len(site.requests) == 1


def test_the_same_event_again(site: Site):
    """§8.5: the attempt is left alone, what follows from it is done again."""
    site.score(event())
    before = site.attempts
    site.tables.write([[Update(AGGREGATES, {k: site.totals[k] for k in KEY_OF_TOTALS}, {"agg_details": ["stale"]})]])
    site.score(event(), now=NOW + 1)
    assert site.attempts == before
    assert "stale" not in site.totals["agg_details"]
    assert len(site.requests) == 1
    assert site.counts["skipped-event-count"] == 1
    assert "batch-success-event-count" not in site.counts


KEY_OF_TOTALS = ("activity_type", "activity_id", "user_id", "context_id")


@pytest.mark.parametrize("given", [event(content="C", mid="LP.1"), recompute(contentId="C", more=[{"x": 1}])])
def test_content_of_another_course(site: Site, given: dict[str, Any]):
    """§9 case 6"""
    site.score(given)
    ((key, _),) = site.written[FAILED]
    assert key == (b"LP.1" if "mid" in given else None)
    assert site.failed == [given]
    assert (site.attempts, site.totals, site.requests) == ([], None, [])
    assert site.counts == {"cache-hit-count": 1, "failed-event-count": 1}


def test_no_relation_cache(site: Site):
    """§9 case 7"""
    site.relations.clear()
    site.score(event(content="C"))
    assert len(site.attempts) == 1
    assert site.counts["cache-hit-miss-count"] == 1
    assert "cache-hit-count" not in site.counts


def test_too_many_questions(site: Site):
    """§9 case 8"""
    site.limit()
    site.contents.set({"A": dumps({"total_questions": 2})})
    too_many = event(answer("q1"), answer("q2"), answer("q3"))
    site.score(too_many)
    assert site.failed == [too_many]
    assert (site.attempts, site.requests) == ([], [])
    assert site.counts == {"cache-hit-count": 2, "ignored-event-count": 1}
    site.score(event(*(answer(f"q{number % 2}", ets=TEN + number) for number in range(5))))
    assert len(site.attempts[0]["question"]) == 2
    assert site.web.calls == []


def content(total: Any = ..., code: str = "OK", status: int = 200) -> tuple[int, str]:
    metadata = {} if total is ... else {"totalQuestions": total}
    return status, dumps({"responseCode": code, "result": {"content": metadata}})


THREE = event(answer("q1"), answer("q2"), answer("q3"))


def test_not_in_the_cache(site: Site):
    """§9 case 9"""
    site.limit()
    site.http.serve(lambda *_: content(4))
    site.score(THREE)
    assert len(site.attempts) == 1
    assert [call.path for call in site.web.calls] == ["/content/v3/read/A"]
    assert site.counts["cache-hit-count"] == 2
    assert site.counts["cache-hit-miss-count"] == 1
    assert site.counts["api-hit-success-count"] == 1


@pytest.mark.parametrize(
    "answered", [content(4, "RESOURCE_NOT_FOUND"), (200, "<html>"), (200, "[]"), (200, "{}"), (200, ""), (503, "{}")]
)
def test_the_content_service_does_not_know(site: Site, answered: tuple[int, str]):
    """§9 case 9"""
    site.limit()
    site.http.serve(lambda *_: answered)
    site.score({**THREE, "metadata": {"checksum": "c"}})
    assert site.failed == [
        {
            **THREE,
            "flags": {},
            "metadata": {
                "checksum": "c",
                "validation_error": "Failed to fetch the content meta for the content ID: A",
                "src": "AssessmentAggregator",
            },
        }
    ]
    assert (site.attempts, site.requests) == ([], [])
    assert site.counts["api-hit-failed-count"] == 1
    assert site.counts["failed-event-count"] == 1


def test_the_status_of_the_content_service_is_not_looked_at(site: Site):
    site.limit()
    site.http.serve(lambda *_: content(4, "ok", 404))
    assert len(site.score(THREE).attempts) == 1


def test_a_content_service_that_is_away(site: Site):
    """§6"""
    site.limit()
    site.web.refuse(2)
    site.http.serve(lambda *_: content(4))
    site.score(THREE)
    assert len(site.attempts) == 1
    site.web.refuse(3)
    site.score(event(*THREE["events"], content="B"))
    assert site.reasons == ["Failed to fetch the content meta for the content ID: B"]


@pytest.mark.parametrize("total", [..., None, 0, -1, "", "many", True, [], {}])
def test_a_number_of_questions_that_is_not_known_is_no_limit(site: Site, total: Any):
    """§8.8"""
    site.limit()
    site.http.serve(lambda *_: content(total))
    assert len(site.score(THREE).attempts) == 1


@pytest.mark.parametrize(("total", "accepted"), [(2, False), ("2", False), (2.5, False), (3, True), ("3", True)])
def test_the_limit_of_the_service(site: Site, total: Any, accepted: bool):
    site.limit()
    site.http.serve(lambda *_: content(total))
    site.score(THREE)
    assert len(site.attempts) == accepted
    assert site.counts.get("ignored-event-count", 0) == (not accepted)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("", True),
        ("{", True),
        ("[]", True),
        ('{"totalQuestions":0}', True),
        ('{"totalQuestions":"x"}', True),
        ('{"total_Questions":"7"}', False),
        ('{"TOTALQUESTIONS":7.9}', False),
    ],
)
def test_what_the_cache_says(site: Site, stored: str, asked: bool):
    site.limit()
    site.contents.set({"A": stored})
    site.http.serve(lambda *_: content(9))
    site.score(THREE)
    assert len(site.attempts) == 1
    assert bool(site.web.calls) == asked
    assert site.counts.get("cache-hit-miss-count", 0) == asked


def test_the_service_is_asked_once_for_many_events_of_a_content(site: Site):
    site.limit()
    site.http.serve(lambda *_: content(3))
    site.score(*(event(*THREE["events"], attempt=f"attempt-{number}") for number in range(20)), batch_size=4)
    assert len(site.attempts) == 20
    assert len(site.web.calls) == 1
    # a rejection never rests on what is remembered
    four = event(*THREE["events"], answer("q4"), attempt="four")
    site.http.serve(lambda *_: content(4))
    site.score(event(*THREE["events"], attempt="three"), four, batch_size=1)
    assert len(site.attempts) == 22


def test_without_the_limit_nobody_is_asked(site: Site):
    site.score(THREE)
    assert site.web.calls == []
    assert site.contents.operations == []


def test_two_assessments_in_a_course(site: Site):
    """§9 case 10"""
    site.score(event(), event(attempt="attempt-2", content="B"))
    assert [request["edata"]["attemptId"] for request in site.requests] == ["attempt-1", ""]
    assert set(site.totals["aggregates"]) == {
        f"{what}:{content}" for what in ("score", "max_score", "attempts_count") for content in "AB"
    }


@pytest.mark.parametrize("given", [recompute(), recompute(events=[], attemptId="x"), recompute(events=None)])
def test_recompute(site: Site, given: dict[str, Any]):
    """§9 case 11"""
    for number in (3, 1, 2):
        site.put(
            ATTEMPTS,
            {
                "user_id": USER,
                "course_id": COURSE,
                "batch_id": BATCH,
                "content_id": "A",
                "attempt_id": f"attempt-{number}",
            },
            {
                "total_score": float(number),
                "total_max_score": 5.0,
                "last_attempted_on": at(TEN + number % 3) if number != 1 else None,
            },
        )
    before = site.attempts
    site.score(given)
    assert site.attempts == before
    assert site.totals["aggregates"] == {"score:A": 3.0, "max_score:A": 5.0, "attempts_count:A": 3.0}
    details = [orjson.loads(text) for text in site.totals["agg_details"]]
    assert [detail["attempt_id"] for detail in details] == ["attempt-1", "attempt-2", "attempt-3"]
    assert ["last_attempted_on" in detail for detail in details] == [False, True, True]
    (request,) = site.requests
    assert request["edata"]["attemptId"] == "attempt-2"
    assert site.counts == {
        "cache-hit-count": 1,
        "recompute-agg-event-count": 1,
        "db-score-read-count": 1,
        "db-score-update-count": 1,
        "cert-issue-events-count": 1,
    }


def test_recompute_without_attempts(site: Site):
    site.score(recompute())
    assert (site.attempts, site.totals) == ([], None)
    (request,) = site.requests
    assert request["edata"]["attemptId"] == ""
    assert "db-score-update-count" not in site.counts


def without(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in given.items() if member != name}


def test_bad_input(site: Site):
    """§9 case 12"""
    no_time = event(answer(ets=None), mid="LP.7")
    site.score(b'{"courseId":', without("userId", event()), no_time, event())
    assert len(site.attempts) == 1
    assert len(site.failed) == 3
    assert {letter["metadata"]["src"] for letter in site.failed} == {"AssessmentAggregator"}
    first, _, third = site.failed
    assert first["rawEvent"] == '{"courseId":'
    assert first["flags"] == {}
    assert third["events"] == no_time["events"]
    assert [key for key, _ in site.written[FAILED]] == [None, None, b"LP.7"]
    assert site.counts["failed-event-count"] == 3
    assert site.reasons[1:] == [
        "userId is missing, blank or not a string",
        "events[].ets is missing or not a time in epoch milliseconds",
    ]
    for letter in site.failed:
        validator("assessment-failed").validate(letter)


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"[1]",
        b"\xff",
        *(without(name, event()) for name in ("courseId", "batchId", "userId", "contentId", "attemptId")),
        without("assessmentTs", event()),
        *(event(courseId=value) for value in (None, " ", 5, "x" * 16_001)),
        event(assessmentTs="1714644000000"),
        event(assessmentTs=1e18),
        event(assessmentTs=True),
        event(attemptId=""),
        event(events={}),
        event(events=["x"]),
        event(answer(), {"ets": TEN}),
        event(answer(), {"ets": TEN, "edata": {"item": "x"}}),
        event(answer(), answer("q2", score="one")),
        event(answer(), answer("q2", maxscore=True)),
        event(answer(), answer("q2", duration="1_000")),
        event(answer("q1", 1.7e308), answer("q2", 1.7e308)),
        recompute(userId=None),
    ],
)
def test_one_bad_event_writes_nothing_and_stops_nobody(site: Site, given: Any):
    """§3.1, §6, §8.6"""
    other = event(userId="learner-2")
    site.score(given, other)
    assert [row["user_id"] for row in site.attempts] == ["learner-2"]
    assert len(site.requests) == 1
    assert len(site.failed) == 1
    assert site.counts["failed-event-count"] == 1


def test_non_string_answer(site: Site):
    """§9 case 13"""
    resvalues = [{"1": 4}, {"2": {"x": True}}, {"3": None}]
    site.score(event(answer(resvalues=resvalues)))
    assert site.attempts[0]["question"][0]["resvalues"] == [{"1": "4.0"}, {"2": '{"x":true}'}, {}]


def test_answers_without_values(site: Site):
    """§8.7"""
    site.score(event(answer(resvalues=None, item={"params": None})))
    (question,) = site.attempts[0]["question"]
    assert (question["resvalues"], question["params"]) == ([], [])


def test_quotes_in_ids(site: Site):
    """§8.11"""
    site.relations.clear()
    site.score(event(attempt="a'\"\\", content="é\"'", userId="o'neil"))
    assert orjson.loads(site.totals["agg_details"][0])["attempt_id"] == "a'\"\\"
    assert site.requests[0]["edata"]["attemptId"] == "a'\"\\"


def test_a_free_backslash(site: Site):
    r"""core §1.1: \' is read as '."""
    value = orjson.dumps(event(answer(item={"title": "it~s"}))).replace(b"~", b"\\'")
    assert site.score(value).attempts[0]["question"][0]["title"] == "it's"


def test_scores_of_gone_attempts_stay(site: Site):
    """§8.12"""
    where = {"activity_type": "Course", "activity_id": COURSE, "user_id": USER, "context_id": f"cb:{BATCH}"}
    site.put(AGGREGATES, where, {"aggregates": {"score:old": 3.0}})
    assert site.score(event()).totals["aggregates"]["score:old"] == 3.0


@pytest.mark.parametrize("store", ["tables", "relations"])
def test_a_store_that_is_away_stops_the_bundle(site: Site, store: str):
    """§6, §8.4: nothing goes to the failed topic."""
    twin = getattr(site, store)
    twin.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.score(event())
    assert not site.written.get(FAILED)
    twin.unavailable = False
    assert len(site.score(event()).attempts) == 1


def test_what_the_store_refuses_fails_alone(site: Site, monkeypatch: pytest.MonkeyPatch):
    """§6: any other error caused by the data of the event"""
    write = site.tables.write

    def refusing(batches: Any) -> Any:
        bad = any(update.assign.get("grand_total") == "7.0/1.0" for batch in batches for update in batch)
        return [Refused("a value does not fit")] * len(batches) if bad else write(batches)

    monkeypatch.setattr(site.tables, "write", refusing)
    site.score(event(attempt="good"), event(answer(score=7), attempt="bad", mid="m"), event(attempt="fine"))
    assert [row["attempt_id"] for row in site.attempts] == ["fine", "good"]
    assert site.reasons == ["refused by the store: a value does not fit"]
    assert site.counts["failed-event-count"] == 1
    assert len(site.requests) == 2


def test_a_hundred_learners_are_read_with_a_few_statements(site: Site):
    learners = [f"learner-{number}" for number in range(100)]
    site.tables.operations.clear()
    site.score(*(event(userId=learner) for learner in learners))
    names = [operation.name for operation in site.tables.operations]
    assert (names.count("select"), names.count("write")) == (4, 200)
    assert sum(operation.name == "members" for operation in site.relations.operations) == 1
    assert len(site.requests) == 100


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_gives_the_same_rows(site: Site, order: tuple[int, ...]):
    events = [
        event(answer(score=1), time=NOON),
        event(answer(score=0), time=NOON + 1),
        event(answer(score=0.5), attempt="attempt-2"),
    ]
    site.score(*(events[place] for place in order))
    assert [(row["attempt_id"], row["total_score"]) for row in site.attempts] == [("attempt-1", 0), ("attempt-2", 0.5)]
    assert site.totals["aggregates"] == {"score:A": 0.5, "max_score:A": 1.0, "attempts_count:A": 2.0}


def test_no_personal_data_in_the_log(site: Site, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("DEBUG"):
        site.score(event(answer(item={"title": "SECRET"}, resvalues=[{"1": "SECRET"}])), event(answer(score="SECRET")))
    text = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("apache_beam"))
    assert "SECRET" not in text
    assert "SECRET" not in site.reasons[0]


def test_names_of_the_seed(site: Site):
    """§5"""
    settings = job.Settings(**{"kafka.output.failed.topic": "f", "lms-cassandra.activityytable": "t"})
    assert (settings.failed_topic, settings.aggregates_table) == ("f", "t")
    assert job.Settings(**{"kafka.output.failed.topic": "f", "kafka.failed.topic": "g"}).failed_topic == "g"
    assert job.Settings(**{"job.env": "prod"}).kafka_group_id == "prod-assessment-aggregator-group"
