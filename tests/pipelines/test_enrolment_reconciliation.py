"""The acceptance cases of enrolment-reconciliation §9, what else its spec says, and any cut of batches.

Relation cache of the cases: course C with leaf nodes a, b, c, d; unit U1 {a, b}, unit U2 {c, d}; learner-1 in batch B.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from io_connectors.memory import Crashed, MemoryCollectionStatuses, MemoryRedis
from pipelines import enrolment_reconciliation as job
from pipelines.in_memory import InMemory
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from tests.pipelines import test_progress_like_one_by_one as one_by_one
from tests.pipelines.reference_progress import Reference
from tests.pipelines.test_activity_aggregate_updater import (
    AGGREGATES,
    AUDIT,
    BATCH,
    CERTIFICATE,
    CONSUMPTION,
    COURSE,
    ENROLMENTS,
    USER,
    epoch,
)
from tests.pipelines.test_activity_aggregate_updater import Site as ProgressSite
from tests.pipelines.test_activity_aggregate_updater import event as consumption_event
from transforms.consumption import Consumption, Enrolment, Work
from transforms.decode import Record
from transforms.progress import Rules
from transforms.progress_rows import ProgressTables
from transforms.reconcile_progress import ReconcileProgress, ReconciliationStores
from transforms.stores import Refused, StoreUnavailable, Update

FAILED = "dev.enrolment.reconciliation.failed"
LAST_MONTH = 1_690_000_000_000


def event(user: Any = USER, course: Any = COURSE, batch: Any = BATCH, **edata: Any) -> bytes:
    body = {"action": "user-enrolment-sync", "iteration": 1, "userId": user, "courseId": course, "batchId": batch}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_714_640_000_321, "edata": {**body, **edata}})


class Site(ProgressSite):
    """An installation in memory, with the cases' course, and the job on it."""

    def sync(self, *values: bytes | None, **options: Any) -> Site:
        """Run the job over the values; what it wrote and counted is kept here."""
        settings = job.Settings(**self.settings)
        stores = ReconciliationStores(self.cassandra, MemoryRedis(self.name, 10), MemoryCollectionStatuses(self.name))
        ran = InMemory(job, settings, stores).run(*values, **options)
        self.written, self.counts = ran.written, ran.counted
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def writes(self) -> list[Any]:
        """The batches that were written since the last call."""
        found = [operation.subject for operation in self.tables.operations if operation.name == "write"]
        self.tables.operations.clear()
        return found


@pytest.fixture
def site() -> Site:
    site = Site()
    site.enrol()
    return site


def consumed(site: Site, contents: str, **place: str) -> None:
    for content in contents:
        site.consumed(content, 2, 1, 1, **place)


def test_case_01_completion(site: Site) -> None:
    """§9 case 1"""
    site.relate(leafnodes={"C": "abc", "U2": "c"})
    site.enrol(1)
    consumed(site, "abc")
    before = time.time()
    site.sync(event())
    assert site.done() == {"C": 3.0, "U1": 2.0, "U2": 1.0}
    enrolment = site.enrolment()
    assert enrolment
    assert (enrolment["status"], enrolment["progress"]) == (2, 3)
    assert enrolment["contentstatus"] == {"a": 2, "b": 2, "c": 2}
    assert before - 1 <= epoch(enrolment["completedon"]) <= time.time() + 1
    assert before - 1 <= epoch(enrolment["datetime"]) <= time.time() + 1
    [request] = site.events(CERTIFICATE)
    validator("issue-certificate").validate(request)
    assert request["edata"]["userIds"] == [USER]
    [audit] = site.events(AUDIT)
    validator("audit").validate(audit)
    assert audit["edata"] == {"props": ["status", "completedon"], "type": "enrol-complete"}
    assert site.counts == {
        "total-events-count": 1,
        "db-read-count": 2,
        "db-update-count": 2,
        # leaf nodes and optional nodes of C, ancestors of a, b, c, both of U1 and U2
        "cache-hit-count": 9,
        "cache-miss-count": 3,
        "enrolment-complete-count": 1,
        "cert-issue-events-count": 1,
    }


def test_case_02_partial(site: Site) -> None:
    """§9 case 2"""
    consumed(site, "ab")
    site.sync(event())
    enrolment = site.enrolment()
    assert enrolment
    assert (enrolment["status"], enrolment["progress"], enrolment["completedon"]) == (1, 2, None)
    assert site.events(AUDIT) == site.events(CERTIFICATE) == []


def test_case_03_extra_content(site: Site) -> None:
    """§9 case 3"""
    consumed(site, "ax")
    site.sync(event())
    enrolment = site.enrolment()
    assert enrolment
    assert (enrolment["progress"], enrolment["contentstatus"]) == (1, {"a": 2, "x": 2})


def test_case_04_status_null(site: Site) -> None:
    """§9 case 4"""
    site.consumed("a", None, 1, 1)
    site.consumed("b", 2, None, None)
    site.sync(event())
    enrolment = site.enrolment()
    assert enrolment
    assert (enrolment["progress"], enrolment["contentstatus"]) == (1, {"a": 1, "b": 2})
    assert site.counts_of("b") == (2, None, None), "consumption is not written"


def test_case_05_already_complete(site: Site) -> None:
    """§9 case 5"""
    site.enrol(2, completedon=LAST_MONTH, datetime=LAST_MONTH, progress=4)
    consumed(site, "ab")
    before = site.enrolment()
    site.sync(event())
    assert site.enrolment() == before
    assert site.done() == {"C": 2.0, "U1": 2.0}
    assert site.events(AUDIT) == site.events(CERTIFICATE) == []


def test_case_06_not_enrolled(site: Site) -> None:
    """§9 case 6"""
    consumed(site, "a", user="learner-2")
    site.sync(event(user="learner-2"))
    assert site.enrolment("learner-2") is None
    assert site.done("learner-2") == {"C": 1.0, "U1": 1.0}


def test_case_07_optional(site: Site) -> None:
    """§9 case 7"""
    site.relate(leafnodes={"C": "abc"}, optionalnodes={"C": "c"})
    consumed(site, "ab")
    site.sync(event())
    enrolment = site.enrolment()
    assert enrolment
    assert (enrolment["status"], enrolment["progress"]) == (2, 2)
    assert len(site.events(CERTIFICATE)) == 1


def test_case_08_scores_survive(site: Site) -> None:
    """§9 case 8"""
    key = {"activity_type": "Course", "activity_id": "C", "user_id": USER, "context_id": "cb:B"}
    assert site.tables.write([[Update(AGGREGATES, key, add={"aggregates": {"score:x": 3.0}})]]) == [None]
    consumed(site, "a")
    site.sync(event())
    assert site.aggregates()["C"] == {"score:x": 3.0, "completedCount": 1.0}


def consumed_of(site: Site, course: str, *contents: str) -> None:
    for content in contents:
        where = {"userid": USER, "courseid": course, "batchid": BATCH, "contentid": content}
        site.put(CONSUMPTION, where, {"status": 2, "viewcount": 3, "completedcount": 1})


def test_case_09_retired_course(site: Site) -> None:
    """§9 case 9"""
    site.collections.set_status("X", "Retired")
    site.relate("X", leafnodes={"U": "a"}, ancestors={"a": ["X", "U"]})
    site.enrol(course="X")
    before = site.enrolment(course="X")
    consumed_of(site, "X", "a")
    site.sync(event(course="X"), event(course="X"), batch_size=1)
    expected = {"contentId": "a", "status": 2, "completedCount": 1, "viewCount": 3, "fromInput": False, "eventsFor": []}
    assert site.events(FAILED) == [{"userId": USER, "batchId": BATCH, "courseId": "X", "contents": {"a": expected}}] * 2
    validator("course-without-leaf-nodes").validate(site.events(FAILED)[0])
    assert site.collections.calls == ["X"]
    assert site.counts["retired-consumption-events-count"] == 2
    assert "failed-events-count" not in site.counts
    assert site.enrolment(course="X") == before
    assert site.done() == {"U": 1.0}, "units are counted, the course is not"


@pytest.mark.parametrize("status", ["Live", "Unlisted", None])
def test_case_10_course_without_leaf_nodes_and_a_good_event(site: Site, status: str | None) -> None:
    """§9 case 10"""
    site.collections.set_status("X", status)
    site.relate("X", leafnodes={"U": "a"}, ancestors={"a": ["X", "U"]})
    site.enrol(course="X")
    consumed_of(site, "X", "a")
    consumed(site, "a")
    site.sync(event(course="X"), event())
    assert len(site.events(FAILED)) == site.counts["failed-events-count"] == 1
    assert site.done() == {"C": 1.0, "U1": 1.0}
    enrolment = site.enrolment(course="X")
    assert enrolment
    assert enrolment["progress"] is None
    assert site.enrolment()["progress"] == 1


def test_case_11_bad_input(site: Site) -> None:
    """§9 case 11"""
    consumed(site, "a")
    site.sync(event(action="batch-enrolment-update"), b"nonsense", event(user=""), event(action="USER-Enrolment-Sync"))
    assert site.counts["skipped-events-count"] == 1
    assert site.counts["failed-events-count"] == 2
    assert site.counts["total-events-count"] == 4
    raw, blank = site.events(FAILED)
    for letter in (raw, blank):
        validator("dead-letter").validate(letter)
        assert letter["jobName"] == job.NAME
    assert raw["rawEvent"] == "nonsense"
    assert (blank["edata"]["courseId"], "rawEvent" in blank) == (COURSE, False)
    assert site.enrolment()["progress"] == 1


def test_case_12_nothing_consumed(site: Site) -> None:
    """§9 case 12"""
    before = site.enrolment()
    site.writes()
    site.sync(event())
    assert site.writes() == []
    assert site.enrolment() == before
    assert [site.events(topic) for topic in (AUDIT, CERTIFICATE, FAILED)] == [[], [], []]
    assert site.counts == {"total-events-count": 1, "db-read-count": 1}


def test_case_13_units_off(site: Site) -> None:
    """§9 case 13"""
    site.settings["activity.module.aggs.enabled"] = False
    consumed(site, "a")
    site.sync(event())
    assert site.done() == {"C": 1.0}
    assert site.counts["cache-hit-count"] == 2


# --- §2, §3, §5, §6


@pytest.mark.parametrize("odd", [None, " ", 5, ["x"], {"x": 1}, "x" * 40_000])
@pytest.mark.parametrize("name", ["user", "course", "batch"])
def test_an_id_that_is_none_is_a_dead_letter(site: Site, name: str, odd: Any) -> None:
    site.sync(event(**{name: odd}))
    [letter] = site.events(FAILED)
    assert letter["failInfo"]["error"].startswith("edata.")
    assert site.counts == {"total-events-count": 1, "failed-events-count": 1}


@pytest.mark.parametrize("value", [None, b"", b"[1,2]", b'{"eid":', b"\xff\xfe", b"[" * 3_000])
def test_what_is_no_object_is_a_dead_letter(site: Site, value: bytes | None) -> None:
    """core §15 case 2"""
    consumed(site, "a")
    site.sync(value, event())
    [letter] = site.events(FAILED)
    assert "rawEvent" in letter
    assert site.enrolment()["progress"] == 1


@pytest.mark.parametrize("value", [b"{}", b'{"edata":null}', b'{"edata":"x"}', event(action=None), event(action=7)])
def test_what_has_no_action_is_skipped(site: Site, value: bytes) -> None:
    site.sync(value)
    assert site.counts == {"total-events-count": 1, "skipped-events-count": 1}
    assert site.events(FAILED) == []


def test_statements_go_out_in_groups_the_course_first(site: Site) -> None:
    """§3.4"""
    units = [f"unit-{number}" for number in range(7)]
    site.relate(leafnodes={unit: "a" for unit in units}, ancestors={"a": ["C", *units]})
    site.settings["threshold.batch.write.size"] = 3
    consumed(site, "a")
    site.writes()
    site.sync(event())
    aggregates, enrolment = site.writes()[:3], site.writes()
    assert [len(batch) for batch in aggregates] == [3, 3, 2]
    assert aggregates[0][0].where["activity_id"] == "C"
    assert enrolment == []
    assert site.counts["db-update-count"] == 4


def test_a_unit_without_leaf_nodes_keeps_its_row(site: Site) -> None:
    """§8.5"""
    site.relate(ancestors={"a": ["C", "U1", "gone"]})
    consumed(site, "a")
    site.sync(event())
    assert set(site.done()) == {"C", "U1"}


def test_other_columns_of_the_enrolment_stay(site: Site) -> None:
    """§3.6"""
    columns = {"lastreadcontentid": "a", "completionpercentage": 40, "issued_certificates": [{"name": "x"}]}
    site.enrol(0, contentstatus={"z": 2}, **columns)
    consumed(site, "a")
    site.sync(event())
    enrolment = site.enrolment()
    assert enrolment
    assert {name: enrolment[name] for name in columns} == columns
    assert (enrolment["active"], enrolment["contentstatus"]) == (True, {"a": 2}), "the map is replaced"


def test_with_the_filter_off_a_completed_enrolment_is_completed_again(site: Site) -> None:
    """§3.6, §8.7"""
    site.settings["activity.filter.processed.enrolments"] = False
    site.enrol(2, completedon=LAST_MONTH)
    consumed(site, "abcd")
    consumed(site, "abcd", user="stranger")
    site.sync(event(), event(), event(user="stranger"))
    assert epoch(site.enrolment()["completedon"]) > LAST_MONTH / 1000 + 1
    assert len(site.events(CERTIFICATE)) == len(site.events(AUDIT)) == 2
    assert site.enrolment("stranger") is None


def test_with_the_filter_off_what_is_not_complete_any_more_is_left_as_it_is(site: Site) -> None:
    """§3.6, §8.7"""
    site.settings["activity.filter.processed.enrolments"] = False
    site.enrol(2, completedon=LAST_MONTH, datetime=LAST_MONTH, progress=4)
    before = site.enrolment()
    consumed(site, "a")
    site.sync(event())
    assert site.enrolment() == before
    assert site.done() == {"C": 1.0, "U1": 1.0}
    assert site.events(CERTIFICATE) == []


def test_a_status_is_remembered_for_its_time(site: Site) -> None:
    """§3.5: only what was found is remembered"""
    site.settings["activity.collection.status.cache.expiry"] = 60
    consumed_of(site, "X", "a")
    consumed_of(site, "Y", "a")
    site.collections.set_status("X", "Live")
    moments = iter([0, *range(0, 400_000, 1_000)])
    site.sync(*[event(course=c) for c in "XYXY"], batch_size=1, clock=lambda: next(moments))
    assert Counter(site.collections.calls) == {"X": 1, "Y": 2}
    site.collections.calls.clear()
    site.sync(*[event(course=c) for c in "XYXY"])
    assert Counter(site.collections.calls) == {"X": 1, "Y": 1}, "once for a batch"


def test_many_learners_share_their_round_trips(site: Site) -> None:
    users = [f"learner-{number}" for number in range(50)]
    for user in users:
        site.enrol(user=user)
        consumed(site, "ab", user=user)
    site.tables.operations.clear()
    site.relation_cache.operations.clear()
    site.sync(*[event(user=user) for user in users])
    assert all(site.enrolment(user)["progress"] == 2 for user in users)
    assert sum(operation.name == "select" for operation in site.tables.operations) == 4
    assert len(site.relation_cache.operations) == 5
    assert site.counts["db-read-count"] == 4


def test_a_refused_write_is_a_dead_letter_and_the_others_go_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """§6"""
    consumed(site, "a")
    consumed(site, "a", user="learner-2")
    write = site.tables.write

    def refusing(batches: Any) -> Any:
        results = write(batches)
        mine = [any("learner-2" in update.where.values() for update in batch) for batch in batches]
        return [Refused("no") if refuse else result for refuse, result in zip(mine, results, strict=True)]

    monkeypatch.setattr(site.tables, "write", refusing)
    site.sync(event(user="learner-2"), event())
    [letter] = site.events(FAILED)
    assert (letter["edata"]["userId"], letter["failInfo"]["error"]) == ("learner-2", "refused by the store: no")
    assert site.counts["failed-events-count"] == 1
    assert site.enrolment()["progress"] == 1


def test_a_store_or_service_that_stays_away_fails_the_run_and_nothing_is_written(site: Site) -> None:
    """§6"""
    consumed(site, "a")
    consumed_of(site, "X", "a")
    for away, value in (
        (site.tables, event()),
        (site.relation_cache, event()),
        (site.collections, event(course="X")),
    ):
        away.unavailable = True
        with pytest.raises(Exception, match="stays away"):
            site.sync(event(), value)
        away.unavailable = False
        assert site.done() == {}
    site.sync(event())
    assert site.done() == {"C": 1.0, "U1": 1.0}


@pytest.mark.parametrize("odd", ["o'hara", 'say "x"', "a b", "🦜", "a\x00b", "a\nb", "a|b", "*"])
def test_odd_ids_are_ids(site: Site, odd: str) -> None:
    site.relate(odd, leafnodes={odd: [odd, "z"]}, ancestors={odd: [odd]})
    site.enrol(user=odd, course=odd)
    where = {"userid": odd, "courseid": odd, "batchid": BATCH, "contentid": odd}
    site.put(CONSUMPTION, where, {"status": 2})
    site.sync(event(user=odd, course=odd))
    assert site.enrolment(odd, odd)["progress"] == 1


def test_both_names_of_a_key(site: Site) -> None:
    """§5, core §15 case 6"""
    seed = {"kafka.audit.topic": "a", "kafka.certissue.topic": "c", "lms-cassandra.content_consumption.table": "t"}
    settings = job.Settings(**seed)
    assert (settings.audit_topic, settings.certificate_topic, settings.consumption_table) == ("a", "c", "t")
    both = job.Settings(**seed, **{"kafka.output.audit.topic": "real", "lms-cassandra.consumption.table": "real"})
    assert (both.audit_topic, both.consumption_table) == ("real", "real")


# --- who else writes: the LMS, and activity-aggregate-updater


def test_the_lms_writes_a_status_behind_the_progress_job_and_a_sync_mends_it(site: Site) -> None:
    """§1: the LMS sends its event first; what the progress job missed by it, the sync counts."""
    consumed(site, "abc")
    site.put(
        CONSUMPTION,
        {"userid": USER, "courseid": COURSE, "batchid": BATCH, "contentid": "c"},
        {"status": None},
    )
    site.run(consumption_event("d"))
    assert (site.enrolment()["status"], site.enrolment()["progress"]) == (1, 3), "c's status is still on its way"
    for content in "cd":
        site.consumed(content, 2, 1, 1)
    site.sync(event())
    assert (site.enrolment()["status"], site.enrolment()["progress"]) == (2, 4)
    assert len(site.events(CERTIFICATE)) == 1


def test_both_jobs_complete_the_same_enrolment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.8: both have read status 1; the same row, and a second certificate request."""
    site.enrol(1)
    consumed(site, "abcd")
    select = site.tables.select
    requests: list[Any] = []

    def late(selects: Any) -> Any:
        found = select(selects)
        if selects[0].table == ENROLMENTS and not requests:
            monkeypatch.undo()
            requests.extend(site.run(consumption_event("d")).events(CERTIFICATE))
        return found

    monkeypatch.setattr(site.tables, "select", late)
    outputs = step_of(site).handle(payloads([(USER, COURSE, BATCH)]))
    assert len(requests) == 1
    assert [output.tag for output in outputs] == ["certificate", "audit"]
    enrolment = site.enrolment()
    assert enrolment
    assert (enrolment["status"], enrolment["progress"]) == (2, 4)
    assert enrolment["contentstatus"] == dict.fromkeys("abcd", 2)


def test_a_worker_that_dies_between_completion_and_events_loses_only_the_events(site: Site) -> None:
    """§8.6: the accepted window"""
    consumed(site, "abcd")
    works = payloads([(USER, COURSE, BATCH)])
    assert len(step_of(site).handle(works)) == 2, "lost with the worker"
    assert step_of(site).handle(works) == []
    assert site.enrolment()["status"] == 2


def step_of(site: Site) -> ReconcileProgress:
    """The step itself, on a worker of its own."""
    stores = ReconciliationStores(site.cassandra, MemoryRedis(site.name, 10), MemoryCollectionStatuses(site.name))
    return step_on(stores, Rules(), lambda: 1_700_000_000_000)


# --- any order, repetition and cut of batches


class Again(Reference):
    """The spec's rules, one event after the other: the progress job's, with nothing in the event."""

    def sync(self, user: str, course: str, batch: str) -> None:  # noqa: C901 - one rule after the other
        rows = {key[3]: row for key, row in self.consumption.items() if key[:3] == (user, course, batch)}
        if not rows:
            return
        status = {content: 1 if row.get("status") is None else row["status"] for content, row in rows.items()}
        finished = {content for content, s in status.items() if s == 2}
        leaf = self.leaf.get((course, course), set())
        if not leaf:
            described = {
                content: {
                    "status": status[content],
                    "view": row.get("viewcount") or 0,
                    "completed": row.get("completedcount") or 0,
                    "input": False,
                    "actions": [],
                }
                for content, row in rows.items()
            }
            self.emitted.append(("failed", user, course, batch, described))
            if self.collection_status.get(course) != "Retired":
                return
        if self.units:
            for unit in set().union(*(self.ancestors.get((course, c), set()) for c in rows)) - {course}:
                if self.leaf.get((course, unit)):
                    needed = self.leaf[course, unit] - self.optional.get((course, unit), set())
                    self.aggregates[user, unit, batch] = len(needed & finished)
        if not leaf:
            return
        required = leaf - self.optional.get((course, course), set())
        done = len(required & finished)
        self.aggregates[user, course, batch] = done
        enrolment = self.enrolments.get((user, course, batch))
        if enrolment is None:
            return
        was_completed = enrolment.get("status") == 2
        if was_completed and (self.skip_completed or done < len(required)):
            return
        enrolment |= {"progress": done, "contentstatus": status}
        if done >= len(required):
            enrolment |= {"status": 2, "completedon": True}
            self.emitted += [("certificate", user, course, batch), ("enrol-complete", user, course, batch)]
        else:
            enrolment["status"] = 1


names = st.tuples(st.sampled_from(one_by_one.USERS), st.sampled_from(one_by_one.COURSES), st.just(one_by_one.BATCH))


def world_and_reference(
    consumption: dict[Any, Any], enrolled: dict[Any, Any], rules: Rules
) -> tuple[one_by_one.World, Again]:
    world = one_by_one.World(consumption, enrolled, False, rules)
    reference = Again(
        one_by_one.LEAF,
        one_by_one.OPTIONAL,
        one_by_one.ANCESTORS,
        one_by_one.STATUSES,
        copy.deepcopy(consumption),
        copy.deepcopy(enrolled),
        units=rules.unit_aggregates,
        skip_completed=rules.skip_completed_enrolments,
    )
    return world, reference


def worker(world: one_by_one.World) -> ReconcileProgress:
    stores = ReconciliationStores(world.stores.tables, world.stores.relation_cache, world.stores.collections)
    return step_on(stores, world.rules, world.clock)


def step_on(stores: ReconciliationStores, rules: Rules, clock: Callable[[], int]) -> ReconcileProgress:
    step = ReconcileProgress(
        job.NAME,
        stores,
        ProgressTables(CONSUMPTION, AGGREGATES, ENROLMENTS),
        rules,
        size=100,
        statements_per_batch=2,
        status_expiry=3_600,
        clock=clock,
        new_id=lambda: "id",
    )
    step.setup()
    return step


def payloads(enrolments: list[tuple[str, str, str]]) -> list[bytes]:
    return [
        Work.of(Consumption(Enrolment(*name), ()), Record(event(*name), "topic", 0, offset, 1, lasting=True)).to_bytes()
        for offset, name in enumerate(enrolments)
    ]


@settings(max_examples=300, deadline=None)
@given(
    one_by_one.rows,
    one_by_one.enrolments,
    st.lists(names, max_size=12),
    one_by_one.batch_sizes,
    st.booleans(),
    st.booleans(),
)
def test_any_cut_of_batches(consumption, enrolled, sequence, sizes, units, skip_completed):
    rules = Rules(units, skip_completed)
    world, reference = world_and_reference(consumption, enrolled, rules)
    step = worker(world)
    found = [o for batch in one_by_one.cut(payloads(sequence), sizes) for o in one_by_one.emitted(step.handle(batch))]
    for name in sequence:
        reference.sync(*name)
    assert world.state() == one_by_one.expected_state(reference)
    assert one_by_one.counted(found) == one_by_one.counted(reference.emitted)


@settings(max_examples=150, deadline=None)
@given(
    one_by_one.rows, one_by_one.enrolments, st.lists(names, min_size=1, max_size=6), st.data(), one_by_one.batch_sizes
)
def test_any_order_and_repetition(consumption, enrolled, sequence, data, sizes):
    """Repeated and in any order: the end state and the completions of each once."""
    rules = Rules()
    world, reference = world_and_reference(consumption, enrolled, rules)
    step = worker(world)
    shuffled = data.draw(st.permutations(sequence * 2))
    found = [o for batch in one_by_one.cut(payloads(shuffled), sizes) for o in one_by_one.emitted(step.handle(batch))]
    for name in dict.fromkeys(sequence):
        reference.sync(*name)
    assert world.state() == one_by_one.expected_state(reference)
    completions = [item for item in found if item[0] != "failed"]
    assert one_by_one.counted(completions) == one_by_one.counted([i for i in reference.emitted if i[0] != "failed"])


@settings(max_examples=250, deadline=None)
@given(
    one_by_one.rows,
    one_by_one.enrolments,
    st.lists(names, min_size=1, max_size=8),
    one_by_one.batch_sizes,
    st.integers(1, 25),
    st.booleans(),
)
def test_a_crash_at_any_operation_and_redelivery(consumption, enrolled, sequence, sizes, at, after):
    """The end state is as if nothing had happened; no completion is told twice (§8.6: it may be lost)."""
    rules = Rules()
    world, reference = world_and_reference(consumption, enrolled, rules)
    world.fuse.at, world.fuse.after, world.fuse.operations = at, after, 0
    works = payloads(sequence)
    found: list[tuple[Any, ...]] = []
    handled = 0
    step = worker(world)
    for batch in one_by_one.cut(works, sizes):
        try:
            found += one_by_one.emitted(step.handle(batch))
        except one_by_one.Crash:
            break
        handled += len(batch)
    world.fuse.at = None
    step = worker(world)
    for batch in one_by_one.cut(works[handled:], sizes):
        found += one_by_one.emitted(step.handle(batch))
    for name in sequence:
        reference.sync(*name)
    assert world.state() == one_by_one.expected_state(reference)
    told, should = (
        one_by_one.counted([item for item in of if item[0] != "failed"]) for of in (found, reference.emitted)
    )
    assert not told - should


def test_a_store_that_dies_in_the_middle_of_a_batch_leaves_enrolments_for_the_next_delivery(site: Site) -> None:
    """The enrolments are the last that is written."""
    users = [f"learner-{number}" for number in range(5)]
    for user in users:
        site.enrol(user=user)
        consumed(site, "abcd", user=user)
    step = step_of(site)
    works = payloads([(user, COURSE, BATCH) for user in users])
    site.tables.crash_at(4)
    with pytest.raises(Crashed):
        step.handle(works)
    assert all(site.enrolment(user)["status"] == 0 for user in users)
    assert sum(output.tag == "certificate" for output in step.handle(works)) == 5


def test_search_away_raises_before_anything_is_written(site: Site) -> None:
    consumed_of(site, "X", "a")
    consumed(site, "a")
    site.collections.unavailable = True
    step = step_of(site)
    works = payloads([(USER, "X", BATCH), (USER, COURSE, BATCH)])
    with pytest.raises(StoreUnavailable):
        step.handle(works)
    assert site.done() == {}
