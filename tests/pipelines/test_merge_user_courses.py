"""The acceptance cases of merge-user-courses §9, what else its spec says, and any cut of batches."""

from __future__ import annotations

import copy
import re
from collections import Counter
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from io_connectors.memory import MemoryCassandra
from pipelines import merge_user_courses as job
from pipelines.configuration import load
from pipelines.in_memory import InMemory
from pipelines.settings import SettingsError
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import Death, Died
from transforms.merge_user_courses import MergeTables, MergeUserCourses
from transforms.stores import Refused, Update

CONSUMPTION = "sunbird_courses.user_content_consumption"
AGGREGATES = "sunbird_courses.user_activity_agg"
ENROLMENTS = "sunbird_courses.user_enrolments"
SYNC, FAILED = "dev.coursebatch.job.request", "dev.learning.events.failed"
FROM, TO = "learner-1", "learner-2"
NOW = 1_714_650_001_000
NOW_READ = datetime(2024, 5, 2, 11, 40, 1)
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
INVALID = "ERR_MERGE_USER_COURSES_SAMZA"

numbers = count()


def may(day: int) -> datetime:
    return datetime(2024, 5, day, 9, 30, 15, 42_000)


def event(source: Any = FROM, target: Any = TO, **more: Any) -> bytes:
    edata = {"action": "merge-user-courses-and-cert", "fromAccountId": source, "toAccountId": target, "iteration": 1}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_714_650_000_777, "ver": "3.0", "edata": edata, **more})


class Site:
    """An installation in memory, and the job on it."""

    def __init__(self) -> None:
        self.name = f"merges-{next(numbers)}"
        self.cassandra = MemoryCassandra(self.name)
        self.tables = self.cassandra.open()
        self.settings: dict[str, Any] = {"job.env": "dev"}
        self.written: dict[str, list[tuple[bytes | None, bytes]]] = {}
        self.counts: dict[str, int] = {}

    # --- what is there

    def consumed(self, user: str, content: str, course: str = "C", batch: str = "B1", **columns: Any) -> None:
        key = {"userid": user, "courseid": course, "batchid": batch, "contentid": content}
        self.tables.insert(CONSUMPTION, {**key, **columns})

    def enrol(self, user: str, course: str = "C", batch: str = "B1", **columns: Any) -> None:
        key = {"userid": user, "courseid": course, "batchid": batch}
        self.tables.insert(ENROLMENTS, {**key, "active": True, **columns})

    def aggregate(self, user: str, course: str = "C", batch: str = "B1", **columns: Any) -> None:
        key = {"activity_type": "Course", "activity_id": course, "user_id": user, "context_id": f"cb:{batch}"}
        self.tables.insert(AGGREGATES, {**key, **columns})

    def rows(self, table: str, user: str) -> list[dict[str, Any]]:
        """The user's rows without the user's id."""
        owner = "user_id" if table == AGGREGATES else "userid"
        found = [row for row in self.tables.rows(table) if row[owner] == user]
        return [{name: value for name, value in row.items() if name != owner} for row in found]

    def content(self, user: str = TO, content: str = "a") -> dict[str, Any]:
        [row] = [row for row in self.rows(CONSUMPTION, user) if row["contentid"] == content]
        return row

    # --- the job

    def run(self, *values: bytes | None, **options: Any) -> Site:
        options.setdefault("clock", lambda: NOW)
        ran = InMemory(job, job.Settings(**self.settings), self.cassandra).run(*values, topic="merges", **options)
        self.written, self.counts = ran.written, ran.counted
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def events(self, topic: str) -> list[dict[str, Any]]:
        assert all(key is None for key, _ in self.written[topic]), "no record has a Kafka key"
        return [orjson.loads(value) for _, value in self.written[topic]]

    def synced(self) -> list[tuple[str, str, str]]:
        """(user, course, batch) of the sync events."""
        found = (sync["edata"] for sync in self.events(SYNC))
        return [(edata["userId"], edata["courseId"], edata["batchId"]) for edata in found]


@pytest.fixture
def site() -> Site:
    return Site()


FULL_CONSUMPTION = {
    "completedcount": 1,
    "completionpercentage": 87.5,
    "datetime": may(1),
    "last_access_time": may(2),
    "last_completed_time": may(3),
    "last_updated_time": may(4),
    "lastaccesstime": "2024-05-02 09:30:15:042+0000",
    "lastcompletedtime": "2024-05-02 09:30:15:043+0000",
    "lastupdatedtime": "2024-05-02 09:30:15:044+0000",
    "progress": 100,
    "progressdetails": '{"mimeType": "video/mp4"}',
    "status": 2,
    "viewcount": 4,
}
FULL_ENROLMENT = {
    "active": True,
    "addedby": "learner-1",
    "certificates": [{"name": "old", "url": "x"}],
    "certstatus": 1,
    "completedon": may(4),
    "completionpercentage": 100,
    "contentstatus": {"a": 2, "b": 1},
    "datetime": may(4),
    "enrolled_date": may(1),
    "enrolleddate": "2024-05-01 09:30:15:042+0000",
    "issued_certificates": [{"name": "Course Completion", "identifier": "1-x", "token": "A1"}, {"name": "Merit"}],
    "lastcontentaccesstime": may(3),
    "lastreadcontentid": "b",
    "lastreadcontentstatus": 1,
    "progress": 1,
    "status": 2,
}


def test_case_01_everything_carried_over(site: Site) -> None:
    """§9 case 1"""
    site.enrol(FROM, **FULL_ENROLMENT)
    site.enrol(FROM, "D", "B2", status=0)
    for content in "abc":
        site.consumed(FROM, content, **FULL_CONSUMPTION)
    site.consumed(FROM, "x", "D", "B2", status=1)
    site.aggregate(
        FROM,
        aggregates={"completedCount": 1.0, "score:x": 4.0, "max_score:x": 5.0, "attempts_count:x": 2.0},
        agg_last_updated={"completedCount": may(1), "score:x": may(2)},
        agg={"completedCount": 1},
        agg_details=['{"attempt": 1}'],
    )
    before = [site.rows(table, FROM) for table in (CONSUMPTION, AGGREGATES, ENROLMENTS)]
    site.run(event())
    assert [site.rows(table, FROM) for table in (CONSUMPTION, AGGREGATES, ENROLMENTS)] == before
    assert site.rows(ENROLMENTS, TO) == site.rows(ENROLMENTS, FROM)
    assert site.rows(CONSUMPTION, TO) == site.rows(CONSUMPTION, FROM)
    assert len(site.rows(CONSUMPTION, TO)) == 4
    [aggregate] = site.rows(AGGREGATES, TO)
    [original] = site.rows(AGGREGATES, FROM)
    updated = aggregate.pop("agg_last_updated")
    del original["agg_last_updated"]
    assert aggregate == original
    assert updated == {
        "completedCount": NOW_READ,
        "score:x": may(2),
        "max_score:x": NOW_READ,
        "attempts_count:x": NOW_READ,
    }
    assert site.synced() == [(TO, "C", "B1"), (TO, "D", "B2")]
    assert site.counts == {"total-events-count": 1, "success-events-count": 1, "db-update-user-course-batch": 2}


def test_case_02_overlap(site: Site) -> None:
    """§9 case 2"""
    site.consumed(FROM, "a", status=2, progress=100, viewcount=4, completedcount=1, last_access_time=may(3))
    site.consumed(TO, "a", status=1, progress=40, viewcount=2, last_access_time=may(5), progressdetails="mine")
    site.run(event())
    row = site.content()
    names = ("status", "progress", "viewcount", "completedcount", "last_access_time", "progressdetails")
    assert [row[name] for name in names] == [2, 100, 6, 1, may(5), "mine"]


@pytest.mark.parametrize(
    ("mine", "theirs", "left"),
    [
        ("2024-05-02 10:00:00:000+0000", "2024-05-02 14:00:00:000+0530", "2024-05-02 10:00:00:000+0000"),
        ("not a date", "2024-05-02 14:00:00:000+0530", "2024-05-02 14:00:00:000+0530"),
        ("not a date", "neither", "neither"),
        ("2024-05-02 10:00:00:000+0000", "not a date", "2024-05-02 10:00:00:000+0000"),
        ("2024-05-02 08:30:00:000+0000", "2024-05-02 14:00:00:000+0530", "2024-05-02 14:00:00:000+0530"),
        ("2024-05-02 10:00:00:000+0000", None, "2024-05-02 10:00:00:000+0000"),
        ("not a date", None, "not a date"),
        (None, "x", "x"),
    ],
)
def test_case_03_text_dates(site: Site, mine: str | None, theirs: str | None, left: str) -> None:
    """§9 case 3; equal: the target's"""
    for column in ("lastaccesstime", "lastcompletedtime", "lastupdatedtime"):
        site.consumed(FROM, column, status=1, **{column: mine})
        site.consumed(TO, column, status=1, **{column: theirs})
    site.run(event())
    for column in ("lastaccesstime", "lastcompletedtime", "lastupdatedtime"):
        assert site.content(TO, column)[column] == left


def test_case_04_same_batch(site: Site) -> None:
    """§9 case 4, §8.11"""
    site.enrol(FROM, **FULL_ENROLMENT)
    site.enrol(TO, status=1, progress=3, contentstatus={"z": 2})
    before = site.rows(ENROLMENTS, TO)
    site.run(event())
    assert site.rows(ENROLMENTS, TO) == before
    assert site.synced() == [(TO, "C", "B1")]


def test_case_05_aggregates(site: Site) -> None:
    """§9 case 5, §8.2, §8.3"""
    site.enrol(FROM)
    site.aggregate(FROM, aggregates={"completedCount": 3, "score:x": 4, "max_score:x": 5})
    theirs = {"completedCount": 6, "score:x": 2, "max_score:x": 5, "score:y": 1, "max_score:y": 2}
    site.aggregate(TO, aggregates=theirs)
    site.run(event())
    [row] = site.rows(AGGREGATES, TO)
    assert row["aggregates"] == {**theirs, "score:x": 4}


def test_case_06_no_enrolments_of_from(site: Site) -> None:
    """§9 case 6"""
    site.consumed(FROM, "a", status=2)
    site.aggregate(FROM, aggregates={"completedCount": 9})
    site.enrol(TO, batch="B7")
    site.run(event())
    assert site.content()["status"] == 2
    assert site.rows(AGGREGATES, TO) == []
    assert site.synced() == [(TO, "C", "B7")]


def test_case_07_nothing_at_all(site: Site) -> None:
    """§9 case 7"""
    site.run(event())
    assert site.synced() == []
    assert site.counts == {"total-events-count": 1, "success-events-count": 1}


def test_case_08_invalid_events(site: Site) -> None:
    """§9 case 8, §6"""
    site.consumed(FROM, "a", status=2)
    invalid = [event(FROM, FROM), event(""), event(5), orjson.dumps({"eid": "BE_JOB_REQUEST"})]
    site.run(*invalid, b"{{", event())
    letters = site.events(FAILED)
    for letter in letters:
        validator("merge-user-courses-failed").validate(letter)
        assert letter["jobName"] == "MergeUserCourses"
    *of_invalid, raw = letters
    for value, letter in zip(invalid, of_invalid, strict=True):
        assert letter["failInfo"] == {"errorCode": "DATA_ERROR", "error": INVALID}
        assert {name: letter[name] for name in letter if name not in ("jobName", "failInfo")} == orjson.loads(value)
    assert raw["rawEvent"] == "{{"
    assert raw.keys() == {"jobName", "failInfo", "rawEvent"}
    assert site.content()["status"] == 2
    assert site.counts == {
        "total-events-count": 6,
        "skipped-event-count": 4,
        "failed-events-count": 1,
        "success-events-count": 1,
    }


def test_case_09_issued_certificates(site: Site) -> None:
    """§9 case 9"""
    site.enrol(FROM, issued_certificates=FULL_ENROLMENT["issued_certificates"])
    site.run(event())
    [row] = site.rows(ENROLMENTS, TO)
    assert row["issued_certificates"] == FULL_ENROLMENT["issued_certificates"]


def test_case_10_inactive_enrolment(site: Site) -> None:
    """§9 case 10"""
    site.enrol(FROM, active=False)
    site.run(event())
    [row] = site.rows(ENROLMENTS, TO)
    assert row["active"] is False
    assert site.synced() == [(TO, "C", "B1")]


def test_case_11_other_context(site: Site) -> None:
    """§9 case 11"""
    site.enrol(FROM)
    site.aggregate(TO, batch="B1", aggregates={"completedCount": 1})
    site.aggregate(FROM, batch="B2", aggregates={"completedCount": 5})
    site.run(event())
    done = {row["context_id"]: row["aggregates"]["completedCount"] for row in site.rows(AGGREGATES, TO)}
    assert done == {"cb:B1": 1.0, "cb:B2": 5.0}


# --- §2, §3, §5, §6


def test_the_sync_event_to_the_letter(site: Site) -> None:
    """§3.4"""
    site.enrol(TO, "do_2140300300300300301", "0140300300300300300", active=False)
    [sync] = site.run(event()).events(SYNC)
    validator("batch-enrolment-sync").validate(sync)
    assert re.fullmatch(f"LP.{NOW}.{UUID}", sync.pop("mid"))
    assert sync == {
        "actor": {"id": "Course Batch Updater", "type": "System"},
        "eid": "BE_JOB_REQUEST",
        "edata": {
            "action": "batch-enrolment-sync",
            "iteration": 1,
            "batchId": "0140300300300300300",
            "userId": TO,
            "courseId": "do_2140300300300300301",
            "reset": ["completionPercentage", "status", "progress"],
        },
        "ets": NOW,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": f"0140300300300300300_{TO}", "type": "CourseBatchEnrolment"},
    }


@pytest.mark.parametrize("edata", [None, [], "x", {}, {"fromAccountId": FROM}, {"toAccountId": TO, "action": "x"}])
def test_an_event_without_two_accounts_is_invalid(site: Site, edata: Any) -> None:
    site.run(orjson.dumps({"edata": edata}))
    assert site.events(FAILED)[0]["failInfo"]["error"] == INVALID
    assert site.counts == {"total-events-count": 1, "skipped-event-count": 1}


def test_the_action_is_not_checked(site: Site) -> None:
    """§2"""
    site.consumed(FROM, "a", status=2)
    site.run(orjson.dumps({"edata": {"fromAccountId": FROM, "toAccountId": TO, "action": 7}}))
    assert site.content()["status"] == 2


@pytest.mark.parametrize("value", [None, b"", b"[1,2]", b'"x"', b"\xff\xfe", b"[" * 3_000])
def test_what_is_no_object_is_a_failed_event(site: Site, value: bytes | None) -> None:
    """core §15 case 2"""
    site.run(value)
    [letter] = site.events(FAILED)
    assert letter.keys() == {"jobName", "failInfo", "rawEvent"}
    assert site.counts == {"total-events-count": 1, "failed-events-count": 1}


def test_ids_of_contents_are_compared_without_case(site: Site) -> None:
    """§3.1: of several that match, the last; the target's key stays"""
    site.consumed(FROM, "DO_1", "Course", "B1", viewcount=1)
    site.consumed(TO, "DO_1", "course", "b1", viewcount=10)
    site.consumed(TO, "do_1", "course", "b1", viewcount=20)
    site.run(event())
    found = {(row["courseid"], row["contentid"]): row["viewcount"] for row in site.rows(CONSUMPTION, TO)}
    assert found == {("course", "DO_1"): 10, ("course", "do_1"): 21}


def test_nothing_of_the_source_is_lost_where_its_own_ids_differ_in_case_only(site: Site) -> None:
    site.consumed(FROM, "A", viewcount=1)
    site.consumed(FROM, "a", viewcount=2, status=2)
    site.consumed(TO, "a", viewcount=10, status=1)
    site.run(event())
    [row] = site.rows(CONSUMPTION, TO)
    assert (row["viewcount"], row["status"]) == (13, 2)


def test_only_what_changes_is_written(site: Site) -> None:
    """What the LMS writes to the target's row meanwhile stays."""
    site.consumed(FROM, "a", status=1, viewcount=1, last_access_time=may(1))
    site.consumed(TO, "a", **FULL_CONSUMPTION)
    site.consumed(FROM, "b", status=1)
    site.consumed(TO, "b", status=2)
    site.tables.operations.clear()
    site.run(event())
    writes = [update for operation in site.tables.operations if operation.name == "write" for update in operation[1]]
    assert [(update.where["contentid"], update.assign) for update in writes] == [("a", {"viewcount": 5})]


def test_aggregates_key_by_key(site: Site) -> None:
    """§3.2"""
    site.enrol(FROM)
    site.aggregate(
        FROM,
        aggregates={
            "score:equal": 2.0,
            "max_score:equal": 9.0,
            "score:less": 1.0,
            "max_score:less": 9.0,
            "score:new": 1.0,
            "max_score:new": 2.0,
            "score:more": 3.0,
            "attempts_count:more": 5.0,
            "attempts_count:less": 1.0,
            "max_score:alone": 7.0,
            "other": 4.0,
        },
        agg_last_updated={"score:new": may(1), "other": may(2), "score:less": may(3)},
        agg={"completedCount": 3, "x": 1},
        agg_details=["one", "two"],
    )
    site.aggregate(
        TO,
        aggregates={
            "completedCount": 6.0,
            "score:equal": 2.0,
            "max_score:equal": 5.0,
            "score:less": 2.0,
            "max_score:less": 5.0,
            "score:more": 2.0,
            "max_score:more": 5.0,
            "attempts_count:more": 2.0,
            "attempts_count:less": 2.0,
            "mine": 1.0,
        },
        agg_last_updated={"score:less": may(9), "mine": may(9), "completedCount": may(9)},
        agg={"completedCount": 5, "y": 1},
        agg_details=["two", "three"],
    )
    site.run(event())
    [row] = site.rows(AGGREGATES, TO)
    assert row["aggregates"] == {
        "completedCount": 6.0,
        "score:equal": 2.0,
        "max_score:equal": 5.0,
        "score:less": 2.0,
        "max_score:less": 5.0,
        "score:new": 1.0,
        "max_score:new": 2.0,
        "score:more": 3.0,
        "max_score:more": 5.0,
        "attempts_count:more": 5.0,
        "attempts_count:less": 2.0,
        "max_score:alone": 7.0,
        "other": 4.0,
        "mine": 1.0,
    }
    assert row["agg_last_updated"] == {
        "completedCount": NOW_READ,
        "score:new": may(1),
        "max_score:new": NOW_READ,
        "score:more": NOW_READ,
        "attempts_count:more": NOW_READ,
        "max_score:alone": NOW_READ,
        "other": may(2),
        "score:less": may(9),
        "mine": may(9),
    }
    assert row["agg"] == {"completedCount": 5, "x": 1, "y": 1}
    assert row["agg_details"] == ["two", "three", "one"]


def test_an_aggregate_without_anything_gets_a_count_of_none(site: Site) -> None:
    """§3.2: completedCount is always written"""
    site.enrol(FROM)
    site.aggregate(FROM, agg_details=["x"])
    site.run(event())
    [row] = site.rows(AGGREGATES, TO)
    assert (row["aggregates"], row["agg_details"], row["agg"]) == ({"completedCount": 0.0}, ["x"], None)


def test_only_aggregates_of_the_courses_of_the_source_s_enrolments(site: Site) -> None:
    site.enrol(FROM, "C")
    site.aggregate(FROM, "C", aggregates={"completedCount": 1})
    site.aggregate(FROM, "unit-of-C", aggregates={"completedCount": 1})
    site.run(event())
    assert [row["activity_id"] for row in site.rows(AGGREGATES, TO)] == ["C"]


def test_many_courses_and_contents(site: Site) -> None:
    for number in range(60):
        site.enrol(FROM, f"C{number}", f"B{number}", status=1)
        site.aggregate(FROM, f"C{number}", f"B{number}", aggregates={"completedCount": number})
        for content in range(5):
            site.consumed(FROM, f"{number}-{content}", f"C{number}", f"B{number}", status=2)
    site.run(event())
    assert [len(site.rows(table, TO)) for table in (ENROLMENTS, AGGREGATES, CONSUMPTION)] == [60, 60, 300]
    assert len(site.synced()) == 60


def test_columns_that_a_site_has_beside_are_carried_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """§3.3"""
    site.enrol(FROM, status=1)
    select = site.tables.select
    written: list[Any] = []

    def wider(selects: Any) -> Any:
        return [[{**row, "more": 1} for row in rows] for rows in select(selects)]

    monkeypatch.setattr(site.tables, "select", wider)
    monkeypatch.setattr(site.tables, "write", lambda batches: [written.append(b) for b in batches])
    site.run(event())
    assert [update.assign for [update] in written] == [{"active": True, "status": 1, "more": 1}]


def test_a_second_merge_into_an_account_sees_the_first(site: Site) -> None:
    """§3: one after the other for each target; and from account to account"""
    site.consumed("a", "x", viewcount=1)
    site.consumed("b", "x", viewcount=2)
    site.enrol("a")
    site.run(event("a", "b"), event("b", "c"), event("b", "d"), event("a", "d"))
    assert [site.content(user, "x")["viewcount"] for user in "abcd"] == [1, 3, 3, 4]
    assert site.synced() == [(user, "C", "B1") for user in "bcdd"]


def test_many_merges_share_their_round_trips(site: Site) -> None:
    for number in range(20):
        site.enrol(f"from-{number}")
        site.aggregate(f"from-{number}", aggregates={"completedCount": 1})
        site.consumed(f"from-{number}", "a", viewcount=1)
    calls = Counter[str]()
    select, write = site.tables.select, site.tables.write
    site.tables.select = lambda selects: (calls.update(["select"]), select(selects))[1]  # type: ignore[method-assign]
    site.tables.write = lambda batches: (calls.update(["write"]), write(batches))[1]  # type: ignore[method-assign]
    site.run(*[event(f"from-{number}", f"to-{number}") for number in range(20)])
    assert calls == {"select": 4, "write": 3}
    assert site.counts["success-events-count"] == 20


def test_a_refused_id_takes_no_other_event_with_it(site: Site) -> None:
    """§6: an error caused by the data"""
    site.consumed(FROM, "a", status=2)
    site.run(event("x" * 70_000, "learner-3"), event(), event(FROM, "y" * 70_000))
    assert site.content()["status"] == 2
    assert [letter["failInfo"]["error"][:20] for letter in site.events(FAILED)] == ["refused by the store"] * 2
    assert site.counts["failed-events-count"] == 2


def test_counts_that_do_not_fit_are_a_failed_event(site: Site) -> None:
    site.consumed(FROM, "a", viewcount=2**31 - 1)
    site.consumed(TO, "a", viewcount=1)
    site.consumed("learner-3", "a", viewcount=1)
    site.run(event(), event("learner-3", "learner-4"))
    [letter] = site.events(FAILED)
    assert letter["edata"]["toAccountId"] == TO
    assert site.content("learner-4")["viewcount"] == 1
    assert site.counts["success-events-count"] == 1


def test_columns_of_other_types_are_a_failed_event(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.consumed(FROM, "a", status=2)
    site.consumed(TO, "a", status=1)
    site.consumed("learner-3", "a", status=1)
    select = site.tables.select

    def drifted(selects: Any) -> Any:
        return [[{**r, "status": "two"} if r.get("userid") == FROM else r for r in rows] for rows in select(selects)]

    monkeypatch.setattr(site.tables, "select", drifted)
    site.run(event(), event("learner-3", "learner-4"))
    [letter] = site.events(FAILED)
    assert letter["failInfo"]["error"] == "could not be handled: TypeError"
    assert site.content("learner-4")["status"] == 1
    assert site.content()["status"] == 1


def test_a_store_that_stays_away_fails_the_run_and_nothing_is_written(site: Site) -> None:
    """§6"""
    site.consumed(FROM, "a", status=2)
    site.tables.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.run(event())
    assert site.rows(CONSUMPTION, TO) == []


def test_settings() -> None:
    """§5"""
    assert job.Settings(**{"job.env": "dev", "kafka.groupId": ""}).kafka_group_id == "dev-merge-courses-group"
    assert job.Settings(**{"kafka.groupId": "own"}).kafka_group_id == "own"
    with pytest.raises(SettingsError, match=r"course\.date\.format .*the letter E"):
        load(job.Settings, (), ["course.date.format=EEE"], {})


def test_another_format_of_dates(site: Site) -> None:
    """§5"""
    site.settings["course.date.format"] = "dd.MM.yyyy"
    site.consumed(FROM, "a", lastaccesstime="02.05.2024 and more")
    site.consumed(TO, "a", lastaccesstime="30.04.2024")
    site.run(event())
    assert site.content()["lastaccesstime"] == "02.05.2024 and more"


# --- who else writes: the LMS


def test_the_lms_writes_to_the_target_s_row_between_read_and_write(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person goes on learning with the remaining account."""
    site.consumed(FROM, "a", status=1, progress=10, viewcount=3)
    site.consumed(TO, "a", status=1, progress=40)
    site.enrol(FROM, batch="B2")
    select = site.tables.select

    def meanwhile(selects: Any) -> Any:
        found = select(selects)
        if selects and selects[0].table == CONSUMPTION:
            key = {"userid": TO, "courseid": "C", "batchid": "B1", "contentid": "a"}
            site.tables.write([[Update(CONSUMPTION, key, {"status": 2, "progress": 100, "last_access_time": may(9)})]])
            site.enrol(TO, batch="B3", status=0)
        return found

    monkeypatch.setattr(site.tables, "select", meanwhile)
    site.run(event())
    row = site.content()
    assert (row["status"], row["progress"], row["viewcount"], row["last_access_time"]) == (2, 100, 3, may(9))
    assert site.synced() == [(TO, "C", "B2"), (TO, "C", "B3")], "read again, so what came meanwhile is told too"


# --- any order, repetition and cut of batches

USERS = ["u", "v", "w", "x"]
COURSES = ["C", "D"]
BATCHES = ["B1", "B2"]
TEXTS = [None, "2024-05-02 10:00:00:000+0000", "2024-05-02 14:00:00:000+0530", "2024-05-03 10:00:00:000+0000", "?"]

small = st.sampled_from([None, 0, 1, 2, 5])
moments = st.sampled_from([None, may(1), may(2), may(3)])
consumption_rows = st.dictionaries(
    st.tuples(
        st.sampled_from(USERS), st.sampled_from(COURSES), st.sampled_from(BATCHES), st.sampled_from(["a", "A", "b"])
    ),
    st.fixed_dictionaries(
        {
            "status": small,
            "progress": small,
            "viewcount": small,
            "completedcount": small,
            "last_access_time": moments,
            "lastaccesstime": st.sampled_from(TEXTS),
            "progressdetails": st.sampled_from([None, "p", "q"]),
        }
    ),
    max_size=8,
)
# of one account's ids, none differ in case alone: of two of them, the second merge would change only the last (§3.1)
repeatable_rows = consumption_rows.map(
    lambda rows: {key: row for key, row in rows.items() if key[3] != "A" or (*key[:3], "a") not in rows}
)
enrolment_rows = st.dictionaries(
    st.tuples(st.sampled_from(USERS), st.sampled_from(COURSES), st.sampled_from(BATCHES)),
    st.fixed_dictionaries({"status": st.sampled_from([0, 1, 2]), "progress": small, "active": st.booleans()}),
    max_size=6,
)
scores = st.sampled_from([1.0, 2.0, 3.0])
aggregate_rows = st.dictionaries(
    st.tuples(st.sampled_from(USERS), st.sampled_from(COURSES), st.sampled_from(BATCHES)),
    st.fixed_dictionaries(
        {
            "aggregates": st.dictionaries(
                st.sampled_from(["completedCount", "score:x", "max_score:x", "attempts_count:x", "more"]), scores
            ),
            "agg_details": st.lists(st.sampled_from(["1", "2", "3"]), max_size=3, unique=True),
        }
    ),
    max_size=6,
)
accounts = st.tuples(st.sampled_from(USERS), st.sampled_from(USERS)).filter(lambda pair: pair[0] != pair[1])
sizes_of_batches = st.lists(st.integers(1, 5), min_size=1, max_size=4)


class Naive:
    """The rules once more, event after event, as the spec tells them."""

    def __init__(self, consumption: Any, enrolments: Any, aggregates: Any) -> None:
        self.consumption = copy.deepcopy(consumption)
        self.enrolments = copy.deepcopy(enrolments)
        self.aggregates = copy.deepcopy(aggregates)
        self.synced: list[tuple[str, str, str]] = []

    def merge(self, source: str, target: str) -> None:  # noqa: C901 - one rule after the other, as the spec has them
        theirs = {key: dict(row) for key, row in sorted(self.consumption.items()) if key[0] == target}
        for key, f in sorted(self.consumption.items()):
            if key[0] != source:
                continue
            met = [k for k in theirs if [p.lower() for p in k[1:]] == [p.lower() for p in key[1:]]]
            if not met:
                self.consumption[target, *key[1:]] = dict(f)
                continue
            t = self.consumption[met[-1]]
            for column in ("status", "progress", "last_access_time"):
                t[column] = max((v for v in (f[column], t[column]) if v is not None), default=None)
            for column in ("viewcount", "completedcount"):
                if f[column] is not None:
                    t[column] = (t[column] or 0) + f[column]
            t["lastaccesstime"] = later(f["lastaccesstime"], t["lastaccesstime"])
        mine = {key[1:]: row for key, row in self.enrolments.items() if key[0] == source}
        for (user, course, batch), a in sorted(self.aggregates.items()):
            if user == source and course in {of for of, _ in mine}:
                b = self.aggregates.setdefault((target, course, batch), {"aggregates": {}, "agg_details": []})
                counts, other = a["aggregates"], b["aggregates"]
                wins = "score:x" in counts and counts["score:x"] > other.get("score:x", -1.0)
                other["completedCount"] = max(counts.get("completedCount", 0.0), other.get("completedCount", 0.0))
                for name in ("attempts_count:x", "more", *(() if "score:x" in counts else ("max_score:x",))):
                    if name in counts:
                        other[name] = max(counts[name], other.get(name, 0.0))
                if wins:
                    other |= {name: counts[name] for name in ("score:x", "max_score:x") if name in counts}
                b["agg_details"] = b["agg_details"] + [e for e in a["agg_details"] if e not in b["agg_details"]]
        batches = {batch for user, _, batch in self.enrolments if user == target}
        for (course, batch), row in mine.items():
            if batch not in batches:
                self.enrolments[target, course, batch] = dict(row)
        self.synced += [key for key in self.enrolments if key[0] == target]


def later(f: str | None, t: str | None) -> str | None:
    if f is None or t is None:
        return t if f is None else f

    def parsed(text: str) -> datetime | None:
        try:
            moment = datetime.strptime(text[:23] + "000" + text[23:], "%Y-%m-%d %H:%M:%S:%f%z")
        except ValueError:
            return None
        return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta())

    mine, theirs = parsed(f), parsed(t)
    return t if mine is None or (theirs is not None and mine <= theirs) else f


def world(consumption: Any, enrolments: Any, aggregates: Any) -> Site:
    site = Site()
    for (user, course, batch, content), row in consumption.items():
        site.consumed(user, content, course, batch, **row)
    for (user, course, batch), row in enrolments.items():
        site.enrol(user, course, batch, **row)
    for (user, course, batch), row in aggregates.items():
        site.aggregate(user, course, batch, **row)
    return site


def step_on(site: Site) -> MergeUserCourses:
    step = MergeUserCourses(
        job.NAME,
        site.cassandra,
        MergeTables(CONSUMPTION, AGGREGATES, ENROLMENTS),
        size=100,
        date_format="yyyy-MM-dd HH:mm:ss:SSSZ",
        clock=lambda: NOW,
        new_id=lambda: "id",
    )
    step.setup()
    return step


def told(outputs: list[Any]) -> Counter[tuple[str, str, str]]:
    edata = [orjson.loads(output.value)["edata"] for output in outputs if output.tag == "sync"]
    assert len(edata) == len(outputs)
    return Counter((of["userId"], of["courseId"], of["batchId"]) for of in edata)


def found(site: Site) -> dict[str, Any]:
    """The end state in the reference's terms; rows that hold nothing are left out."""
    consumption = {
        (r["userid"], r["courseid"], r["batchid"], r["contentid"]): {n: v for n, v in r.items() if v is not None}
        for r in site.tables.rows(CONSUMPTION)
    }
    keys = ("userid", "courseid", "batchid", "contentid")
    return {
        "consumption": plain({k: {n: v for n, v in r.items() if n not in keys} for k, r in consumption.items()}),
        "enrolments": plain(
            {
                (r["userid"], r["courseid"], r["batchid"]): {n: v for n, v in r.items() if n not in keys}
                for r in site.tables.rows(ENROLMENTS)
            }
        ),
        "aggregates": plain(
            {
                (r["user_id"], r["activity_id"], r["context_id"][3:]): {n: r[n] for n in ("aggregates", "agg_details")}
                for r in site.tables.rows(AGGREGATES)
            }
        ),
    }


def plain(rows: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    without = {key: {n: v for n, v in row.items() if v not in (None, [], {})} for key, row in rows.items()}
    return {key: row for key, row in without.items() if row}


def expected(naive: Naive) -> dict[str, Any]:
    return {
        "consumption": plain(naive.consumption),
        "enrolments": plain(naive.enrolments),
        "aggregates": plain(naive.aggregates),
    }


def without_sums(state: dict[str, Any]) -> dict[str, Any]:
    sums = ("viewcount", "completedcount")
    stripped = {k: {n: v for n, v in row.items() if n not in sums} for k, row in state["consumption"].items()}
    return {**state, "consumption": plain(stripped)}


def batches(merges: list[tuple[str, str]], sizes: list[int]) -> list[list[bytes]]:
    values = [event(*merge) for merge in merges]
    cut, turn = [], 0
    while values:
        size = sizes[turn % len(sizes)]
        cut.append(values[:size])
        values, turn = values[size:], turn + 1
    return cut


@settings(max_examples=300, deadline=None)
@given(consumption_rows, enrolment_rows, aggregate_rows, st.lists(accounts, max_size=8), sizes_of_batches)
def test_any_cut_of_batches(consumption, enrolments, aggregates, merges, sizes):
    site, naive = world(consumption, enrolments, aggregates), Naive(consumption, enrolments, aggregates)
    step = step_on(site)
    events: Counter[Any] = Counter()
    for batch in batches(merges, sizes):
        events += told(step.handle(batch))
    for merge in merges:
        naive.merge(*merge)
    assert found(site) == expected(naive)
    assert events == Counter(naive.synced)


@settings(max_examples=200, deadline=None)
@given(
    repeatable_rows,
    enrolment_rows,
    aggregate_rows,
    st.lists(accounts, min_size=1, max_size=3),
    sizes_of_batches,
    st.integers(1, 12),
)
def test_a_crash_at_any_operation_and_redelivery(consumption, enrolments, aggregates, merges, sizes, at):
    """§8.7: only the sums of views and completions may be added twice, and not before the last kind of write."""
    # one target each, so that what a repetition sees of the others' work does not matter
    merges = list({target: (source, f"to-{target}") for source, target in merges}.values())
    site, naive = world(consumption, enrolments, aggregates), Naive(consumption, enrolments, aggregates)
    step = step_on(site)
    death = Death(at).among(site.tables)
    events: Counter[Any] = Counter()
    repeated = False
    for batch in batches(merges, sizes):
        try:
            events += told(step.handle(batch))
        except Died:
            death.is_over()
            repeated = any(
                operation.name == "write" and operation.subject[0].table == CONSUMPTION
                for operation in site.tables.operations
            )
            events += told(step_on(site).handle(batch))
    for merge in merges:
        naive.merge(*merge)
    assert without_sums(found(site)) == without_sums(expected(naive))
    if not repeated:
        assert found(site) == expected(naive)
    assert events == Counter(naive.synced)


@settings(max_examples=150, deadline=None)
@given(repeatable_rows, enrolment_rows, aggregate_rows, accounts, st.integers(2, 4), sizes_of_batches)
def test_repetition_changes_sums_only(consumption, enrolments, aggregates, merge, times, sizes):
    """§8.7"""
    site, naive = world(consumption, enrolments, aggregates), Naive(consumption, enrolments, aggregates)
    for batch in batches([merge] * times, sizes):
        told(step_on(site).handle(batch))
    naive.merge(*merge)
    assert without_sums(found(site)) == without_sums(expected(naive))


@settings(max_examples=150, deadline=None)
@given(consumption_rows, enrolment_rows, aggregate_rows, st.permutations(USERS[1:]), sizes_of_batches)
def test_any_order_of_merges_into_one_account(consumption, enrolments, aggregates, order, sizes):
    """Whatever does not say which came first (§3.1, §3.3, §8.11) is the same in any order."""

    def after(merges: list[tuple[str, str]]) -> Any:
        site = world(
            {key: {**row, "lastaccesstime": None, "progressdetails": None} for key, row in consumption.items()},
            enrolments,
            aggregates,
        )
        for batch in batches(merges, sizes):
            step_on(site).handle(batch)
        state = found(site)
        totals: Counter[str] = Counter()
        for row in state["consumption"].values():
            totals["views"] += row.get("viewcount", 0)
        counts = {key: row.get("aggregates", {}).get("completedCount") for key, row in state["aggregates"].items()}
        batch_ids = {(user, batch) for user, _, batch in state["enrolments"]}
        return totals, counts, batch_ids

    first = [(source, "u") for source in USERS[1:]]
    # the courses whose aggregates are looked at are those of the source's own enrolments: the same in any order
    assert after([(source, "u") for source in order]) == after(first)


def test_a_dying_store_gives_no_failed_event(site: Site) -> None:
    """§6: the message will come again"""
    site.consumed(FROM, "a", viewcount=1)
    site.enrol(FROM)
    site.tables.fail_next(1)
    with pytest.raises(Exception, match="stays away"):
        site.run(event())
    assert site.written.get(FAILED, []) == []
    site.run(event())
    assert site.content()["viewcount"] == 1


def test_a_refused_write_ends_the_event_s_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.enrol(FROM, status=1)
    site.aggregate(FROM, aggregates={"completedCount": 1})
    site.consumed(FROM, "a", viewcount=1)
    write = site.tables.write

    def refusing(batches: Any) -> Any:
        return [Refused("no") for _ in batches] if batches and batches[0][0].table == AGGREGATES else write(batches)

    monkeypatch.setattr(site.tables, "write", refusing)
    site.run(event())
    assert [site.rows(table, TO) for table in (ENROLMENTS, CONSUMPTION)] == [[], []]
    assert site.events(FAILED)[0]["failInfo"]["error"] == "refused by the store: no"
    assert site.synced() == []
