"""The main acceptance cases of both jobs (their specs' §9) on the real servers, through Kafka and Flink."""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import requests

from deploy.local.monitoring import metric_name
from deploy.local.scenario import COLLECTION_TYPE
from deploy.local.stack import Stack
from tests.e2e.installation import PROGRESS, RELATIONS, Installation, RunningJob, eventually
from tests.e2e.learner import Learner, failed

Tree = dict[str, Any]

pytestmark = pytest.mark.usefixtures("jobs")


# --- relation-cache-updater


def publish_event(root: str, **changed: Any) -> bytes:
    edata = {"action": "post-publish-process", "mimeType": COLLECTION_TYPE, "identifier": root}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_719_000_000_456, "edata": {**edata, **changed}})


def publish(site: Installation, root: str, tree: Tree | str) -> None:
    """Store a tree, say that it was published, and wait until the job has handled it."""
    text = tree if isinstance(tree, str) else orjson.dumps(tree).decode()
    site.insert(f"{site.hierarchies}.content_hierarchy", identifier=root, hierarchy=text)
    site.send(site.topics.published, publish_event(root))
    site.handled(RELATIONS)


def leaf(name: str, optional: bool = False) -> Tree:
    marks = {"relationalMetadata": {"optional": True}} if optional else {}
    return {"identifier": name, "mimeType": "video/mp4", **marks}


def unit(name: str, *children: Tree, **more: Any) -> Tree:
    return {"identifier": name, "mimeType": COLLECTION_TYPE, "visibility": "Parent", "children": [*children], **more}


def course(root: str, *children: Tree) -> Tree:
    return {**unit(root, *children), "visibility": "Default"}


def cached(site: Installation, root: str) -> dict[str, set[str]]:
    keys = sorted(site.relation_cache.scan_iter(f"{root}:*"))
    return {key.removeprefix(f"{root}:"): set(site.relation_cache.smembers(key)) for key in keys}


def test_relation_cache_case_1_publish_and_case_3_publish_again_without_the_optional_mark(site: Installation) -> None:
    root, m, u1, u2 = (site.name(name) for name in ("R", "M", "U1", "U2"))
    site.relation_cache.sadd(f"{root}2:x:leafnodes", "x")
    tree = course(root, unit(m, unit(u1, leaf("a"), leaf("b")), unit(u2, leaf("b"), leaf("c", True))), leaf("d"))
    publish(site, root, tree)
    assert cached(site, root) == {
        f"{root}:leafnodes": {"a", "b", "c", "d"},
        f"{m}:leafnodes": {"a", "b", "c"},
        f"{u1}:leafnodes": {"a", "b"},
        f"{u2}:leafnodes": {"b", "c"},
        f"{root}:optionalnodes": {"c"},
        f"{m}:optionalnodes": {"c"},
        f"{u2}:optionalnodes": {"c"},
        "a:ancestors": {u1, m, root},
        "b:ancestors": {u1, u2, m, root},
        "c:ancestors": {u2, m, root},
        "d:ancestors": {root},
    }
    assert [site.relation_cache.ttl(f"{root}:a:ancestors"), site.units.ttl(u1)] == [-1, -1]
    assert {name: orjson.loads(site.units.get(name) or "") for name in (m, u1, u2)} == {
        m: tree["children"][0],
        u1: tree["children"][0]["children"][0],
        u2: tree["children"][0]["children"][1],
    }
    assert site.units.get(root) is None

    publish(site, root, course(root, unit(m, unit(u2, leaf("b"), leaf("c"))), leaf("d")))
    assert cached(site, root) == {
        f"{root}:leafnodes": {"b", "c", "d"},
        f"{m}:leafnodes": {"b", "c"},
        f"{u2}:leafnodes": {"b", "c"},
        "b:ancestors": {u2, m, root},
        "c:ancestors": {u2, m, root},
        "d:ancestors": {root},
    }
    assert cached(site, f"{root}2") == {"x:leafnodes": {"x"}}, "another root's keys stay"
    assert site.units.exists(u1), "the units map is not cleaned"


def test_relation_cache_case_10_a_broken_tree_then_a_good_one(site: Installation, jobs: dict[str, RunningJob]) -> None:
    broken, good = site.name("broken"), site.name("good")
    publish(site, broken, '{"identifier": "broken", "children": [')
    publish(site, good, course(good, leaf("a")))
    assert cached(site, broken) == {}
    assert cached(site, good) == {f"{good}:leafnodes": {"a"}, "a:ancestors": {good}}
    assert_undisturbed(jobs)


# --- activity-aggregate-updater


def test_case_01_partial(site: Installation) -> None:
    learner = Learner(site)
    learner.consumed("a")
    site.written()
    learner.reports("b")
    assert learner.counts("b") == (None, 1, 1)
    assert learner.done() == {"C": 2.0, "U1": 2.0}
    assert learner.progress == (1, 2, None)
    assert learner.enrolment
    assert learner.enrolment["contentstatus"] == {"a": 2, "b": 2}
    assert 0 < (learner.checksum_lives("b") or 0) <= 604_800
    written = site.written()
    assert learner.audits(written) == {("b", "start"): 1, ("b", "complete"): 1}
    assert not learner.certificate_requests(written)
    assert {record.key for record in written} == {None}


def test_case_02_completion(site: Installation) -> None:
    learner = Learner(site)
    for content in "abc":
        learner.consumed(content)
    site.written()
    before = datetime.now(UTC).replace(tzinfo=None)
    learner.reports("d")
    status, progress, completed_on = learner.progress
    assert (status, progress) == (2, 4)
    assert completed_on is not None
    assert before - timedelta(seconds=1) < completed_on < before + timedelta(seconds=60)
    written = site.written()
    assert learner.audits(written) == {("d", "start"): 1, ("d", "complete"): 1, (learner.user, "enrol-complete"): 1}
    [request] = learner.certificate_requests(written)
    assert request["object"] == {"id": f"B_{learner.course}", "type": "CourseCertificateGeneration"}
    assert {record.key for record in written} == {None}


def test_case_03_all_in_one_event_before_the_lms_wrote(site: Installation) -> None:
    learner = Learner(site)
    site.written()
    learner.reports("a", "b", "c", "d")
    assert learner.progress[:2] == (2, 4)
    assert learner.done() == {"C": 4.0, "U1": 2.0, "U2": 2.0}
    written = site.written()
    kinds = Counter(kind for _, kind in learner.audits(written).elements())
    assert kinds == {"start": 4, "complete": 4, "enrol-complete": 1}
    assert len(learner.certificate_requests(written)) == 1


def test_case_06_redelivery_back_to_back(site: Installation) -> None:
    learner = Learner(site)
    site.written()
    event = learner.event("b")
    site.consume(*[event] * 5, user=learner.user)
    site.consume(event, user=learner.user)
    assert learner.counts("b") == (None, 1, 1)
    assert learner.audits(site.written()) == {("b", "start"): 1, ("b", "complete"): 1}


def test_case_08_completed_enrolment(site: Installation) -> None:
    learner = Learner(site)
    last_month = datetime(2024, 5, 1, 12)
    learner.enrol(2, progress=4, completedon=last_month, datetime=last_month)
    before = learner.enrolment
    site.written()
    learner.reports("extra")
    assert learner.counts("extra") == (None, 1, 1)
    assert learner.done() == {"C": 0.0}
    assert learner.enrolment == before
    assert learner.checksum_lives("extra")
    written = site.written()
    assert learner.audits(written) == {("extra", "start"): 1, ("extra", "complete"): 1}
    assert not learner.certificate_requests(written)


def test_case_09_not_enrolled(site: Installation) -> None:
    learner = Learner(site, enrolled=False)
    learner.reports("a")
    assert learner.enrolment is None
    assert learner.counts("a") == (None, 1, 1)
    assert learner.done() == {"C": 1.0, "U1": 1.0}


def test_case_10_optional_node(site: Installation) -> None:
    learner = Learner(site)
    learner.relate("optionalnodes", {learner.course: "d", "U2": "d"})
    learner.consumed("a")
    learner.consumed("b")
    site.written()
    learner.reports("c")
    assert learner.progress[:2] == (2, 3)
    assert learner.done() == {"C": 3.0, "U1": 2.0, "U2": 1.0}
    assert len(learner.certificate_requests(site.written())) == 1


def test_case_12_scores_survive(site: Installation) -> None:
    learner = Learner(site)
    scores = {"score:x": 4.0, "max_score:x": 5.0}
    site.insert(
        "sunbird_courses.user_activity_agg",
        activity_type="Course",
        activity_id=learner.course,
        user_id=learner.user,
        context_id="cb:B",
        aggregates=scores,
    )
    learner.reports("a")
    assert learner.aggregates("C") == {"C": {**scores, "completedCount": 1.0}}


def test_case_13_no_leaf_nodes_live_then_an_event_of_another_course(
    site: Installation, jobs: dict[str, RunningJob]
) -> None:
    learner, other = Learner(site, cached=False), Learner(site)
    site.set_status(learner.course, "Live")
    site.written()
    site.consume(learner.event("a"), other.event("a"))
    written = site.written()
    [letter] = failed(site, written)
    assert letter == {
        "userId": learner.user,
        "batchId": "B",
        "courseId": learner.course,
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
    assert learner.counts("a") is None
    assert learner.done() == {}
    assert learner.progress == (0, None, None)
    assert learner.checksum_lives("a") is None
    assert not learner.audits(written)
    assert other.counts("a") == (None, 1, 1)
    assert other.progress == (1, 1, None)
    assert_undisturbed(jobs)


def test_case_14_no_leaf_nodes_retired(site: Installation) -> None:
    learner = Learner(site, cached=False)
    site.set_status(learner.course, "Retired")
    before = learner.enrolment
    site.written()
    learner.reports("a")
    learner.reports("b")
    written = site.written()
    assert [letter["courseId"] for letter in failed(site, written)] == [learner.course] * 2
    assert site.searches(learner.course) == 1
    assert learner.counts("a") == learner.counts("b") == (None, 1, 1)
    assert learner.audits(written) == {(content, kind): 1 for content in "ab" for kind in ("start", "complete")}
    assert learner.enrolment == before
    assert learner.checksum_lives("a") is None


def test_case_15_bad_input(site: Installation) -> None:
    learner = Learner(site)
    site.written()
    site.consume(
        b"not json",
        learner.event("a", userId=None),
        learner.event("a", action="batch-enrolment-sync"),
        learner.event(("a", 1)),
        learner.event("a"),
    )
    letters = sorted(failed(site, site.written()), key=lambda letter: "rawEvent" not in letter)
    assert [(letter["jobName"], bool(letter["failInfo"]["error"])) for letter in letters] == [(PROGRESS, True)] * 2
    assert letters[0]["rawEvent"] == "not json"
    assert letters[1]["edata"] == orjson.loads(learner.event("a", userId=None))["edata"]
    assert learner.counts("a") == (None, 1, 1)


POISON = {
    "not JSON": b'{"eid": "BE_JOB_REQUEST", ',
    "empty": b"",
    "a tombstone": None,
    "not UTF-8": b'{"eid": "\xff\xfe"}',
    "a list": b"[1, 2]",
    "2 MB that are no JSON": b"x" * 2_000_000,
    "200,000 levels": b'{"edata":' * 200_000,
    "2,000 levels": b'{"edata":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
}


def test_poison_followed_by_good_events_and_nothing_restarts(site: Installation, jobs: dict[str, RunningJob]) -> None:
    learner = Learner(site)
    site.written()
    large = orjson.dumps({**orjson.loads(learner.event("b")), "padding": "x" * 2_000_000})
    site.consume(*POISON.values(), learner.event("a"), large, learner.event("c"), learner.event("d"))
    letters = failed(site, site.written())
    assert Counter(letter["rawEvent"] for letter in letters) == Counter(
        (value or b"").decode("utf-8", "replace") for value in POISON.values()
    )
    assert all(letter["failInfo"]["error"] for letter in letters)
    assert [learner.counts(content) for content in "abcd"] == [(None, 1, 1)] * 4
    assert_undisturbed(jobs)

    root = site.name("after-poison")
    site.send(site.topics.published, *POISON.values(), b'{"edata": {"action": 5}}')
    publish(site, root, course(root, leaf("a")))
    assert cached(site, root) == {f"{root}:leafnodes": {"a"}, "a:ancestors": {root}}
    assert_undisturbed(jobs)


def test_both_jobs_ran_through_without_a_restart_and_committed_all(
    site: Installation, jobs: dict[str, RunningJob]
) -> None:
    site.send(site.topics.consumption, *[b"not json"] * 10)
    site.handled(PROGRESS)
    site.handled(RELATIONS)
    assert (site.waiting(PROGRESS), site.waiting(RELATIONS)) == (0, 0)
    assert_undisturbed(jobs)
    for job in jobs.values():
        eventually(lambda job=job: job.restarts is not None)
        assert job.restarts == 0


BEHIND = r"flink_taskmanager_job_task_operator_source_splits_\d+_backlog_elements"


def test_prometheus_finds_what_the_documents_name(
    site: Installation, jobs: dict[str, RunningJob], flink_stack: Stack
) -> None:
    """docs/operations/monitoring.md: counters of both jobs, what is behind, restarts, uptime, checkpoints."""
    counter = "total-events-count"
    site.send(site.topics.consumption, b"not json")
    site.send(site.topics.published, b"not json")
    for job in jobs:
        site.handled(job)
    [flink] = [status for status in flink_stack.status() if status.service == "flink"]

    def scraped(process: str) -> str:
        answer = requests.get(f"http://127.0.0.1:{flink.ports[f'flink-metrics-{process}']}/metrics", timeout=10)
        answer.raise_for_status()
        return answer.text

    def value(metric: str, label: str) -> float:
        lines = re.findall(rf'^{metric}{{[^}}]*job_name="{label}".* (\S+)$', scraped("taskmanager"), re.MULTILINE)
        return sum(map(float, lines)) if lines else math.nan

    labels = {job: job.replace("-", "_") for job in jobs}
    for job, label in labels.items():
        eventually(lambda job=job, label=label: value(metric_name(job, counter), label) > 0)
        eventually(lambda label=label: 0 <= value(BEHIND, label) < math.inf)
    said = scraped("jobmanager")
    for metric in ("numRestarts", "uptime", "numberOfCompletedCheckpoints", "numberOfFailedCheckpoints"):
        line = rf'flink_jobmanager_job_{metric}{{[^}}]*job_name="%s"'
        assert [label for label in labels.values() if not re.search(line % label, said)] == [], metric


def assert_undisturbed(jobs: dict[str, RunningJob]) -> None:
    """Both jobs run, and nothing failed since they were submitted."""
    assert {name: (job.state, job.failures) for name, job in jobs.items()} == dict.fromkeys(jobs, ("RUNNING", []))
