"""The acceptance cases of activity-aggregate-updater §9 (and core §15 as far as this job goes), on DirectRunner.

Relation cache of the cases: course C with leaf nodes a, b, c, d; unit U1 {a, b}, unit U2 {c, d}; learner-1 in batch B.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from itertools import count
from typing import Any

import apache_beam as beam
import orjson
import pytest

from io_connectors.memory import MemoryCassandra, MemoryCollectionStatuses, MemoryRedis
from pipelines import activity_aggregate_updater as job
from pipelines.in_memory import InMemory, MemorySource
from pipelines.runtime import FailureWithoutSink, refuse_failures_without_sink
from schemas import redis_keys
from transforms.consumption import Enrolment
from transforms.dead_letter import LARGEST_DEAD_LETTER
from transforms.dedup import checksum
from transforms.replayed import letter_of
from transforms.stores import Update
from transforms.update_progress import ProgressStores

CONSUMPTION = "sunbird_courses.user_content_consumption"
AGGREGATES = "sunbird_courses.user_activity_agg"
ENROLMENTS = "sunbird_courses.user_enrolments"
USER, COURSE, BATCH = "learner-1", "C", "B"
AUDIT, CERTIFICATE, FAILED = "dev.telemetry.raw", "dev.issue.certificate.request", "dev.activity.agg.failed"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

numbers = count()


def event(*contents: Any, user: Any = USER, course: str = COURSE, batch: str = BATCH, **edata: Any) -> bytes:
    """A consumption event; a content is an id (completed) or an (id, status) pair."""
    pairs = [content if isinstance(content, tuple) else (content, 2) for content in contents]
    body = {"action": "batch-enrolment-update", "iteration": 1, "userId": user, "courseId": course, "batchId": batch}
    body["contents"] = [{"contentId": content, "status": status} for content, status in pairs]
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_718_000_000_123, "edata": {**body, **edata}})


class Site:
    """An installation in memory, with the cases' course, and the job on it."""

    def __init__(self) -> None:
        self.name = f"site-{next(numbers)}"
        self.cassandra = MemoryCassandra(self.name)
        self.tables = self.cassandra.open()
        self.relation_cache = MemoryRedis(self.name, 10).open()
        self.dedup = MemoryRedis(self.name, 13).open()
        self.collections = MemoryCollectionStatuses(self.name).open()
        self.relate(leafnodes={"C": "abcd", "U1": "ab", "U2": "cd"})
        self.relate(ancestors={"a": ["U1", "C"], "b": ["U1", "C"], "c": ["U2", "C"], "d": ["U2", "C"]})
        self.settings: dict[str, Any] = {"job.env": "dev"}
        self.written: dict[str, list[tuple[bytes | None, bytes]]] = {}
        self.counts: dict[str, int] = {}

    def relate(self, course: str = COURSE, **sets: dict[str, Any]) -> None:
        for kind, by_id in sets.items():
            self.relation_cache.replace_sets({getattr(redis_keys, kind)(course, i): list(m) for i, m in by_id.items()})

    def enrol(self, status: int | None = 0, user: str = USER, course: str = COURSE, **columns: Any) -> None:
        self.put(
            ENROLMENTS,
            {"userid": user, "courseid": course, "batchid": BATCH},
            {"status": status, "active": True, **columns},
        )

    def consumed(
        self, content: str, status: int | None, views: int | None, completions: int | None, user: str = USER
    ) -> None:
        where = {"userid": user, "courseid": COURSE, "batchid": BATCH, "contentid": content}
        self.put(CONSUMPTION, where, {"status": status, "viewcount": views, "completedcount": completions})

    def put(self, table: str, where: dict, assign: dict) -> None:
        assert self.tables.write([[Update(table, where, assign)]]) == [None]

    def run(self, *values: bytes | None, lasting: bool = True, **options: Any) -> Site:
        """Run the job over the values; what it wrote and counted is kept here."""
        settings = job.Settings(**self.settings)
        stores = ProgressStores(
            self.cassandra,
            MemoryRedis(self.name, 10),
            MemoryRedis(self.name, 13) if settings.dedup else None,
            MemoryCollectionStatuses(self.name),
        )
        ran = InMemory(job, settings, stores).run(*values, lasting=lasting, **options)
        self.written, self.counts = ran.written, ran.counted
        return self

    def events(self, topic: str) -> list[dict[str, Any]]:
        assert all(key is None for key, _ in self.written[topic]), "no record has a Kafka key"
        return [orjson.loads(value) for _, value in self.written[topic]]

    def audits(self) -> list[tuple[str, str]]:
        """(object id, type) of the AUDIT events."""
        return [(audit["object"]["id"], audit["edata"]["type"]) for audit in self.events(AUDIT)]

    def content(self, content: str, user: str = USER, course: str = COURSE) -> dict[str, Any] | None:
        return self._row(CONSUMPTION, userid=user, courseid=course, batchid=BATCH, contentid=content)

    def counts_of(self, content: str, **place: str) -> tuple[Any, Any, Any] | None:
        row = self.content(content, **place)
        return row and (row["status"], row["viewcount"], row["completedcount"])

    def enrolment(self, user: str = USER, course: str = COURSE) -> dict[str, Any] | None:
        return self._row(ENROLMENTS, userid=user, courseid=course, batchid=BATCH)

    def aggregates(self, user: str = USER) -> dict[str, dict[str, float]]:
        return {r["activity_id"]: r["aggregates"] for r in self.tables.rows(AGGREGATES) if r["user_id"] == user}

    def done(self, user: str = USER) -> dict[str, float]:
        return {activity: aggregates["completedCount"] for activity, aggregates in self.aggregates(user).items()}

    def has_checksum(self, content: str, course: str = COURSE) -> bool:
        return self.dedup.exists([checksum(Enrolment(USER, course, BATCH), content)])[0]

    def _row(self, table: str, **key: str) -> dict[str, Any] | None:
        found = [row for row in self.tables.rows(table) if all(row[name] == value for name, value in key.items())]
        return found[0] if found else None


@pytest.fixture
def site() -> Site:
    site = Site()
    site.enrol()
    return site


def test_case_01_partial(site):
    site.consumed("a", 2, 1, 1)
    site.run(event("b"))
    assert site.counts_of("b") == (None, 1, 1)
    assert site.done() == {"C": 2.0, "U1": 2.0}
    enrolment = site.enrolment()
    assert (enrolment["status"], enrolment["progress"], enrolment["completedon"]) == (1, 2, None)
    assert enrolment["contentstatus"] == {"a": 2, "b": 2}
    assert enrolment["datetime"].timestamp() == pytest.approx(time.time(), abs=86_400)
    assert site.audits() == [("b", "start"), ("b", "complete")]
    assert site.events(CERTIFICATE) == []
    assert site.has_checksum("b")
    assert 0 < site.dedup.time_to_live(checksum(Enrolment(USER, COURSE, BATCH), "b")) <= 604_800
    assert site.counts == {
        "total-events-count": 1,
        "batch-enrolment-update-count": 1,
        "processed-enrolment-count": 1,
        "db-read-count": 2,
        "db-update-count": 3,
        # leaf nodes and optional nodes of C, ancestors of a and b, both of U1
        "cache-hit-count": 6,
        "cache-miss-count": 2,
    }


def test_case_02_completion(site):
    for content in "abc":
        site.consumed(content, 2, 1, 1)
    before = time.time()
    site.run(event("d"))
    enrolment = site.enrolment()
    assert (enrolment["status"], enrolment["progress"]) == (2, 4)
    assert before - 1 <= epoch(enrolment["completedon"]) <= time.time() + 1
    [request] = site.events(CERTIFICATE)
    assert request["object"] == {"id": "B_C", "type": "CourseCertificateGeneration"}
    assert site.audits() == [("d", "start"), ("d", "complete"), (USER, "enrol-complete")]
    assert site.counts["enrolment-complete-count"] == site.counts["cert-issue-events-count"] == 1


def test_case_03_all_in_one_event_before_the_lms_wrote(site):
    site.run(event("a", "b", "c", "d"))
    assert (site.enrolment()["status"], site.enrolment()["progress"]) == (2, 4)
    assert Counter(kind for _, kind in site.audits()) == {"start": 4, "complete": 4, "enrol-complete": 1}
    assert len(site.events(CERTIFICATE)) == 1


def test_case_04_lower_status_later(site):
    site.consumed("a", 2, 4, 2)
    site.run(event(("a", 1)))
    assert site.counts_of("a") == (2, 4, 2)
    assert site.counts == {"total-events-count": 1, "skipped-events-count": 1}
    assert site.events(AUDIT) == []


def test_case_05_higher_status(site):
    site.consumed("a", 1, 3, 0)
    site.run(event("a"))
    assert site.counts_of("a") == (1, 4, 1)
    assert site.audits() == [("a", "complete")]


def test_case_06_redelivery_back_to_back(site):
    site.consumed("a", 2, 1, 1)
    site.run(event("b"), event("b"))
    assert site.counts_of("b") == (None, 1, 1)
    assert site.audits() == [("b", "start"), ("b", "complete")]
    assert site.counts["processed-enrolment-count"] == 1
    assert site.counts["batch-enrolment-update-count"] == 2


def test_case_06_redelivery_in_another_bundle(site):
    site.run(event("b"))
    site.run(event("b"))
    assert site.counts_of("b") == (None, 1, 1)
    assert site.audits() == []


def test_case_07_already_seen(site):
    site.run(event("b"))
    written = site.content("b")
    site.run(event("b", "c"))
    assert site.content("b") == written
    assert site.counts_of("c") == (None, 1, 1)
    assert site.audits() == [("c", "start"), ("c", "complete")]


def test_case_08_completed_enrolment(site):
    last_month = 1_690_000_000_000
    site.enrol(2, completedon=last_month, datetime=last_month, progress=4)
    before = site.enrolment()
    site.run(event("extra"))
    assert site.counts_of("extra") == (None, 1, 1)
    assert site.done()["C"] == 0.0
    assert site.audits() == [("extra", "start"), ("extra", "complete")]
    assert site.enrolment() == before
    assert site.events(CERTIFICATE) == []
    assert site.has_checksum("extra")


def test_case_09_not_enrolled(site):
    site.run(event("a", user="learner-2"))
    assert site.enrolment("learner-2") is None
    assert site.counts_of("a", user="learner-2") == (None, 1, 1)
    assert site.done("learner-2") == {"C": 1.0, "U1": 1.0}


def test_case_10_optional_node(site):
    site.relate(optionalnodes={"C": "d", "U2": "d"})
    site.consumed("a", 2, 1, 1)
    site.consumed("b", 2, 1, 1)
    site.consumed("d", 2, 1, 1)
    site.run(event("c"))
    assert (site.enrolment()["status"], site.enrolment()["progress"]) == (2, 3)
    assert site.done()["U2"] == 1.0
    assert len(site.events(CERTIFICATE)) == 1


def test_case_11_nested(site):
    site.relate(leafnodes={"M": "abcd"}, ancestors={"a": ["U1", "M", "C"]})
    site.run(event("a"))
    assert site.done() == {"C": 1.0, "U1": 1.0, "M": 1.0}


def test_case_12_scores_survive(site):
    key = {"activity_type": "Course", "activity_id": "C", "user_id": USER, "context_id": "cb:B"}
    scores = {"score:x": 4.0, "max_score:x": 5.0}
    assert site.tables.write([[Update(AGGREGATES, key, add={"aggregates": scores})]]) == [None]
    site.run(event("a"))
    assert site.aggregates()["C"] == {**scores, "completedCount": 1.0}


def test_case_13_no_leaf_nodes_live_and_an_event_of_another_course(site):
    site.collections.set_status("X", "Live")
    site.enrol(course="X")
    site.run(event("a", course="X"), event("a"))
    [failed] = site.events(FAILED)
    assert failed == {
        "userId": USER,
        "batchId": BATCH,
        "courseId": "X",
        "contents": {
            "a": {
                "contentId": "a",
                "status": 2,
                "completedCount": 1,
                "viewCount": 1,
                "fromInput": True,
                "eventsFor": ["start", "complete"],
            }
        },
    }
    assert site.content("a", course="X") is None
    assert site.enrolment(course="X")["progress"] is None
    assert not site.has_checksum("a", course="X")
    assert site.counts["failed-events-count"] == 1
    assert site.counts_of("a") == (None, 1, 1)
    assert {audit["object"]["rollup"]["l1"] for audit in site.events(AUDIT)} == {"C"}


def test_case_14_no_leaf_nodes_retired(site):
    site.collections.set_status("X", "Retired")
    site.enrol(course="X")
    before = site.enrolment(course="X")
    site.run(event("a", course="X"), event("b", course="X"))
    assert len(site.events(FAILED)) == 2
    assert site.collections.calls == ["X"]
    assert site.counts_of("a", course="X") == (None, 1, 1)
    assert site.audits() == [("a", "start"), ("a", "complete"), ("b", "start"), ("b", "complete")]
    assert site.enrolment(course="X") == before
    assert not site.has_checksum("a", course="X")
    assert site.counts["retired-consumption-events-count"] == 2
    assert "failed-events-count" not in site.counts


def test_a_course_that_the_search_service_does_not_know_is_asked_for_once_in_a_batch(site):
    """§3.5.1: a service in trouble, which is asked three times, must not be waited for with every event."""
    site.run(event("a", course="X"), event("b", course="X"), event("a", course="X", user="learner-2"))
    assert site.counts["failed-events-count"] == len(site.events(FAILED)) == 3
    assert site.collections.calls == ["X"]
    site.run(event("a", course="X"))
    assert site.collections.calls == ["X", "X"], "what it does not know is not remembered"


def test_case_15_bad_input(site):
    site.run(b"not json", event("a", user=None), event("a", action="batch-enrolment-sync"), event(("a", 1)), event("a"))
    assert [(letter["jobName"], bool(letter["failInfo"]["error"])) for letter in site.events(FAILED)] == [
        (job.NAME, True)
    ] * 2
    assert site.events(FAILED)[0]["rawEvent"] == "not json"
    assert site.events(FAILED)[1]["edata"]["courseId"] == COURSE
    assert site.counts["skipped-events-count"] == site.counts["failed-events-count"] == 2
    assert site.counts["total-events-count"] == 5
    assert site.counts_of("a") == (None, 1, 1)


def test_case_16_batching(site):
    site.settings |= {"threshold.batch.read.size": 100, "threshold.batch.read.interval": 2}
    site.run(event("a"), event("b"), event("c"))
    assert [site.counts_of(content) for content in "abc"] == [(None, 1, 1)] * 3
    assert site.enrolment()["progress"] == 3
    assert site.counts["processed-enrolment-count"] == 1


def test_core_case_02_records_that_are_no_object(site):
    bad = [b'{"eid":', b"", b"[1,2]", None, b"\xff\xfe", b"{}" + b" x", b"[" * 5_000]
    site.run(*bad, event("a"))
    assert site.counts["failed-events-count"] == len(bad)
    assert all(letter["failInfo"]["error"] and "rawEvent" in letter for letter in site.events(FAILED))
    assert site.counts_of("a") == (None, 1, 1)


def test_core_case_05_write_batches_are_counted(site):
    contents = [f"content-{n}" for n in range(23)]
    site.relate(leafnodes={"C": contents})
    site.run(event(*contents))
    assert site.counts["db-update-count"] == 3 + 1 + 1


def test_one_by_one_within_a_batch(site):
    """Handled alone, b does not know that a is completed: the LMS has not written it (§8.3)."""
    site.run(event("a"), event("b"))
    assert site.enrolment()["progress"] == 1


def test_events_travel_in_any_number_of_batches(site):
    values = [event(content, user=f"learner-{n}") for n in range(7) for content in "ab"]
    site.run(*values, batch_size=3)
    assert all(site.counts_of("b", user=f"learner-{n}") == (None, 1, 1) for n in range(7))


def test_without_dedup_every_report_counts(site):
    site.settings["activity.input.dedup.enabled"] = False
    site.run(event("a", "a"), event("a"))
    assert site.counts_of("a") == (None, 3, 3)
    assert site.dedup.scan("") == []


def test_without_unit_aggregates_only_the_course_is_written(site):
    site.settings["activity.module.aggs.enabled"] = False
    site.run(event("a"))
    assert site.done() == {"C": 1.0}
    assert site.counts["cache-hit-count"] == 2


def test_completed_enrolments_are_processed_when_asked(site):
    site.settings["activity.filter.processed.enrolments"] = False
    site.enrol(2, completedon=1_690_000_000_000)
    for content in "abc":
        site.consumed(content, 2, 1, 1)
    site.run(event("d"), event("a", user="stranger"))
    assert site.enrolment()["status"] == 2
    assert epoch(site.enrolment()["completedon"]) > 1_700_000_000
    assert len(site.events(CERTIFICATE)) == 1
    assert site.enrolment("stranger") is None


def test_an_enrolment_that_is_not_complete_any_more_stays_as_it_is(site):
    """§3.9, §8.6"""
    site.settings["activity.filter.processed.enrolments"] = False
    site.enrol(2, completedon=1_690_000_000_000, progress=4)
    before = site.enrolment()
    site.run(event("a"))
    assert site.enrolment() == before
    assert site.events(CERTIFICATE) == []


def test_a_course_with_only_optional_leaf_nodes_completes_at_once(site):
    site.relate(optionalnodes={"C": "abcd"})
    site.run(event("a"))
    assert (site.enrolment()["status"], site.enrolment()["progress"]) == (2, 0)


def test_an_enrolment_with_null_status_counts_as_not_started(site):
    site.enrol(None)
    site.run(event("a"))
    assert site.enrolment()["status"] == 1


def test_a_unit_without_leaf_nodes_gets_no_row(site):
    site.relate(ancestors={"a": ["U1", "C", "empty"]})
    site.run(event("a"))
    assert set(site.done()) == {"C", "U1"}


def test_other_rows_are_not_rewritten(site):
    site.consumed("a", 2, None, None)
    site.run(event("b"))
    assert site.counts_of("a") == (2, None, None)


def test_the_audit_of_a_content_to_the_letter(site):
    site.run(event("a"))
    start, complete = site.events(AUDIT)
    now = start["ets"]
    assert re.fullmatch(f"LP.AUDIT.{UUID}", start["mid"])
    assert all(re.fullmatch(UUID, start["context"][name]) for name in ("sid", "did"))
    assert (
        len({start["mid"], complete["mid"], *(e["context"][n] for e in (start, complete) for n in ("sid", "did"))}) == 6
    )
    for audit in (start, complete):
        del audit["mid"], audit["context"]["sid"], audit["context"]["did"]
    assert start == {
        "actor": {"id": USER, "type": "User"},
        "eid": "AUDIT",
        "edata": {"props": ["viewcount"], "type": "start"},
        "ver": "3.0",
        "syncts": now,
        "ets": now,
        "context": {
            "channel": "in.sunbird",
            "env": "Course",
            "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "course-progress-updater"},
            "cdata": [{"type": "CourseBatch", "id": BATCH}],
        },
        "object": {"id": "a", "type": "Content", "rollup": {"l1": COURSE}},
        "tags": [],
    }
    assert complete == {**start, "edata": {"props": ["viewcount", "completedcount"], "type": "complete"}}


def test_the_events_of_a_completion_to_the_letter(site):
    site.run(event("a", "b", "c", "d"))
    [request] = site.events(CERTIFICATE)
    assert re.fullmatch(f"LP.{request['ets']}.{UUID}", request.pop("mid"))
    assert request == {
        "eid": "BE_JOB_REQUEST",
        "ets": request["ets"],
        "actor": {"id": "Course Certificate Generator", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": "B_C", "type": "CourseCertificateGeneration"},
        "edata": {
            "userIds": [USER],
            "action": "issue-certificate",
            "iteration": 1,
            "trigger": "auto-issue",
            "batchId": BATCH,
            "reIssue": False,
            "courseId": COURSE,
        },
    }
    completed = site.events(AUDIT)[-1]
    assert completed["edata"] == {"props": ["status", "completedon"], "type": "enrol-complete"}
    assert completed["context"]["cdata"] == [{"type": "CourseBatch", "id": BATCH}, {"type": "Course", "id": COURSE}]
    assert completed["object"] == {"id": USER, "type": "User", "rollup": {"l1": COURSE}}


@pytest.mark.parametrize("odd", ["o'hara", 'say "x"', "a b", "🦜", "a\x00b", "a\nb", "a|b", "*", "x" * 8_000])
def test_odd_ids_are_ids(site, odd):
    site.relate(odd, leafnodes={odd: [odd, "z"]}, ancestors={odd: [odd]})
    site.enrol(user=odd, course=odd)
    site.run(event(odd, user=odd, course=odd))
    assert site.counts_of(odd, user=odd, course=odd) == (None, 1, 1)
    assert site.enrolment(odd, odd)["progress"] == 1


def test_a_refused_write_is_a_dead_letter_and_the_others_go_on(site):
    site.consumed("a", 2, 2**31 - 1, 1)
    site.enrol(user="learner-2")
    site.run(event("a"), event("a", user="learner-2"))
    [letter] = site.events(FAILED)
    assert letter["edata"]["userId"] == USER
    assert letter["failInfo"]["error"].startswith("refused by the store")
    assert site.counts["failed-events-count"] == 1
    assert not site.has_checksum("a")
    assert site.counts_of("a", user="learner-2") == (None, 1, 1)


def test_a_store_that_stays_away_fails_the_run_and_nothing_is_written(site):
    site.tables.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.run(event("a"))
    site.tables.unavailable = False
    assert site.content("a") is None


def test_two_megabytes_and_deep_nesting_are_dead_letters_or_work(site):
    big = event("a", padding="x" * 2_000_000)
    deep = b'{"edata":' + b"[" * 2_000 + b"]" * 2_000 + b"}"
    site.run(big, deep)
    assert site.counts_of("a") == (None, 1, 1)
    assert site.counts["failed-events-count"] == 1


def test_more_contents_than_a_failed_event_can_list_are_a_dead_letter(site):
    """§3.5.1: what Kafka refuses would stop the job for good."""
    value = event(*(f"do_{number:024d}" for number in range(30_000)), course="X")
    site.run(value, event("a"))
    [(_, failed)] = site.written[FAILED]
    assert len(failed) <= LARGEST_DEAD_LETTER
    assert letter_of(failed, job.NAME).original == value
    assert site.counts["failed-events-count"] == 1
    assert site.counts_of("a") == (None, 1, 1)


def test_a_failure_output_without_sink_is_refused():
    from transforms.consumption import SelectConsumption, consumption_of  # noqa: PLC0415

    pipeline = beam.Pipeline()
    selected = MemorySource((b"x",)).read(pipeline) | "Select" >> beam.ParDo(
        SelectConsumption("job", 1, consumption_of)
    ).with_outputs("failed", main="work")
    _ = selected.work | beam.Map(len)
    with pytest.raises(FailureWithoutSink, match="Select"):
        refuse_failures_without_sink(pipeline)


def epoch(moment: Any) -> float:
    return (moment - moment.__class__(1970, 1, 1)).total_seconds()
