"""The servers as everybody but the jobs sees them: the publish pipeline, the LMS, and who reads the outcome."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import redis
import requests
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session

from deploy.local.demo_certificates import (
    ASSESSMENT,
    GENERATOR,
    MERGE,
    PRE_PROCESSOR,
    RECONCILIATION,
    Certification,
    Registrar,
)
from deploy.local.demo_people import People
from deploy.local.end_state import CertificateReader, Reader, differences
from deploy.local.errors import StackError
from deploy.local.kafka_client import Listener, Sender, waiting_records
from deploy.local.scenario import Course, Platform, Scenario, expected, merge_event, sync_event
from io_connectors.flink import Flink
from io_connectors.flink_counters import counters_of
from schemas import redis_keys

RELATION = "relation-cache-updater"
ACTIVITY = "activity-aggregate-updater"
RELATION_DATABASE = 10
UNITS_DATABASE = 5

BACKLOG_SECONDS = 120
STILL_SECONDS = 5
# so long may records take through two jobs that have nothing else to do
STEP_SECONDS = 60


class OnFlink(NamedTuple):
    """A job of the demo: the topic it reads, its group, where its dead letters go; all without the environment."""

    topic: str
    group: str
    failed: str | None = None


# in the order in which a learner's events pass through them
JOBS: Mapping[str, OnFlink] = {
    RELATION: OnFlink("content.postpublish.request", f"{RELATION}-group"),
    ASSESSMENT: OnFlink("telemetry.assess", f"{ASSESSMENT}-group", "telemetry.assess.failed"),
    ACTIVITY: OnFlink("coursebatch.job.request", f"{ACTIVITY}-group", "activity.agg.failed"),
    MERGE: OnFlink("lms.user.account.merge", "merge-courses-group", "learning.events.failed"),
    RECONCILIATION: OnFlink(
        "batch.enrolment.sync.request", f"{RECONCILIATION}-group", "enrolment.reconciliation.failed"
    ),
    PRE_PROCESSOR: OnFlink("issue.certificate.request", f"{PRE_PROCESSOR}-group", "issue.certificate.failed"),
    GENERATOR: OnFlink("generate.certificate.request", "certificate-generator-group", "generate.certificate.failed"),
}
TELEMETRY = "telemetry.raw"


@dataclass
class Heard:
    """What came out of the jobs since the first event."""

    requests: Counter[str] = field(default_factory=Counter)  # for certificates, by learner
    audits: Counter[str] = field(default_factory=Counter)  # by type
    dead_letters: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # with the job


class Stage:
    """The servers as everybody but the jobs sees them: the publish pipeline, the LMS, and who reads the outcome."""

    def __init__(self, environment: Mapping[str, Any], session: Session) -> None:
        self.environment = environment
        self.flink = Flink(str(environment["flink.master"]))
        self.job_id = ""  # of the group on Flink
        self.heard = Heard()
        self._env = str(environment["job.env"])
        self._brokers = str(environment["kafka.broker-servers"])
        self._session = session
        self._platform = Platform(session, self._env)
        self._registrar = Registrar(session, environment)
        self.reader = Reader(session)
        self._sender = Sender(self._brokers)
        self.certificates: CertificateReader | None = None
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
            connect_timeout=30,
            control_connection_timeout=30,
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
        for name, job in JOBS.items():
            topic, group = f"{self._env}.{job.topic}", f"{self._env}-{job.group}"
            self._waiting[name] = waiting_records(self._brokers, group, topic)

    def wait_for_waiting_records(self, say: Callable[[str], None]) -> None:
        """Wait until the jobs did what was left for them, and count from there."""
        anything = False
        for name, waiting in self._waiting.items():
            # what is left for one job makes work for those after it
            anything = anything or waiting > 0
            if anything:
                say(f"{name} handles {waiting} records that were left for it")
                self._wait_until_done(name)
        self._before = self._counted_so_far()
        requested = JOBS[PRE_PROCESSOR].topic
        failed = [job.failed for job in JOBS.values() if job.failed]
        self._listener = Listener(self._brokers, [f"{self._env}.{topic}" for topic in (TELEMETRY, requested, *failed)])

    def _wait_until_done(self, name: str) -> None:
        """Until the group has committed the end of its topic, and nothing more is counted for a while."""
        last: dict[str, dict[str, int]] = {}
        still_since = time.monotonic()
        job = JOBS[name]

        def done() -> bool:
            nonlocal last, still_since
            now = self._counted_so_far()
            if now != last:
                last, still_since = now, time.monotonic()
            if time.monotonic() - still_since < STILL_SECONDS:
                return False
            return not waiting_records(self._brokers, f"{self._env}-{job.group}", f"{self._env}.{job.topic}")

        wait_until(done, BACKLOG_SECONDS, f"{name} did not handle the records that were left for it")

    def counted(self) -> dict[str, dict[str, int]]:
        """What each job counted since `wait_for_waiting_records`."""
        return {
            name: {counter: number - self._before[name].get(counter, 0) for counter, number in now.items()}
            for name, now in self._counted_so_far().items()
        }

    def _counted_so_far(self) -> dict[str, dict[str, int]]:
        return counters_of(self.flink, self.job_id, tuple(JOBS))

    def troubles(self) -> list[str]:
        """What Flink says about the jobs, when it has something to say."""
        cause = self.flink.root_cause(self.job_id)
        return [f"the jobs, says Flink: {cause}"] if cause else []

    # --- the publish pipeline and the LMS

    def prepare(self, scenario: Scenario, certification: Certification) -> None:
        """Store the trees, enrol the learners, offer the certificates, and let the search service know the courses."""
        for course in scenario.courses:
            self._platform.store_tree(course)
            self._courses.add(course.id)
        self._platform.enrol(scenario.enrolments)
        self._registrar.store(certification)
        self.certificates = CertificateReader(self._session, self.environment, certification)
        stub = self.environment["service.search.basePath"]
        for course_id in (*(course.id for course in scenario.courses), *scenario.without_tree):
            answer = requests.put(f"{stub}/stub/collections/{course_id}", json={"status": "Live"}, timeout=10)
            answer.raise_for_status()

    def people(self, directory: Path, certification: Certification) -> People:
        """Those of the last act."""
        return People.of(self.environment, self._session, directory, certification)

    def publish(self, course: Course) -> None:
        """Say that a course was published."""
        event = course.publish_event(self._env, int(time.time() * 1000))
        self._sender.send(f"{self._env}.{JOBS[RELATION].topic}", None, event)
        self._sender.finish()

    def is_cached(self, course: Course) -> bool:
        """Whether all that the relation cache is to hold of a course is there; the unit metadata come last."""
        host, port = self.environment["redis.host"], self.environment["redis.port"]
        with redis.Redis(host, port, RELATION_DATABASE, socket_timeout=5) as relations:
            leaves = relations.smembers(redis_keys.leafnodes(course.id, course.id))
        with redis.Redis(host, port, UNITS_DATABASE, socket_timeout=5) as units:
            there = units.exists(*course.units)
        return bool(leaves == {content.encode() for content in course.leaf_nodes} and there == len(course.units))

    def answer(self, certification: Certification, say: Callable[[str], None]) -> None:
        """Send all attempts, and the records that stop no job; wait until all that they ask for was looked into."""
        for stray in certification.strays:
            self._sender.send(f"{self._env}.{JOBS[stray.job].topic}", None, stray.value)
        topic = f"{self._env}.{JOBS[ASSESSMENT].topic}"
        now = int(time.time() * 1000)
        made = {attempt: attempt.event(now + place) for place, attempt in enumerate(certification.attempts)}
        events = [*made.values(), *(made[attempt] for attempt in certification.again)]
        for event in events:
            self._sender.send(topic, None, event)
        self._sender.finish()
        requests_and_strays = len(events) + sum(stray.job == PRE_PROCESSOR for stray in certification.strays)
        say(f"{len(events)} attempts sent, waiting for their scores")
        wait_until(
            lambda: self.counted()[PRE_PROCESSOR]["total-events-count"] >= requests_and_strays,
            STEP_SECONDS,
            "the attempts were not all scored",
        )
        say(f"{len(made)} attempts scored, {len(events) - len(made)} of which came twice")

    def send(self, scenario: Scenario, say: Callable[[str], None]) -> None:
        """Send each message and then store what the LMS stores of it, as the LMS does."""
        topic = f"{self._env}.{JOBS[ACTIVITY].topic}"
        for number, message in enumerate(scenario.messages, start=1):
            self._sender.send(topic, message.key, message.value)
            self._platform.store_consumption([message])
            say(f"{number} of {len(scenario.messages)} events sent")
        self._sender.finish()

    def repair(self, scenario: Scenario, say: Callable[[str], None]) -> None:
        """Once all is handled: store what gets lost, merge accounts, and have progress counted again."""
        concerned = {*scenario.synced, *(account for merge in scenario.merges for account in merge)}
        if not concerned:
            return
        before = expected(scenario.without_repairs).end_states

        def all_handled() -> bool:
            stored = self.reader.read(scenario.courses, concerned)
            return not any(differences(enrolment, before[enrolment], stored[enrolment]) for enrolment in concerned)

        say("waiting for the progress of those whose record has to be repaired")
        wait_until(all_handled, STEP_SECONDS, "the events before the repairs were not handled")
        self._platform.store_consumption(scenario.lost)
        now = int(time.time() * 1000)
        for source, target in scenario.merges:
            merge = merge_event(source.user_id, target.user_id, now)
            self._sender.send(f"{self._env}.{JOBS[MERGE].topic}", None, merge)
        self._sender.finish()
        targets = [target for _, target in scenario.merges]
        after = expected(scenario).end_states

        def carried_over() -> bool:
            stored = self.reader.read(scenario.courses, targets)
            return all(stored[target].counted.keys() == after[target].counted for target in targets)

        say("waiting for the record of the old account in the new one")
        wait_until(carried_over, STEP_SECONDS, "the accounts were not merged")
        topic = f"{self._env}.{JOBS[RECONCILIATION].topic}"
        for enrolment in scenario.synced:
            self._sender.send(topic, enrolment.user_id.encode(), sync_event(enrolment, now))
        self._sender.finish()
        say(f"accounts merged: {len(scenario.merges)}; progress to be counted again: {len(scenario.synced)}")

    # --- who reads the outcome

    def listen(self) -> None:
        """Take in what the jobs sent since the last call."""
        if self._listener is None:
            return
        failed = {f"{self._env}.{job.failed}": name for name, job in JOBS.items() if job.failed}
        for topic, value in self._listener.new_records(seconds=0.3):
            event = _object(value)
            if topic in failed:
                self.heard.dead_letters.append((failed[topic], event))
            elif topic.endswith(TELEMETRY):
                if event["object"]["rollup"]["l1"] in self._courses:
                    self.heard.audits[event["edata"]["type"]] += 1
            elif event.get("edata", {}).get("trigger") == "auto-issue":
                self.heard.requests.update(event["edata"]["userIds"])


def _object(value: bytes | None) -> dict[str, Any]:
    """The object that a record holds; strays hold none."""
    try:
        parsed = json.loads(value or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def wait_until(condition: Callable[[], bool], timeout_seconds: float, otherwise: str) -> None:
    """Raises StackError, which begins with ``otherwise``, when the condition does not become true in time."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            raise StackError(f"{otherwise} within {timeout_seconds:.0f} s")
        time.sleep(0.1)
