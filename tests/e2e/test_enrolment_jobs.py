"""The main acceptance cases of enrolment-reconciliation and merge-user-courses §9 on the real servers, through Kafka
and Flink, both jobs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from deploy.local.stack import Stack
from tests.e2e.installation import Installation, RunningJob, Written
from tests.e2e.learner import AGGREGATES, BATCH, CONSUMPTION, ENROLMENTS, Learner, failed

RECONCILIATION, MERGE = "enrolment-reconciliation", "merge-user-courses"
INVALID = "ERR_MERGE_USER_COURSES_SAMZA"


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site"), [RECONCILIATION, MERGE]) as site:
        yield site


@pytest.fixture(scope="module", autouse=True)
def jobs(site: Installation) -> Iterator[dict[str, RunningJob]]:
    """Both jobs, running."""
    with site.running(RECONCILIATION, MERGE) as jobs:
        yield jobs


def handle(site: Installation, job: str, *events: bytes | None) -> list[Written]:
    """Send events, in order, and wait until they are handled; what was written."""
    site.written()
    site.send(site.topics.read_by(job), *events, key=b"one")
    site.handled(job)
    written = site.written()
    assert {record.key for record in written} <= {None}
    return written


# --- enrolment-reconciliation


def sync(learner: Learner, **changed: Any) -> bytes:
    ids = {"userId": learner.user, "courseId": learner.course, "batchId": BATCH}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": {"action": "user-enrolment-sync", **ids, **changed}})


def reconcile(*learners: Learner) -> list[Written]:
    return handle(learners[0].site, RECONCILIATION, *map(sync, learners))


def consumed(learner: Learner, contents: str) -> Learner:
    for content in contents:
        learner.consumed(content)
    return learner


def test_completion_and_the_same_again(site: Installation) -> None:
    """§9 cases 1, 5, 8"""
    learner = consumed(Learner(site), "abcd")
    key = {"activity_type": "Course", "activity_id": learner.course, "user_id": learner.user}
    site.insert(AGGREGATES, **key, context_id=f"cb:{BATCH}", aggregates={"score:x": 3.0})
    written = reconcile(learner)
    assert learner.aggregates() == {
        "C": {"score:x": 3.0, "completedCount": 4.0},
        "U1": {"completedCount": 2.0},
        "U2": {"completedCount": 2.0},
    }
    status, progress, completed_on = learner.progress
    assert (status, progress) == (2, 4)
    assert completed_on
    assert abs((datetime.now(UTC).replace(tzinfo=None) - completed_on).total_seconds()) < 300
    assert learner.enrolment
    assert dict(learner.enrolment["contentstatus"]) == dict.fromkeys("abcd", 2)
    assert len(learner.certificate_requests(written)) == 1
    assert learner.audits(written) == {(learner.user, "enrol-complete"): 1}
    before = learner.enrolment
    written = reconcile(learner)
    assert learner.enrolment == before
    assert written == []


def test_partial_extra_content_null_status_and_optional(site: Installation) -> None:
    """§9 cases 2, 3, 4, 7"""
    partial = consumed(Learner(site), "abx")
    site.insert(CONSUMPTION, userid=partial.user, courseid=partial.course, batchid=BATCH, contentid="c", viewcount=1)
    optional = consumed(Learner(site), "abc")
    optional.relate("optionalnodes", {optional.course: "d"})
    written = reconcile(partial, optional)
    assert partial.progress == (1, 2, None)
    assert partial.enrolment
    assert dict(partial.enrolment["contentstatus"]) == {"a": 2, "b": 2, "x": 2, "c": 1}
    assert not partial.certificate_requests(written)
    assert optional.progress[:2] == (2, 3)
    assert len(optional.certificate_requests(written)) == 1


def test_not_enrolled_and_nothing_consumed(site: Installation) -> None:
    """§9 cases 6, 12"""
    stranger, idle = consumed(Learner(site, enrolled=False), "a"), Learner(site)
    before = idle.enrolment
    assert reconcile(stranger, idle) == []
    assert stranger.enrolment is None
    assert stranger.done() == {"C": 1.0, "U1": 1.0}
    assert idle.enrolment == before
    assert idle.done() == {}


def test_courses_without_leaf_nodes_and_bad_input_stop_nothing(site: Installation, jobs: dict[str, RunningJob]) -> None:
    """§9 cases 9, 10, 11"""
    retired, live = (consumed(Learner(site, cached=False), "a") for _ in range(2))
    site.set_status(retired.course, "Retired")
    site.set_status(live.course, "Live")
    good = consumed(Learner(site), "a")
    failures = jobs[RECONCILIATION].failures
    written = handle(
        site,
        RECONCILIATION,
        sync(retired),
        sync(live),
        b"nonsense",
        None,
        sync(good, userId=""),
        sync(good, action="batch-enrolment-update"),
        sync(retired),
        sync(good),
    )
    letters = failed(site, written, RECONCILIATION)
    assert Counter(letter.get("courseId") for letter in letters) == {retired.course: 2, live.course: 1, None: 3}
    described = {"contentId": "a", "status": 2, "completedCount": 1, "viewCount": 1}
    of_live = next(letter for letter in letters if letter.get("courseId") == live.course)
    assert of_live["contents"] == {"a": {**described, "fromInput": False, "eventsFor": []}}
    assert {letter.get("rawEvent") for letter in letters if "jobName" in letter} == {"nonsense", "", None}
    assert [site.searches(learner.course) for learner in (retired, live)] == [1, 1]
    assert good.progress[:2] == (1, 1)
    assert (retired.done(), live.done()) == ({}, {})
    assert jobs[RECONCILIATION].failures == failures


def test_many_learners_at_once(site: Installation) -> None:
    learners = [consumed(Learner(site), "abcd"[: number % 5]) for number in range(60)]
    written = reconcile(*learners, *learners)
    for number, learner in enumerate(learners):
        done = number % 5
        assert learner.progress[:2] == {0: (0, None), 4: (2, 4)}.get(done, (1, done))
        assert len(learner.certificate_requests(written)) == (done == 4)


# --- merge-user-courses


def merge(source: str, target: str) -> bytes:
    edata = {"action": "merge-user-courses-and-cert", "fromAccountId": source, "toAccountId": target, "iteration": 1}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_714_650_000_777, "ver": "3.0", "edata": edata})


class Account:
    """One of a person's accounts."""

    def __init__(self, site: Installation, name: str) -> None:
        self.site = site
        self.id = site.name(name)

    def consumed(self, content: str, **columns: Any) -> None:
        self.site.insert(CONSUMPTION, userid=self.id, courseid="C", batchid="B1", contentid=content, **columns)

    def enrol(self, batch: str = "B1", **columns: Any) -> None:
        self.site.insert(ENROLMENTS, userid=self.id, courseid="C", batchid=batch, **columns)

    def aggregate(self, batch: str = "B1", **columns: Any) -> None:
        key = {"activity_type": "Course", "activity_id": "C", "user_id": self.id, "context_id": f"cb:{batch}"}
        self.site.insert(AGGREGATES, **key, **columns)

    @property
    def consumption(self) -> dict[str, dict[str, Any]]:
        return {row["contentid"]: row for row in self._rows(CONSUMPTION)}

    @property
    def enrolments(self) -> dict[str, dict[str, Any]]:
        return {row["batchid"]: row for row in self._rows(ENROLMENTS)}

    @property
    def aggregates(self) -> dict[str, dict[str, Any]]:
        key = {"activity_type": "Course", "activity_id": "C", "user_id": self.id}
        return {row["context_id"]: _plain(row) for row in self.site.rows(AGGREGATES, **key)}

    def _rows(self, table: str) -> list[dict[str, Any]]:
        return [_plain(row) for row in self.site.rows(table, userid=self.id)]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Without the owner; the driver's maps as dictionaries."""
    owners = ("userid", "user_id")
    return {name: _value(value) for name, value in row.items() if name not in owners}


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(item) for item in value]
    return dict(value) if hasattr(value, "items") else value


def synced(site: Installation, written: list[Written], account: Account) -> list[str]:
    """The batches of the account's sync events, sorted: without a key they have no order."""
    topic = f"{site.environment}.coursebatch.job.request"
    events = [record.event["edata"] for record in written if record.topic == topic]
    return sorted(edata["batchId"] for edata in events if edata["userId"] == account.id)


@pytest.fixture
def accounts(site: Installation, request: pytest.FixtureRequest) -> tuple[Account, Account]:
    return Account(site, f"from-{request.node.name}"), Account(site, f"to-{request.node.name}")


def moment(day: int) -> datetime:
    return datetime(2024, 5, day, 9, 30, 15, 42_000)


def test_everything_is_carried_over(site: Installation, accounts: tuple[Account, Account]) -> None:
    """§9 cases 1, 9, 10, 11: values of every type of the three tables"""
    source, target = accounts
    source.consumed(
        "a",
        completedcount=1,
        completionpercentage=87.3,
        datetime=moment(1),
        last_access_time=moment(2),
        lastaccesstime="2024-05-02 09:30:15:042+0000",
        progress=100,
        progressdetails='{"mimeType": "video/mp4 ä"}',
        status=2,
        viewcount=4,
    )
    source.enrol(
        active=True,
        addedby="x",
        certificates=[{"name": "old"}],
        certstatus=1,
        completedon=moment(4),
        completionpercentage=100,
        contentstatus={"a": 2, "b": 1},
        enrolleddate="2024-05-01 09:30:15:042+0000",
        issued_certificates=[{"name": "Course Completion", "identifier": "1-x"}, {"name": "Merit"}],
        status=2,
    )
    source.enrol("B2", active=False)
    source.aggregate(
        "B9",
        aggregates={"completedCount": 3.0, "score:x": 4.5, "max_score:x": 5.0},
        agg_last_updated={"score:x": moment(2)},
        agg={"completedCount": 3},
        agg_details=['{"attempt": 1}'],
    )
    before = (source.consumption, source.enrolments, source.aggregates)
    written = handle(site, MERGE, merge(source.id, target.id))
    assert (target.consumption, target.enrolments) == before[:2]
    copied, original = target.aggregates["cb:B9"], before[2]["cb:B9"]
    assert copied.pop("agg_last_updated").keys() == {"completedCount", "score:x", "max_score:x"}
    del original["agg_last_updated"]
    assert copied == original
    assert (source.consumption, source.enrolments) == before[:2]
    assert synced(site, written, target) == ["B1", "B2"]


def test_what_both_have_is_merged(site: Installation, accounts: tuple[Account, Account]) -> None:
    """§9 cases 2, 3, 4, 5"""
    source, target = accounts
    texts = {"lastaccesstime": "2024-05-02 10:00:00:000+0000", "lastcompletedtime": "not a date"}
    mine = {"status": 2, "progress": 100, "viewcount": 4, "completedcount": 1, "last_access_time": moment(3)}
    source.consumed("a", **mine, **texts)
    late = "2024-05-02 14:00:00:000+0530"
    theirs = {"status": 1, "progress": 40, "viewcount": 2, "last_access_time": moment(5), "progressdetails": "mine"}
    target.consumed("a", **theirs, lastaccesstime=late, lastcompletedtime=late)
    source.enrol(status=2)
    target.enrol(status=1, progress=3)
    source.aggregate(aggregates={"completedCount": 3.0, "score:x": 4.0, "max_score:x": 5.0}, agg_details=["1", "2"])
    kept = {"score:y": 1.0, "max_score:y": 2.0}
    target.aggregate(
        aggregates={"completedCount": 6.0, "score:x": 2.0, "max_score:x": 5.0, **kept}, agg_details=["2", "3"]
    )
    before = target.enrolments
    written = handle(site, MERGE, merge(source.id, target.id))
    row = target.consumption["a"]
    expected = {**theirs, "status": 2, "progress": 100, "viewcount": 6, "completedcount": 1}
    expected |= {"lastaccesstime": texts["lastaccesstime"], "lastcompletedtime": late}
    assert {name: row[name] for name in expected} == expected
    assert target.enrolments == before
    assert synced(site, written, target) == ["B1"]
    aggregates = target.aggregates["cb:B1"]
    assert aggregates["aggregates"] == {"completedCount": 6.0, "score:x": 4.0, "max_score:x": 5.0, **kept}
    assert aggregates["agg_details"] == ["2", "3", "1"]


def test_invalid_events_and_a_chain_of_merges(
    site: Installation, accounts: tuple[Account, Account], jobs: dict[str, RunningJob]
) -> None:
    """§9 cases 7, 8"""
    source, target = accounts
    source.enrol(status=1)
    for number in range(300):
        source.consumed(f"content-{number:03}", status=2, viewcount=1, progressdetails="x" * 500)
    failures = jobs[MERGE].failures
    nobody = site.name("nobody")
    invalid = [merge(target.id, target.id), merge("", target.id), b'{"eid":"BE_JOB_REQUEST"}']
    written = handle(site, MERGE, *invalid, b"{{", merge(nobody, site.name("nobody-else")), merge(source.id, target.id))
    letters = [record.event for record in written if record.topic == site.topics.failed_of(MERGE)]
    errors = [(letter["jobName"], letter["failInfo"]["errorCode"]) for letter in letters]
    assert errors == [("MergeUserCourses", "DATA_ERROR")] * 4
    assert sorted(letter["failInfo"]["error"] == INVALID for letter in letters) == [False, True, True, True]
    assert [letter["rawEvent"] for letter in letters if "rawEvent" in letter] == ["{{"]
    assert target.consumption == source.consumption
    assert len(target.consumption) == 300
    assert synced(site, written, target) == ["B1"]
    assert jobs[MERGE].failures == failures
