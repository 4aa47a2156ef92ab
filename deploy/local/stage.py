"""The servers as everybody but the jobs sees them: the publish pipeline, the LMS, and who reads the outcome."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
import requests
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session

from deploy.local import flink_jobs
from deploy.local.end_state import Reader
from deploy.local.errors import StackError
from deploy.local.flink_counters import counters
from deploy.local.kafka_client import Listener, Sender, waiting_records
from deploy.local.scenario import Course, Platform, Scenario
from schemas import redis_keys

RELATION = "relation-cache-updater"
ACTIVITY = "activity-aggregate-updater"
RELATION_DATABASE = 10
UNITS_DATABASE = 5

BACKLOG_SECONDS = 120


@dataclass
class Heard:
    """What came out of the jobs since the first event."""

    certificates: Counter[str] = field(default_factory=Counter)  # by learner
    audits: Counter[str] = field(default_factory=Counter)  # by type
    dead_letters: list[dict[str, Any]] = field(default_factory=list)


class Stage:
    """The servers as everybody but the jobs sees them: the publish pipeline, the LMS, and who reads the outcome."""

    def __init__(self, environment: Mapping[str, Any], session: Session) -> None:
        self.environment = environment
        self.flink = str(environment["flink.master"])
        self.job_ids: dict[str, str] = {}
        self.heard = Heard()
        self._env = str(environment["job.env"])
        self._brokers = str(environment["kafka.broker-servers"])
        self._platform = Platform(session, self._env)
        self.reader = Reader(session)
        self._sender = Sender(self._brokers)
        self._listener: Listener | None = None
        self._courses: set[str] = set()
        self._waiting: dict[str, int] = {}
        self._before: dict[str, dict[str, int]] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, environment: Mapping[str, Any]) -> Iterator[Stage]:
        """Connect to Cassandra and Kafka; closed at the end."""
        cluster = Cluster(
            [environment["lms-cassandra.host"]],
            port=environment["lms-cassandra.port"],
            protocol_version=5,
            execution_profiles={EXEC_PROFILE_DEFAULT: ExecutionProfile(request_timeout=30)},
        )
        try:
            stage = cls(environment, cluster.connect())
            try:
                yield stage
            finally:
                if stage._listener:
                    stage._listener.close()
        finally:
            cluster.shutdown()

    # --- where the jobs stand

    def note_waiting_records(self) -> None:
        """What earlier runs left for the jobs to do is not this run's; call while no job runs."""
        for name, topic in ((RELATION, "content.postpublish.request"), (ACTIVITY, "coursebatch.job.request")):
            self._waiting[name] = waiting_records(self._brokers, f"{self._env}-{name}-group", f"{self._env}.{topic}")

    def wait_for_waiting_records(self, say: Callable[[str], None]) -> None:
        """Wait until the jobs did what was left for them, and count from there."""
        for name, waiting in self._waiting.items():
            if waiting:
                say(f"{name} handles {waiting} records that were left for it")
                self._wait_until_counted(name, waiting)
            self._before[name] = counters(self.flink, self.job_ids[name], name)
        self._listener = Listener(
            self._brokers,
            [f"{self._env}.{topic}" for topic in ("telemetry.raw", "issue.certificate.request", "activity.agg.failed")],
        )

    def _wait_until_counted(self, name: str, records: int) -> None:
        """Until as many records were counted, and nothing more is counted for a while."""
        last: dict[str, int] = {}
        still_since = time.monotonic()

        def done() -> bool:
            nonlocal last, still_since
            now = counters(self.flink, self.job_ids[name], name)
            if now != last:
                last, still_since = now, time.monotonic()
            return now["total-events-count"] >= records and time.monotonic() - still_since > 5

        wait_until(done, BACKLOG_SECONDS, f"{name} did not handle the {records} records that were left for it")

    def counted(self, name: str) -> dict[str, int]:
        """What a job counted since `wait_for_waiting_records`."""
        before = self._before[name]
        return {
            counter: number - before.get(counter, 0)
            for counter, number in counters(self.flink, self.job_ids[name], name).items()
        }

    def troubles(self) -> list[str]:
        """What Flink says about the jobs, when it has something to say."""
        causes = {name: flink_jobs.root_cause(self.flink, job_id) for name, job_id in self.job_ids.items()}
        return [f"{name}, says Flink: {cause}" for name, cause in causes.items() if cause]

    # --- the publish pipeline and the LMS

    def prepare(self, scenario: Scenario) -> None:
        """Store the trees, enrol the learners, and let the search service know the courses."""
        for course in scenario.courses:
            self._platform.store_tree(course)
            self._courses.add(course.id)
        self._platform.enrol(scenario.enrolments)
        stub = self.environment["service.search.basePath"]
        for course_id in (*(course.id for course in scenario.courses), *scenario.without_tree):
            answer = requests.put(f"{stub}/stub/collections/{course_id}", json={"status": "Live"}, timeout=10)
            answer.raise_for_status()

    def publish(self, course: Course) -> None:
        """Say that a course was published."""
        event = course.publish_event(self._env, int(time.time() * 1000))
        self._sender.send(f"{self._env}.content.postpublish.request", None, event)
        self._sender.finish()

    def is_cached(self, course: Course) -> bool:
        """Whether all that the relation cache is to hold of a course is there; the unit metadata come last."""
        host, port = self.environment["redis.host"], self.environment["redis.port"]
        with redis.Redis(host, port, RELATION_DATABASE, socket_timeout=5) as relations:
            leaves = relations.smembers(redis_keys.leafnodes(course.id, course.id))
        with redis.Redis(host, port, UNITS_DATABASE, socket_timeout=5) as units:
            there = units.exists(*course.units)
        return bool(leaves == {content.encode() for content in course.leaf_nodes} and there == len(course.units))

    def send(self, scenario: Scenario, say: Callable[[str], None]) -> None:
        """Send each message and then store what the LMS stores of it, as the LMS does."""
        topic = f"{self._env}.coursebatch.job.request"
        for number, message in enumerate(scenario.messages, start=1):
            self._sender.send(topic, message.key, message.value)
            self._platform.store_consumption([message])
            say(f"{number} of {len(scenario.messages)} events sent")
        self._sender.finish()

    # --- who reads the outcome

    def listen(self) -> None:
        """Take in what the jobs sent since the last call."""
        if self._listener is None:
            return
        for topic, value in self._listener.new_records(seconds=0.3):
            event = json.loads(value or b"{}")
            if topic.endswith("issue.certificate.request"):
                self.heard.certificates.update(event["edata"]["userIds"])
            elif topic.endswith("activity.agg.failed"):
                self.heard.dead_letters.append(event)
            elif event["object"]["rollup"]["l1"] in self._courses:
                self.heard.audits[event["edata"]["type"]] += 1


def wait_until(condition: Callable[[], bool], timeout_seconds: float, otherwise: str) -> None:
    """Raises StackError, which begins with ``otherwise``, when the condition does not become true in time."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            raise StackError(f"{otherwise} within {timeout_seconds:.0f} s")
        time.sleep(0.1)
