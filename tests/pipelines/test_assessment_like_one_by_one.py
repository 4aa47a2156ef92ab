"""Any attempts, any batches, any order, any redelivery: the same end state and events as one by one.

A plain reference handles the same events one after the other. Crashes are injected at any store operation, before or
after it took effect; everything since the last whole batch is delivered again, cut differently.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from unittest import mock

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from io_connectors.memory import MemoryCassandra, MemoryRedis
from io_connectors.memory_http import MemoryHttp
from io_connectors.services import ContentReadApi
from io_connectors.threads import Threads
from schemas import redis_keys
from tests.pipelines.test_progress_like_one_by_one import Crash, Fuse, Fused, cut
from transforms import assessment_scores
from transforms.assessment_scores import AssessmentStores, AssessmentTables, ScoreAssessments
from transforms.counters import counted_in_this_process, forget_counts

JOB = "assessment-aggregator"
ATTEMPTS, AGGREGATES = "sunbird_courses.assessment_aggregator", "sunbird_courses.user_activity_agg"
COURSES = {"C": {"a", "b"}, "D": {"a"}, "unknown": set()}
# of a: as Redis says, of b: as the service says; the service refuses d
REDIS_TOTALS, SERVICE_TOTALS = {"a": 2}, {"b": 2}
CALLS = ("api-hit-success-count", "api-hit-failed-count")

numbers = count()


def event(user: str, course: str, content: str, attempt: str, time: int, answers: list[tuple[str, int, int]]) -> Any:
    found = {"userId": user, "courseId": course, "batchId": "B", "contentId": content}
    if answers:
        found |= {"attemptId": attempt, "assessmentTs": time}
        found["events"] = [
            {"ets": ets, "edata": {"item": {"id": question, "maxscore": 2}, "score": score}}
            for question, ets, score in answers
        ]
    return found


answers = st.lists(st.tuples(st.sampled_from("pqr"), st.integers(1, 3), st.integers(0, 2)), max_size=4)
events = st.builds(
    event,
    st.sampled_from(["learner-1", "learner-2"]),
    st.sampled_from(sorted(COURSES)),
    st.sampled_from("aabbd"),
    st.sampled_from(["x", "y"]),
    st.integers(1, 4),
    answers,
)
batch_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=6)


@dataclass
class Reference:
    """The spec, one event after the other."""

    limit: bool
    attempts: dict[tuple[str, ...], tuple[int, float, float, list[Any]]] = field(default_factory=dict)
    aggregates: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    details: dict[tuple[str, str], list[tuple[str, ...]]] = field(default_factory=dict)
    emitted: list[tuple[Any, ...]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def handle(self, given: dict[str, Any]) -> None:
        user, course, content = given["userId"], given["courseId"], given["contentId"]
        leaves = COURSES[course]
        self.counts["cache-hit-count" if leaves else "cache-hit-miss-count"] += 1
        if leaves and content not in leaves:
            self.counts["failed-event-count"] += 1
            self.emitted.append(("failed", None, given))
            return
        if "events" not in given:
            self.counts["recompute-agg-event-count"] += 1
            self._aggregate(user, course)
            return
        questions: dict[str, tuple[int, int]] = {}
        for answer in given["events"]:
            question, ets = answer["edata"]["item"]["id"], answer["ets"]
            if question not in questions or ets > questions[question][0]:
                questions[question] = (ets, answer["edata"]["score"])
        if self.limit and not self._is_within_the_limit(given, content, len(questions)):
            return
        place, time = (user, course, content, given["attemptId"]), given["assessmentTs"]
        stored = self.attempts.get(place)
        if stored:
            self.counts["db-read-count"] += 1
        if stored and time <= stored[0]:
            self.counts["skipped-event-count"] += 1
            if time < stored[0]:
                return
        else:
            score, most = sum(score for _, score in questions.values()), 2 * len(questions)
            self.attempts[place] = (time, score, most, sorted((q, *found) for q, found in questions.items()))
            self.counts["batch-success-event-count"] += 1
            self.counts["db-update-count"] += 1
        self._aggregate(user, course)

    def _is_within_the_limit(self, given: dict[str, Any], content: str, asked: int) -> bool:
        self.counts["cache-hit-count"] += 1
        total = REDIS_TOTALS.get(content)
        if total is None:
            self.counts["cache-hit-miss-count"] += 1
            total = SERVICE_TOTALS.get(content)
        if total is None:
            self.counts["failed-event-count"] += 1
            self.emitted.append(("failed", "no metadata", given))
            return False
        if asked > total:
            self.counts["ignored-event-count"] += 1
            self.emitted.append(("failed", None, given))
            return False
        return True

    def _aggregate(self, user: str, course: str) -> None:
        rows = sorted((place[2:], row) for place, row in self.attempts.items() if place[:2] == (user, course))
        self.counts["db-score-read-count"] += 1
        if rows:
            self.counts["db-score-update-count"] += 1
            self.details[user, course] = [place for place, _ in rows]
        for content in {content for (content, _), _ in rows}:
            tried = [row for (of, _), row in rows if of == content]
            best = next(row for row in tried if row[1] == max(row[1] for row in tried))
            self.aggregates.setdefault((user, course), {}).update(
                {
                    f"score:{content}": best[1],
                    f"max_score:{content}": best[2],
                    f"attempts_count:{content}": len(tried),
                }
            )
        latest = ""
        if len({content for (content, _), _ in rows}) == 1:
            latest = next(place[1] for place, row in rows if row[0] == max(row[0] for _, row in rows))
        self.counts["cert-issue-events-count"] += 1
        self.emitted.append(("certificate", user, course, latest))

    @property
    def state(self) -> Any:
        return self.attempts, self.aggregates, self.details


class World:
    """The stores, filled, and a step on them."""

    def __init__(self, limit: bool) -> None:
        name = f"assessments-{next(numbers)}"
        self.fuse = Fuse()
        self.tables = MemoryCassandra(name).open()
        relations, contents = MemoryRedis(name, 10).open(), MemoryRedis(name, 5).open()
        relations.replace_sets({redis_keys.leafnodes(c, c): members for c, members in COURSES.items() if members})
        contents.set({c: orjson.dumps({"total_questions": total}).decode() for c, total in REDIS_TOTALS.items()})
        http = MemoryHttp(name)
        http.serve(lambda method, path, *_: (200, self._answer(path.rpartition("/")[2])))
        self.stores = AssessmentStores(
            Fused(self.tables, self.fuse),
            Fused(relations, self.fuse),
            Fused(contents, self.fuse) if limit else None,
            ContentReadApi("http://services/read", http),
            Threads("assessments", 2),
        )
        self.now = 1_700_000_000_000

    @staticmethod
    def _answer(content: str) -> bytes:
        if content not in SERVICE_TOTALS:
            return orjson.dumps({"responseCode": "RESOURCE_NOT_FOUND"})
        return orjson.dumps({"responseCode": "OK", "result": {"content": {"totalQuestions": SERVICE_TOTALS[content]}}})

    def clock(self) -> int:
        self.now += 1
        return self.now

    def worker(self) -> ScoreAssessments:
        step = ScoreAssessments(
            JOB,
            self.stores,
            AssessmentTables(ATTEMPTS, AGGREGATES),
            detail_type="attempt_metrics",
            size=100,
            remembered_seconds=60,
            clock=self.clock,
            new_id=lambda: "id",
        )
        step.setup()
        return step

    @property
    def state(self) -> Any:
        attempts = {
            (r["user_id"], r["course_id"], r["content_id"], r["attempt_id"]): (
                _millis(r["last_attempted_on"]),
                r["total_score"],
                r["total_max_score"],
                sorted((q["id"], _millis(q["assess_ts"]), q["score"]) for q in r["question"]),
            )
            for r in self.tables.rows(ATTEMPTS)
        }
        rows = {(r["user_id"], r["activity_id"]): r for r in self.tables.rows(AGGREGATES)}
        aggregates = {owner: row["aggregates"] for owner, row in rows.items()}
        assert all(row["aggregates"].keys() == row["agg_last_updated"].keys() for row in rows.values())
        details = {
            owner: [(d["content_id"], d["attempt_id"]) for d in map(orjson.loads, row["agg_details"])]
            for owner, row in rows.items()
        }
        return attempts, aggregates, details


def _millis(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


def emitted(outputs: list[Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for output in outputs:
        if output.tag == "failed":
            value = orjson.loads(output.value[1])
            reason = "no metadata" if value.pop("metadata", None) else None
            value.pop("flags", None)
            found.append(("failed", reason, value))
        else:
            edata = orjson.loads(output.value)["edata"]
            found.append(("certificate", edata["userIds"][0], edata["courseId"], edata["attemptId"]))
    return found


def counted(found: list[tuple[Any, ...]]) -> Counter[str]:
    return Counter(orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode() for item in found)


def reference_of(sequence: list[dict[str, Any]], limit: bool) -> Reference:
    reference = Reference(limit)
    for one in sequence:
        reference.handle(copy.deepcopy(one))
    return reference


@settings(max_examples=500, deadline=None)
@given(st.lists(events, max_size=14), batch_sizes, st.sampled_from([1, 500, 4_000_000]), st.booleans())
def test_any_cut_of_batches(sequence: list[Any], sizes: list[int], bytes_at_once: int, limit: bool) -> None:
    world = World(limit)
    worker = world.worker()
    forget_counts(JOB)
    with mock.patch.object(assessment_scores, "BYTES_AT_ONCE", bytes_at_once):
        outputs = [worker.handle(batch) for batch in cut([orjson.dumps(one) for one in sequence], sizes)]
    reference = reference_of(sequence, limit)
    assert world.state == reference.state
    # also in the same order
    assert emitted([output for batch in outputs for output in batch]) == reference.emitted
    found = {name: times for name, times in counted_in_this_process(JOB).items() if name not in CALLS}
    assert found == {name: times for name, times in reference.counts.items() if times}


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=10), st.data(), batch_sizes, st.booleans())
def test_any_order_and_repetition(sequence: list[Any], data: st.DataObject, sizes: list[int], limit: bool) -> None:
    """§3.5: but for different answers of one attempt at the same time, of which the first counts."""
    at_one_time: dict[tuple[Any, ...], Any] = {}
    for one in sequence:
        place = tuple(one.get(name) for name in ("userId", "courseId", "contentId", "attemptId", "assessmentTs"))
        one.update({name: value for name, value in at_one_time.setdefault(place, one).items() if name == "events"})
    again = data.draw(st.lists(st.sampled_from(sequence), max_size=5)) if sequence else []
    shuffled = data.draw(st.permutations(sequence + again))
    world = World(limit)
    worker = world.worker()
    for batch in cut([orjson.dumps(one) for one in shuffled], sizes):
        worker.handle(batch)
    assert world.state == reference_of(sequence, limit).state


@settings(max_examples=500, deadline=None)
@given(st.lists(events, min_size=1, max_size=10), batch_sizes, batch_sizes, st.integers(1, 30), st.booleans())
def test_a_crash_at_any_operation_and_redelivery(
    sequence: list[Any], sizes: list[int], sizes_again: list[int], at: int, after: bool
) -> None:
    world = World(limit=True)
    world.fuse.at, world.fuse.after = at, after
    payloads = [orjson.dumps(one) for one in sequence]
    committed: list[tuple[Any, ...]] = []
    handled = 0
    worker = world.worker()
    for batch in cut(payloads, sizes):
        try:
            found = emitted(worker.handle(batch))
        except Crash:
            break
        committed += found
        handled += len(batch)
    world.fuse.at = None
    worker = world.worker()
    for batch in cut(payloads[handled:], sizes_again):
        committed += emitted(worker.handle(batch))
    reference = reference_of(sequence, limit=True)
    assert world.state == reference.state
    failed = [item for item in reference.emitted if item[0] == "failed"]
    assert counted([item for item in committed if item[0] == "failed"]) == counted(failed)
    # an attempt that a later one of its own overtook before the crash asks for nothing any more; the later one does
    for owner in {item[1:3] for item in reference.emitted if item[0] == "certificate"}:
        last = [item for item in reference.emitted if item[0] == "certificate" and item[1:3] == owner][-1]
        assert [item for item in committed if item[0] == "certificate" and item[1:3] == owner][-1] == last
