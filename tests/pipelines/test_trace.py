"""`trace`: every verdict, agreement with the jobs, nothing written, nothing personal."""

from __future__ import annotations

import json
from datetime import datetime
from io import StringIO
from random import Random
from typing import Any

import orjson
import pytest
from rich.console import Console

from io_connectors.memory import MemoryCollectionStatuses, MemoryRedis
from io_connectors.services import ContentService, UserService
from io_connectors.sunbird_rc import SunbirdRC
from pipelines import activity_aggregate_updater as progress
from pipelines.trace import KafkaLimits, Trace, TraceStores, trace
from pipelines.trace_report import as_json, print_table
from pipelines.trace_settings import CheckSettings, IssueSettings, TraceSettings
from pipelines.trace_topics import shares
from schemas import redis_keys
from tests.pipelines.certificate_site import BATCH, CERTIFICATE, COURSE, ENROLMENTS, NOW, SERVICES, USER, dumps
from tests.pipelines.test_collection_cert_pre_processor import Site as CheckSite
from tests.pipelines.test_collection_cert_pre_processor import event, template
from transforms.stores import StoreUnavailable
from transforms.trace import Learner, Step, Verdict
from transforms.trace_records import Backlog, FoundRecord, Tail, asks_to_issue, might_name

CONSUMPTION = "sunbird_courses.user_content_consumption"
REGISTRY = "sunbird.cert_registry"
PROGRESS_INPUT = "dev.coursebatch.job.request"
ISSUE, GENERATE = "dev.issue.certificate.request", "dev.generate.certificate.request"
FAILED = ("dev.activity.agg.failed", "dev.issue.certificate.failed", "dev.generate.certificate.failed")
CREDENTIALS = f"{SERVICES}/registry-service/api/v1"
CONTENTS = ("a", "b", "c", "d")
OK, NO, UNKNOWN, NOT_REACHED = Verdict.OK, Verdict.NO, Verdict.UNKNOWN, Verdict.NOT_REACHED


class Topics:
    """Topics in memory: their records, each of one partition, and what the groups have committed."""

    def __init__(self) -> None:
        self.records: dict[str, list[bytes | None]] = {t: [] for t in (PROGRESS_INPUT, ISSUE, GENERATE, *FAILED)}
        self.committed: dict[str, int | None] = {}
        self.away = False
        self.slow = False

    def open(self) -> Topics:
        return self

    def send(self, topic: str, *values: Any) -> None:
        self.records[topic] += [value if isinstance(value, bytes | None) else orjson.dumps(value) for value in values]

    def tail(self, topic: str, records: int, seconds: float, might: Any, match: Any) -> Tail:
        whole = self._of(topic)
        begin = max(0, len(whole) - records)
        found = [
            FoundRecord(topic, 0, offset, NOW + offset, reason)
            for offset, value in enumerate(whole)
            if offset >= begin and might(value) and (reason := match(value)) is not None
        ]
        if self.slow:
            return Tail([], 0, len(whole) - begin, len(whole))
        return Tail(found, len(whole) - begin, len(whole) - begin, len(whole))

    def backlog(self, group: str, topic: str) -> Backlog:
        whole = self._of(topic)
        committed = self.committed.get(topic, len(whole))
        return Backlog(group, {0: committed}, {0: len(whole) - (committed or 0)})

    def _of(self, topic: str) -> list[bytes | None]:
        if self.away:
            raise StoreUnavailable("Kafka in memory stays away")
        if topic not in self.records:
            raise LookupError(f"there is no topic {topic}")
        return self.records[topic]


class Site(CheckSite):
    """A learner who did all of a course of four contents in two units, and has the certificate of its one template."""

    def __init__(self) -> None:
        super().__init__()
        self.relations = MemoryRedis(self.name, 10).open()
        self.statuses = MemoryCollectionStatuses(self.name).open()
        self.topics = Topics()
        self.trace_settings: dict[str, Any] = {}
        self.with_rc = True
        self.relate("leafnodes", **{COURSE: "abcd", "U1": "ab", "U2": "cd"})
        self.relate("ancestors", a=["U1", COURSE], b=["U1", COURSE], c=["U2", COURSE], d=["U2", COURSE])
        self.consume(*CONTENTS)
        self.enrol(progress=4, completedon=datetime(2024, 6, 12), issued_certificates=[self.credential()])
        self.courses.set({COURSE: dumps({"name": "Foundations of Numeracy"})})

    # --- what is there

    def relate(self, kind: str, **sets: Any) -> None:
        key = getattr(redis_keys, kind)
        self.relations.replace_sets({key(COURSE, name): set(members) for name, members in sets.items()})

    def consume(self, *contents: str, status: int = 2, count: int | None = 1) -> None:
        for content in contents:
            where = {"userid": USER, "courseid": COURSE, "batchid": BATCH, "contentid": content}
            self.put(CONSUMPTION, where, {"status": status, "viewcount": count, "completedcount": count})

    def forget(self, table: str) -> None:
        """Empty a table."""
        self.tables._table(table).clear()

    def incomplete(self, *contents: str, **columns: Any) -> None:
        """The learner has done only these contents, and has no certificate."""
        self.services.credentials.clear()
        self.forget(CONSUMPTION)
        self.forget(ENROLMENTS)
        self.consume(*contents)
        self.enrol(**{"status": 1, "progress": len(contents), **columns})

    def credential(self, name: str = CERTIFICATE) -> dict[str, str]:
        """Make a record in RC; its entry for the enrolment."""
        body = {
            "certificateLabel": name,
            "status": "ACTIVE",
            "recipient": {"id": USER, "name": "Meera Nair"},
            "training": {"id": COURSE, "type": "Course", "batchId": BATCH},
        }
        headers = {"Authorization": "stub-rc-key"}
        path = "/registry-service/api/v1/TrainingCertificate"
        status, text, *_ = self.services.answer("POST", path, headers, orjson.dumps(body))
        assert status == 200
        osid = orjson.loads(text)["result"]["TrainingCertificate"]["osid"]
        return {"name": name, "identifier": osid, "token": "", "lastIssuedOn": "2024-06-12T10:00:00Z"}

    def due(self) -> None:
        """Complete, and without the certificate."""
        self.services.credentials.clear()
        self.enrol(issued_certificates=None)

    # --- the walk

    def trace(self, user: str = USER, batch: str = BATCH, **limits: Any) -> Walked:
        of_all = {"job.env": "dev"}
        settings = TraceSettings(
            progress.Settings(**of_all),
            CheckSettings(**{**self.settings, **self.trace_settings}),
            IssueSettings(**of_all),
        )
        learner = Learner(user, COURSE, batch)
        return Walked(trace(learner, settings, self.trace_stores, KafkaLimits(**limits), clock=lambda: NOW))

    @property
    def trace_stores(self) -> TraceStores:
        return TraceStores(
            tables=self.cassandra,
            relation_cache=MemoryRedis(self.name, 10),
            content_cache=MemoryRedis(self.name, 5),
            collection_cache=MemoryRedis(self.name, 0),
            collections=MemoryCollectionStatuses(self.name),
            contents=ContentService(self.settings.get("service.content.basePath"), "/content/v3/read", self.http),
            users=UserService(self.settings.get("service.learner.basePath"), "/private/user/v1/read", self.http),
            credentials=SunbirdRC(CREDENTIALS, "TrainingCertificate", "stub-rc-key", self.http)
            if self.with_rc
            else None,
            topics=self.topics,
        )


class Walked:
    """A trace, with words for asking about it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.verdict, self.to_do = trace.conclusion.text, trace.conclusion.to_do

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.trace.steps if step.name == name)

    def of(self, name: str, template_id: str) -> Step:
        return next(s for s in self.trace.steps if (s.name, s.template) == (name, template_id))

    @property
    def explained_by(self) -> str | None:
        step = self.trace.conclusion.step
        return step and step.name

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return {step.name: step.verdict for step in self.trace.steps}

    @property
    def table(self) -> str:
        out = StringIO()
        print_table(self.trace, Console(file=out, width=100, highlight=False))
        return out.getvalue()


@pytest.fixture
def site() -> Site:
    return Site()


STEPS = ["enrolment", "consumption", "relation cache", "progress", "templates", "criteria", "certificate"]
STEPS += ["requests", "dead letters", "backlog"]


def test_all_is_well(site: Site):
    walked = site.trace()
    assert walked.verdicts == dict.fromkeys(STEPS, OK)
    assert walked.explained_by is None
    osid = site.issued()[0]["identifier"]
    assert walked.verdict == f"The learner has the certificate: {osid}."
    assert walked.trace.away == []
    assert walked["progress"].found == "complete: 4 of 4 required contents done; units: U1 2/2, U2 2/2"
    assert walked["certificate"].details["activeRecords"] == [osid]


# --- 1: the enrolment


def test_no_enrolment(site: Site):
    walked = site.trace("learner-2")
    assert walked["enrolment"].verdict is NO
    assert walked["progress"].verdict is NOT_REACHED
    assert walked["certificate"].verdict is NOT_REACHED
    assert walked.explained_by == "enrolment"


def test_enrolled_in_another_batch(site: Site):
    walked = site.trace(batch="batch-2")
    assert walked.explained_by == "enrolment"
    assert f"another batch of the course: {BATCH}" in walked.verdict
    assert walked["enrolment"].details["otherBatches"] == [BATCH]


def test_an_enrolment_that_was_left(site: Site):
    site.due()
    site.enrol(active=False)
    walked = site.trace()
    assert walked.explained_by == "enrolment"
    assert "not active" in walked.verdict
    assert "enrolment: the enrolment is not active" in walked["criteria"].found


# --- 2, 3, 4: progress


@pytest.mark.parametrize(("status", "words"), [(None, "has not consumed any content"), (1, "completed none")])
def test_nothing_completed(site: Site, status: int | None, words: str):
    site.incomplete()
    if status:
        site.consume("a", "b", status=status)
    walked = site.trace()
    assert walked.explained_by == "consumption"
    assert words in walked.verdict
    assert walked["progress"].verdict is NO


def test_contents_that_the_job_did_not_count_are_named(site: Site):
    site.consume("b", count=None)
    assert "not counted by activity-aggregate-updater: b" in site.trace()["consumption"].found


@pytest.mark.parametrize(("status", "words"), [("Live", "says Live"), (None, "says nothing of it")])
def test_no_leaf_nodes(site: Site, status: str | None, words: str):
    site.incomplete(*CONTENTS, progress=0)
    site.relations.clear()
    site.statuses.set_status(COURSE, status)
    walked = site.trace()
    assert walked.explained_by == "relation cache"
    assert words in walked["relation cache"].found
    assert walked["progress"].verdict is NOT_REACHED
    assert "relation-cache-update event for it on dev.content.postpublish.request" in walked.to_do


def test_a_retired_course(site: Site):
    site.incomplete(*CONTENTS, progress=0)
    site.relations.clear()
    site.statuses.set_status(COURSE, "Retired")
    assert "The course is retired" in site.trace().verdict


def test_leaf_nodes_that_can_not_be_read(site: Site):
    site.incomplete("a")
    site.relations.delete([redis_keys.leafnodes(COURSE, COURSE)])
    site.relations.set({redis_keys.leafnodes(COURSE, COURSE): "text"})
    walked = site.trace()
    assert walked.explained_by == "relation cache"
    assert "WRONGTYPE" in walked.verdict
    assert walked.to_do.startswith("Delete the key.")


def test_a_complete_enrolment_needs_no_leaf_nodes(site: Site):
    site.relations.clear()
    walked = site.trace()
    assert walked["relation cache"].verdict is NO
    assert walked["progress"].verdict is OK
    assert walked.explained_by is None
    assert walked.trace.conclusion.also == ("relation cache",)


def test_what_is_missing_is_named(site: Site):
    site.relate("optionalnodes", **{COURSE: ["d"]})
    site.incomplete("a", "d", progress=1)
    walked = site.trace()
    assert walked.explained_by == "progress"
    assert walked.verdict.startswith("The course is not complete: 1 of 3 required contents done, missing: b, c.")
    assert walked["progress"].details["missing"] == ["b", "c"]
    assert walked["progress"].details["units"][0] == {"id": "U1", "done": 1, "required": 2, "aggregated": None}
    assert walked.to_do == "The learner has to complete the missing contents."
    assert walked.trace.conclusion.also == ()
    assert "optional" in walked["relation cache"].found


def test_an_enrolment_that_says_less_than_the_consumption(site: Site):
    site.incomplete("a", "b", progress=1)
    walked = site.trace()
    assert "the enrolment says 1" in walked.verdict
    assert "user-enrolment-sync event on dev.batch.enrolment.sync.request" in walked.to_do


def test_complete_by_consumption_but_not_in_the_enrolment(site: Site):
    site.incomplete(*CONTENTS, progress=3)
    walked = site.trace()
    assert walked.explained_by == "progress"
    assert "All 4 required contents are completed, but the enrolment does not say so" in walked.verdict
    assert "user-enrolment-sync" in walked.to_do


def test_an_enrolment_stays_complete_when_the_course_grows(site: Site):
    site.relate("leafnodes", **{COURSE: "abcde"})
    walked = site.trace()
    assert walked["progress"].verdict is OK
    assert "stays so, although 4 of 5" in walked["progress"].found


def test_only_optional_contents(site: Site):
    site.relate("optionalnodes", **{COURSE: "abcd"})
    assert "every leaf node is optional" in site.trace()["progress"].found
    site.incomplete()
    site.consume("a", status=1)
    assert site.trace().explained_by == "consumption"


def test_no_progress_and_a_dead_letter(site: Site):
    """The cache was mended since, the events were not sent again."""
    site.incomplete(*CONTENTS, progress=0)
    letter = {"userId": USER, "courseId": COURSE, "batchId": BATCH, "contents": {"a": {}}}
    site.topics.send(FAILED[0], letter, {**letter, "userId": "learner-2"})
    walked = site.trace()
    assert walked.explained_by == "progress"
    assert "failed on 2024-06-12T08:00:06Z: the course had no leaf nodes in the relation cache" in walked.verdict
    assert len(walked["dead letters"].details["letters"]) == 1


# --- 5, 6: templates and criteria


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ({}, "no certificate template."),
        ({"t1": template(url="a.png")}, "no certificate template with an .svg file"),
        ({"t1": template(criteria="{")}, "criteria of the template is not JSON"),
        ({"t1": template(criteria={})}, "criteria without any of"),
        ({"t1": template(issuer=[])}, "issuer of the template is no JSON object"),
    ],
)
def test_no_usable_template(site: Site, offered: dict[str, Any], words: str):
    site.due()
    site.put(
        "sunbird_courses.course_batch", {"courseid": COURSE, "batchid": BATCH}, {"cert_templates": None, "status": 1}
    )
    if offered:
        site.offer(**offered)
    walked = site.trace()
    assert walked.explained_by == "templates"
    assert words in walked.verdict


def test_no_such_batch(site: Site):
    site.due()
    site.forget("sunbird_courses.course_batch")
    assert site.trace().verdict == "There is no such batch of this course."


SCORED = {"assessment": {"score": {">=": 60}}}


def test_a_score_that_is_too_low(site: Site):
    site.due()
    site.offer(t1=template(SCORED))
    site.score(aggregates={"score:A": 5.0, "max_score:A": 10.0, "score:B": 10.0, "max_score:B": 10.0})
    site.contents.set({"A": dumps({"contentType": "SelfAssess"}), "B": dumps({"contentType": "Resource"})})
    walked = site.trace()
    assert walked.explained_by == "criteria"
    assert "best score is 50, wanted >= 60 (A 50 %)" in walked.verdict
    site.offer(t1=template({"assessment": {"score": [1]}}))
    assert "criteria.assessment.score is no number" in site.trace().verdict


def test_a_score_matters_before_progress_where_only_it_is_asked_for(site: Site):
    site.incomplete("a")
    site.offer(t1=template(SCORED))
    walked = site.trace()
    assert walked.explained_by == "criteria"
    assert walked.trace.conclusion.also == ("progress",)


def test_content_without_metadata(site: Site):
    site.due()
    site.trace_settings["enable.suppress.exception"] = False
    site.offer(t1=template(SCORED))
    site.score(aggregates={"score:A": 1.0})
    assert "Metadata not available in cache or API A" in site.trace().verdict
    del site.settings["service.content.basePath"]
    walked = site.trace()
    assert walked["criteria"].verdict is UNKNOWN
    assert "service.content.basePath is not set" in walked["criteria"].found


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"firstName": "Meera", "rootOrgId": "B"}, "the user's rootOrgId is another one"),
        ("blocked", "the account is deleted or blocked"),
        (None, "the user service answers 404"),
    ],
)
def test_users_that_do_not_get_it(site: Site, user: Any, words: str):
    site.due()
    site.offer(t1=template({"user": {"rootOrgId": "A"}}))
    del site.services.users[USER]
    if user is not None:
        site.services.users[USER] = user
    walked = site.trace()
    assert walked.explained_by == "criteria"
    assert words in walked.verdict


def test_a_user_that_is_not_known(site: Site):
    site.due()
    services = site.web.handler
    assert services is not None
    site.http.serve(lambda *call: (200, "{}") if call[1].startswith("/private/user") else services(*call))
    assert "the user service knows no such user" in site.trace().verdict


def test_a_user_service_that_is_not_configured(site: Site):
    site.due()
    del site.settings["service.learner.basePath"]
    walked = site.trace()
    assert walked["criteria"].verdict is UNKNOWN
    assert walked["certificate"].verdict is UNKNOWN
    assert walked.explained_by == "criteria"
    assert "service.learner.basePath is not set" in walked.verdict
    assert walked.trace.away == []


def test_one_certificate_of_two(site: Site):
    site.offer(t1=template(), t2=template({"user": {"rootOrgId": "B"}}, identifier="do_merit", name="Merit"))
    walked = site.trace()
    assert walked.of("certificate", "do_tpl").verdict is OK
    assert walked.of("certificate", "do_merit").verdict is NOT_REACHED
    assert walked.trace.conclusion.step == walked.of("criteria", "do_merit")


# --- 7: the certificate


def test_not_asked_for(site: Site):
    site.due()
    walked = site.trace()
    assert walked.explained_by == "requests"
    assert "are met, but it is not issued. No request for it was found" in walked.verdict
    assert "all 0 records" in walked.verdict
    assert "/v1/course/batch/cert/issue" in walked.to_do


def test_asked_for_long_ago(site: Site):
    site.due()
    site.topics.send(ISSUE, event(), *[event("learner-2")] * 5)
    assert "the last 5 records" in site.trace(records=5).verdict
    assert site.trace(records=6)["requests"].verdict is OK


def test_asked_for_and_waiting(site: Site):
    site.due()
    site.topics.send(ISSUE, event("learner-2"), event())
    site.topics.committed[ISSUE] = 1
    walked = site.trace()
    assert walked.explained_by == "backlog"
    assert f"The learner's request at {ISSUE}:0:1 waits for dev-collection-cert-pre-processor-group." in walked.verdict
    site.topics.committed[ISSUE] = None
    assert "has never committed" in site.trace()["backlog"].found


def test_asked_for_in_vain(site: Site):
    site.due()
    site.topics.send(ISSUE, event())
    walked = site.trace()
    assert walked["requests"].verdict is OK
    assert "It was asked for, and nothing came of it" in walked.verdict


@pytest.mark.parametrize(
    ("topic", "letter"),
    [
        (FAILED[1], {**event("x", USER), "failInfo": {"error": "the registry answers 500"}}),
        (
            FAILED[2],
            {
                "edata": {"data": [{"recipientId": USER}], "related": {"courseId": COURSE, "batchId": BATCH}},
                "failInfo": {"error": "the registry answers 500"},
            },
        ),
        (FAILED[1], {"rawEvent": f"{{{USER}", "failInfo": {"error": "the registry answers 500"}}),
    ],
)
def test_a_dead_letter(site: Site, topic: str, letter: dict[str, Any]):
    site.due()
    site.topics.send(topic, b"{", None, b"[]", letter, event("learner-2"), event(batchId="other"))
    walked = site.trace()
    assert walked.explained_by == "dead letters"
    assert "failed on 2024-06-12T08:00:06Z: the registry answers 500." in walked.verdict
    assert f"{topic}:0:3" in walked.to_do
    assert len(walked["dead letters"].details["letters"]) == 1


def test_a_dead_letter_about_progress_tells_nothing_of_a_certificate(site: Site):
    site.due()
    site.topics.send(FAILED[0], {"userId": USER, "courseId": COURSE, "batchId": BATCH, "contents": {}})
    assert site.trace().explained_by == "requests"


def test_a_dead_letter_tells_what_the_trace_could_not_ask_for(site: Site):
    site.due()
    del site.settings["service.learner.basePath"]
    site.topics.send(FAILED[1], {**event(), "failInfo": {"error": "the user service answers 404"}})
    walked = site.trace()
    assert walked.explained_by == "dead letters"
    assert "the user service answers 404" in walked.verdict


def test_a_dead_letter_of_somebody_who_has_the_certificate_is_told_and_held_against_nobody(site: Site):
    site.topics.send(FAILED[1], {**event(), "failInfo": {"error": "the registry answers 500"}})
    walked = site.trace()
    assert walked["dead letters"].verdict is OK
    assert "1 about the learner" in walked["dead letters"].found
    assert walked.explained_by is None


def test_a_certificate_that_the_enrolment_does_not_name(site: Site):
    site.due()
    osid = site.credential()["identifier"]
    walked = site.trace()
    assert walked.explained_by == "certificate"
    assert f"RC has the certificate {osid}" in walked.verdict
    assert "rc.search.before.create" in walked.to_do


def test_a_certificate_whose_name_rc_did_not_get_as_it_is(site: Site):
    site.offer(t1=template(name="Øl"))
    site.services.credentials.clear()
    site.enrol(issued_certificates=[{**site.credential("l"), "name": "Øl"}])
    assert site.trace().explained_by is None


def test_a_certificate_that_is_nowhere(site: Site):
    site.services.credentials.clear()
    walked = site.trace()
    assert walked.explained_by == "certificate"
    assert "not registered" in walked.verdict
    site.put(REGISTRY, {"id": site.issued()[0]["identifier"]}, {"isrevoked": False})
    assert site.trace().explained_by is None


def test_without_rc_an_issued_certificate_is_believed(site: Site):
    site.services.rc_key = "another"
    walked = site.trace()
    assert walked["certificate"].verdict is OK
    assert "the RC answers 401" in walked["certificate"].found
    assert walked["certificate"].details["activeRecords"] is None


def test_certificates_that_are_files_stand_in_the_registry(site: Site):
    site.with_rc = False
    assert site.trace()["certificate"].details["standing"] == "lost"
    site.put(REGISTRY, {"id": site.issued()[0]["identifier"]}, {"isrevoked": False})
    walked = site.trace()
    assert walked["certificate"].verdict is OK
    assert walked["certificate"].looked_at.endswith("cert_registry")
    assert site.web.count("/registry-service") == 0


def test_what_the_generator_would_refuse(site: Site):
    site.due()
    site.offer(t1=template(issuer={"name": "State Council"}))
    walked = site.trace()
    assert walked.explained_by == "certificate"
    assert "Mandatory parameter edata.issuer.url is missing." in walked.verdict
    site.offer(t1=template())
    site.services.users[USER] = {"firstName": "null"}
    assert "edata.data.recipientName is missing" in site.trace().verdict


# --- stores that stay away


def test_without_cassandra(site: Site):
    site.tables.unavailable = True
    walked = site.trace()
    assert {name for name, verdict in walked.verdicts.items() if verdict is UNKNOWN} >= {"enrolment", "templates"}
    assert walked["relation cache"].verdict is OK
    assert walked.trace.away == ["MemoryTables in memory stays away"]
    assert walked.explained_by == "enrolment"


def test_without_the_relation_cache(site: Site):
    site.incomplete("a")
    site.relations.unavailable = True
    walked = site.trace()
    assert walked["relation cache"].verdict is UNKNOWN
    assert walked["progress"].verdict is NOT_REACHED
    assert walked["criteria"].verdict is NO
    assert walked.explained_by == "relation cache"
    assert walked.trace.away != []


@pytest.mark.parametrize("database", [0, 5])
def test_without_the_metadata(site: Site, database: int):
    site.due()
    site.offer(t1=template({"assessment": {"score": {">=": 0}}}))
    site.score(aggregates={"score:A": 1.0})
    site.services.contents["A"] = {"contentType": "SelfAssess"}
    assert site.trace()["criteria"].verdict is OK
    MemoryRedis(site.name, database).open().unavailable = True
    walked = site.trace()
    assert walked["criteria"].verdict is UNKNOWN
    assert walked.trace.away == ["MemoryKeyValues in memory stays away"]


def test_without_kafka(site: Site):
    site.due()
    site.topics.away = True
    walked = site.trace()
    assert {walked[name].verdict for name in ("requests", "dead letters", "backlog")} == {UNKNOWN}
    assert "Whether it was asked for is not known: Kafka in memory stays away" in walked.verdict
    assert walked.trace.away == []


def test_without_a_topic_the_others_are_read(site: Site):
    del site.topics.records[FAILED[0]]
    walked = site.trace()
    assert f"there is no topic {FAILED[0]}" in walked["dead letters"].found
    assert f"{FAILED[1]}: all 0 records" in walked["dead letters"].found
    assert walked["dead letters"].verdict is UNKNOWN
    site.topics.send(FAILED[1], {**event(), "failInfo": {"error": "x"}})
    assert site.trace()["dead letters"].verdict is OK  # the certificate is there


def test_no_topic_is_read_when_it_is_not_wanted(site: Site):
    site.topics.away = True
    assert "--kafka-records 0" in site.trace(records=0)["requests"].found


def test_what_was_not_read_in_time_is_not_said_to_be_missing(site: Site):
    site.due()
    site.topics.send(ISSUE, event("learner-2"))
    site.topics.send(FAILED[1], event("learner-2"))
    site.topics.slow = True
    walked = site.trace()
    assert walked["requests"].verdict is UNKNOWN
    assert walked["dead letters"].verdict is UNKNOWN
    assert "the time was up after 0 of the last 1 records" in walked.verdict


def test_services_that_do_not_answer(site: Site):
    site.due()
    site.http.open().handler = None
    walked = site.trace()
    assert walked["criteria"].verdict is UNKNOWN
    assert walked["certificate"].verdict is UNKNOWN
    assert walked.trace.away == []


# --- nothing written, nothing personal, readable


def test_nothing_is_written(site: Site):
    stores = (site.tables, site.relations, site.contents, site.courses, site.statuses)
    site.due()
    site.offer(t1=template(SCORED), t2=template(identifier="do_2"))
    site.score(aggregates={"score:A": 1.0})
    for store in stores:
        store.operations.clear()
    site.web.calls.clear()
    for change in (lambda: None, site.relations.clear, lambda: site.forget(ENROLMENTS)):
        change()
        site.trace()
    asked = {operation.name for store in stores for operation in store.operations}
    assert asked == {"select", "members", "exists", "get", "status"}
    calls = {(call.method, call.path.split("?")[0]) for call in site.web.calls}
    assert calls == {
        ("GET", f"/private/user/v1/read/{USER}"),
        ("GET", "/content/v3/read/A"),
        ("POST", "/registry-service/api/v1/TrainingCertificate/search"),
    }


def test_no_personal_data_is_printed(site: Site):
    site.offer(t1=template({"user": {"rootOrgId": "B", "lastName": "Rao"}}, identifier="x"), t2=template())
    letter = {**event(), "failInfo": {"error": "why"}, "edata": {**event()["edata"], "recipientName": "Meera Nair"}}
    site.topics.send(FAILED[1], letter)
    walked = site.trace()
    for text in (walked.table, as_json(walked.trace)):
        assert "why" in text
        for name in ("Meera", "Nair", "Rao", "Iyer"):
            assert name not in text


def test_the_table_fits_and_says_all(site: Site):
    site.incomplete("a", progress=0)
    walked = site.trace()
    lines = walked.table.splitlines()
    assert max(map(len, lines)) <= 100
    flat = " ".join(walked.table.split())
    assert walked.verdict in flat
    assert f"What to do: {walked.to_do}" in flat
    for step in walked.trace.steps:
        assert step.name in walked.table


def test_what_comes_from_outside_does_not_command_the_terminal(site: Site):
    site.offer(t1=template(name="A\x1b[2J"))
    site.topics.send(FAILED[1], {**event(), "failInfo": {"error": "why\n\x1b[31m not"}})
    assert "\x1b" not in site.trace().table


@pytest.mark.parametrize("user", ["learner-1", "schüler", 'a"b', "a/b"])
def test_records_are_found_however_json_writes_the_id(user: str):
    learner = Learner(user, COURSE, BATCH)
    plain = dumps(event(user))
    for value in (json.dumps(event(user)).encode(), plain.encode(), plain.replace("/", "\\/").encode()):
        assert might_name(learner)(value)
        assert asks_to_issue(value, learner)
    assert not might_name(learner)(None)


def test_the_document(site: Site):
    site.due()
    document = json.loads(as_json(site.trace().trace))
    assert document.keys() == {"user", "course", "batch", "verdict", "storesAway", "steps"}
    assert document["verdict"].keys() == {"text", "toDo", "step", "template", "also"}
    assert [step["name"] for step in document["steps"]] == STEPS
    for step in document["steps"]:
        assert step.keys() == {"name", "template", "lookedAt", "found", "verdict", "why", "toDo", "details"}
        assert step["verdict"] in {"ok", "no", "unknown", "not reached"}
    assert document["steps"][5]["template"] == "do_tpl"


def test_shares_of_partitions():
    assert shares(10, {0: 100, 1: 100}) == {0: 5, 1: 5}
    assert shares(10, {0: 2, 1: 100, 2: 0}) == {0: 2, 1: 8, 2: 0}
    assert shares(10, {0: 1, 1: 1}) == {0: 1, 1: 1}
    assert shares(1, {0: 9, 1: 9, 2: 9}) == {0: 0, 1: 0, 2: 1}
    assert shares(10, {}) == {}


# --- agreement with the jobs


def situation(random: Random, site: Site, user: str) -> None:
    """A learner of whom anything may be so or not."""
    if random.random() < 0.9:
        issued = [{"name": random.choice([CERTIFICATE, "merit", "Other"]), "identifier": "1-x"}]
        site.enrol(
            user,
            active=random.choice([True, True, True, False, None]),
            status=random.choice([2, 2, 1, 0, None]),
            completedon=random.choice([None, datetime(2024, 6, 12)]),
            issued_certificates=random.choice([None, issued]),
        )
    if random.random() < 0.7:
        scores = {f"score:{content}": random.choice([0.0, 3.0, 6.0, 9.0]) for content in random.sample("ABCD", 2)}
        site.score(
            user, aggregates={**scores, **{f"max_score:{content}": random.choice([0.0, 10.0]) for content in "AB"}}
        )
    known = random.choice([{"rootOrgId": "A"}, {"rootOrgId": "B", "grade": 1}, {"grade": 1.0}, {}, "blocked", None])
    if known is not None:
        site.services.users[user] = known


@pytest.mark.parametrize("seed", range(3))
def test_the_trace_says_who_gets_what_as_the_job_does(seed: int):
    random, site = Random(seed), Site()
    users = [f"learner-{number}" for number in range(100, 130)]
    for user in users:
        situation(random, site, user)
    site.contents.set({"A": dumps({"contentType": "SelfAssess"}), "B": dumps({"contentType": "Resource"})})
    site.services.contents["C"] = {"contentType": "SelfAssess"}
    criteria: list[Any] = [
        {"enrollment": {"status": 2}},
        {"enrollment": {}, "assessment": {"score": {">=": 50}}},
        {"enrollment": {"status": "1"}, "user": {"rootOrgId": "A"}},
        {"assessment": {"score": {"<": 50, "~": 1}}},
        {"assessment": {"score": 0}, "users": {"grade": 1}},
        {"assessment": {"score": ["x"]}},
        {"user": {}},
        "{",
        {},
    ]
    names = [CERTIFICATE, "Merit", "Pass"]
    offered = {
        f"t{number}": template(one, identifier=f"t{number}", name=random.choice(names))
        for number, one in enumerate(criteria)
    }
    offered["broken"] = template(identifier="broken", signatoryList={})
    site.offer(**offered)
    site.settings["enable.suppress.exception"] = bool(seed % 2)

    site.check(event(*users))
    given = {(e["edata"]["userId"], e["edata"]["templateId"]) for e in site.generated}
    failed = " ".join(site.reasons)

    said, is_broken = set(), set()
    for user in users:
        walked = site.trace(user)
        for step in walked.trace.steps:
            assert step.verdict is not UNKNOWN, step
            if step.name == "criteria":
                certificate = walked.of("certificate", step.template or "")
                is_issued = certificate.details["certificate"] is not None
                if step.verdict is OK and not is_issued:
                    said.add((user, step.template))
                    assert certificate.details["standing"] in ("due", "refused")
                elif step.verdict is OK or is_issued:
                    is_broken.add((user, step.template))
    assert said == given
    assert 10 <= len(given) <= 150
    assert all(f"user {user} template {one}:" not in failed for user, one in given)
    assert is_broken.isdisjoint(given)


@pytest.mark.parametrize("seed", range(2))
def test_the_trace_says_what_is_missing_as_the_job_does(seed: int):
    """Who is complete by the trace is who the progress job completes with the next event about it."""
    random = Random(seed)
    for _ in range(12):
        site = Site()
        site.relate("optionalnodes", **{COURSE: random.sample(CONTENTS, random.randint(1, 4))})
        site.incomplete(*random.sample(CONTENTS, random.randint(1, 4)), progress=0)
        step = site.trace()["progress"]
        sent = {
            "eid": "BE_JOB_REQUEST",
            "edata": {
                "action": "batch-enrolment-update",
                "userId": USER,
                "courseId": COURSE,
                "batchId": BATCH,
                "contents": [{"contentId": "elsewhere", "status": 2}],
            },
        }
        stores = progress.ProgressStores(
            site.cassandra, MemoryRedis(site.name, 10), None, MemoryCollectionStatuses(site.name)
        )
        site.run(progress, progress.Settings(**{"job.env": "dev"}), stores, sent, clock=lambda: NOW)
        row = site.enrolment()
        assert row is not None
        assert (row["status"] == 2) == (not step.details["missing"])
        assert row["progress"] == len(step.details["done"])


def test_what_only_the_jobs_need_may_be_missing():
    assert CheckSettings().certificate_domain == ""
    assert IssueSettings().rc_base_path is None
