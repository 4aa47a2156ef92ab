"""A Sunbird installation on the local stack, with an environment of its own: its LMS, its topics, its jobs on Flink.

Everything is named after the environment, so that installations on one stack do not meet. The LMS is played by the
test; what the jobs left is read from the servers.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import redis
import requests
import yaml
from cassandra import DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import ConstantReconnectionPolicy
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, NewTopic, OffsetSpec
from pydantic.fields import FieldInfo

from deploy.local.flink_jobs import submitted
from deploy.local.stack import Stack
from io_connectors.flink import Flink
from io_connectors.kafka import once_the_group_is_found
from pipelines import jobs
from pipelines.settings import keys

PROGRESS = "activity-aggregate-updater"
RELATIONS = "relation-cache-updater"
CHECKER = "collection-cert-pre-processor"
GENERATOR = "collection-certificate-generator"
MIGRATOR = "legacy-certificate-migrator"

RELATION_CACHE_DATABASE = 10
UNITS_DATABASE = 5
DEDUP_DATABASE = 13

PARTITIONS = 2

# the machine may be slow, and busy with something else
SECONDS = 60
HANDLED_SECONDS = 240

# whose topics an installation has when it is not told which jobs it runs
LEARNING_JOBS = (PROGRESS, RELATIONS, CHECKER, GENERATOR, MIGRATOR)


Place = tuple[str, int]  # topic, partition


class Topics:
    """The topics of some jobs in an environment, as the jobs' settings name them.

    ``more`` are names, without the environment, of topics that a job writes to when it is told so.
    """

    def __init__(self, environment: str, jobs: Sequence[str], more: Sequence[str] = ()) -> None:
        self._environment = environment
        self._more = [f"{environment}.{name}" for name in more]
        self.reads = {job: self._named(job, "kafka.input.topic") for job in jobs}
        self.writes = {
            job: [
                self._named(job, key)
                for key, field in self._keys(job).items()
                if re.fullmatch(r"kafka\..*topic", key) and key != "kafka.input.topic" and field.default
            ]
            for job in jobs
        }

    @property
    def written(self) -> list[str]:
        """Those that a job writes."""
        return sorted({*self._more, *(topic for topics in self.writes.values() for topic in topics)})

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.reads.values(), *self.written}))

    def read_by(self, job: str) -> str:
        """The topic that a job reads."""
        return self.reads[job]

    def failed_of(self, job: str) -> str:
        """Where a job's dead letters go."""
        return next(topic for topic in self.writes[job] if topic.endswith(".failed"))

    def group_of(self, job: str) -> str:
        return self._named(job, "kafka.groupId")

    consumption = property(lambda self: self.read_by(PROGRESS))
    published = property(lambda self: self.read_by(RELATIONS))
    audit = property(lambda self: f"{self._environment}.telemetry.raw")
    certificates = property(lambda self: f"{self._environment}.issue.certificate.request")
    generate = property(lambda self: f"{self._environment}.generate.certificate.request")

    def _named(self, job: str, key: str) -> str:
        return str(self._keys(job)[key].default).replace("{env}", self._environment)

    @staticmethod
    def _keys(job: str) -> dict[str, FieldInfo]:
        return keys(jobs.load(job).Settings)


class Written(NamedTuple):
    """A record that a job wrote; ``timestamp`` is Kafka's, in epoch ms."""

    topic: str
    key: bytes | None
    value: bytes
    timestamp: int

    @property
    def event(self) -> dict[str, Any]:
        parsed: dict[str, Any] = orjson.loads(self.value)
        return parsed


@dataclass(frozen=True)
class RunningJob:
    """A job on Flink."""

    flink: Flink
    name: str
    id: str

    @property
    def state(self) -> str:
        """In Flink's words: RUNNING, RESTARTING, CANCELED …"""
        return str(self._get("")["state"])

    @property
    def failures(self) -> list[str]:
        """What failed since it was submitted, so that Flink had to restart it; the last 16, newest first."""
        history = self._get("/exceptions")["exceptionHistory"]["entries"]
        return [entry["exceptionName"] for entry in history]

    @property
    def restarts(self) -> int | None:
        """How often Flink has restarted it, as its metric says: up to 10 s old, None while there is none yet."""
        return next((int(metric["value"]) for metric in self._get("/metrics?get=numRestarts")), None)

    @property
    def all_tasks_run(self) -> bool:
        return self.flink.details(self.id).runs

    def cancel(self) -> None:
        self.flink.cancel(self.id)

    def _get(self, path: str) -> Any:
        return self.flink.get(f"jobs/{self.id}{path}")


class Installation:
    """Opened by ``Installation.on``. ``settings`` are what its jobs are configured with."""

    def __init__(self, stack: Stack, environment: str, directory: Path, closing: ExitStack, topics: Topics) -> None:
        found = stack.environment()
        self.stack = stack
        self.environment = environment
        self.stack_environment = str(found["job.env"])
        self.hierarchies = f"{self.stack_environment}_hierarchy_store"
        self.topics = topics
        self.settings: dict[str, Any] = {
            **found,
            "job.env": environment,
            "kafka.auto.offset.reset": "earliest",
            "task.checkpointing.interval": 1_000,
        }
        self.flink = Flink(str(found.get("flink.master", "")))
        self._directory = directory
        self._brokers = str(found["kafka.broker-servers"])
        self._search = str(found["service.search.basePath"])
        self.session = closing.enter_context(_cassandra(found))
        self.relation_cache = self._redis(closing, found, RELATION_CACHE_DATABASE)
        self.units = self._redis(closing, found, UNITS_DATABASE)
        self.dedup = self._redis(closing, found, DEDUP_DATABASE)
        # for all questions: one of a reader's waits until the broker has answered a fetch that finds nothing
        self._admin = AdminClient({"bootstrap.servers": self._brokers})
        closing.enter_context(_topics(self._admin, self.topics))
        self._producer = Producer(
            {
                "bootstrap.servers": self._brokers,
                "linger.ms": 5,
                "message.max.bytes": 5_000_000,
                "enable.idempotence": True,
            }
        )
        self._reader = Consumer({"bootstrap.servers": self._brokers, "group.id": f"{environment}-test"})
        closing.callback(self._reader.close)
        self._read: dict[Place, int] = {}  # up to which offset

    @classmethod
    @contextmanager
    def on(
        cls, stack: Stack, directory: Path, jobs: Sequence[str] = LEARNING_JOBS, more_topics: Sequence[str] = ()
    ) -> Iterator[Installation]:
        """A new installation on a stack, with the topics of these jobs, which are deleted in the end."""
        environment = f"e{uuid.uuid4().hex[:8]}"
        with ExitStack() as closing:
            yield cls(stack, environment, directory, closing, Topics(environment, jobs, more_topics))

    def name(self, what: str) -> str:
        """An id that no other installation has."""
        return f"{what}-{self.environment}"

    # --- its jobs

    def configuration(self, job: str, **more: Any) -> Path:
        """The configuration file of a job; ``more`` are settings with ``__`` for a dot."""
        settings = dict(self.settings)
        if job == RELATIONS:
            settings["lms-cassandra.keyspace"] = self.hierarchies
        settings.update({key.replace("__", "."): value for key, value in more.items()})
        path = self._directory / f"{job}-{uuid.uuid4().hex[:6]}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def command(self, *arguments: str | Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `sunbird-pipelines` with these arguments to its end."""
        return sunbird_pipelines(*arguments, seconds=seconds)

    @contextmanager
    def submitted(self, job: str, *beam_options: str, **more: Any) -> Iterator[Callable[[], RunningJob]]:
        """Submit a job; the function given waits until it runs. Cancelled in the end."""
        options = ["--config", str(self.configuration(job, **more))]
        if beam_options:
            options += ["--", *beam_options]
        with self._on_flink(job, options) as wait:
            yield wait

    @contextmanager
    def running(
        self, *jobs: str, settings: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Iterator[dict[str, RunningJob]]:
        """Several jobs, running; cancelled in the end. They are one on Flink, which is submitted in half the time.

        ``settings`` are more of some jobs, with ``__`` for a dot.
        """
        name = self.name("jobs")
        files = {job: [str(self.configuration(job, **(settings or {}).get(job, {})))] for job in jobs}
        group = self._directory / f"{name}.yaml"
        group.write_text(yaml.safe_dump({"group": name, "jobs": files}, sort_keys=False))
        with self._on_flink(name, [], group) as wait:
            yield dict.fromkeys(jobs, wait())

    @contextmanager
    def _on_flink(
        self, name: str, options: Sequence[str], group: Path | None = None
    ) -> Iterator[Callable[[], RunningJob]]:
        known = {found.id for found in self.flink.jobs(name)}
        log = self._directory / f"{name}-{len(known)}.log"
        try:
            with submitted(self.flink, name, options, log, group=group) as wait:
                yield lambda: RunningJob(self.flink, name, wait())
        finally:
            # also one that never ran
            for found in self.flink.living(name):
                if found.id not in known:
                    self.flink.cancel(found.id)

    def handled(self, job: str, seconds: float = HANDLED_SECONDS) -> None:
        """Wait until the job's group has committed the end of its topic: all is handled, and its output is written."""
        topic = self.topics.read_by(job)
        eventually(lambda: self.waiting(job) == 0, seconds, lambda: f"{self.waiting(job)} records of {topic} wait")

    def waiting(self, job: str) -> int:
        """The records of the job's topic that lie behind the committed offsets of its group."""
        return sum(end - committed for committed, end in self._offsets(job))

    def committed(self, job: str) -> int:
        """The records of the job's topic that lie before the committed offsets of its group."""
        return sum(committed for committed, _ in self._offsets(job))

    @once_the_group_is_found
    def _offsets(self, job: str) -> list[tuple[int, int]]:
        """(committed, end) of each partition of the job's topic."""
        places = _places([self.topics.read_by(job)])
        asked = ConsumerGroupTopicPartitions(self.topics.group_of(job), [TopicPartition(*place) for place in places])
        [answer] = self._admin.list_consumer_group_offsets([asked], request_timeout=SECONDS).values()
        committed = answer.result(SECONDS).topic_partitions
        ends = self._ends(places)
        return [(max(place.offset, 0), ends[place.topic, place.partition]) for place in committed]

    # --- what it sends and what its jobs sent

    def send(self, topic: str, *values: bytes | None, key: bytes | None = None) -> None:
        """Send values, in this order, and wait until the broker has them."""
        for value in values:
            self._producer.produce(topic, value, key, on_delivery=_must_be_delivered)
            self._producer.poll(0)
        assert self._producer.flush(SECONDS) == 0

    def consume(self, *events: bytes | None, user: str = "anybody") -> None:
        """Send consumption events, all to the same partition, and wait until the progress job has handled them."""
        self.send(self.topics.consumption, *events, key=user.encode())
        self.handled(PROGRESS)

    def written(self) -> list[Written]:
        """What the jobs wrote since this was asked last; the records of a topic's partitions have no common order."""
        ends = self._ends(_places(self.topics.written))
        if not self._read:
            self._read = dict.fromkeys(ends, 0)
            self._reader.assign([TopicPartition(*place, 0) for place in self._read])
        found = []
        while any(self._read[place] < end for place, end in ends.items()):
            for message in self._reader.consume(num_messages=1_000, timeout=0.1):
                if message.error():
                    raise KafkaException(message.error())
                self._read[message.topic(), message.partition()] = message.offset() + 1
                found.append(Written(message.topic(), message.key(), message.value(), message.timestamp()[1]))
        return found

    def records_written(self) -> int:
        """How many records there are on the topics that the jobs write."""
        return sum(self._ends(_places(self.topics.written)).values())

    # --- its services

    def stub(self, what: str, value: Any = None, *, method: str = "PUT") -> Any:
        """Tell the stand-ins of the services something, or (GET) ask them: see deploy.local.stub_behaviour."""
        body = {} if method == "GET" else {"json": value}
        answer = requests.request(method, f"{self._search}/stub/{what}", timeout=SECONDS, **body)
        answer.raise_for_status()
        return answer.json() if method == "GET" else None

    def set_status(self, course: str, status: str) -> None:
        """Let the search service know a course."""
        answer = requests.put(f"{self._search}/stub/collections/{course}", json={"status": status}, timeout=SECONDS)
        answer.raise_for_status()

    def searches(self, course: str) -> int:
        """How often the search service was asked for a course."""
        calls = requests.get(f"{self._search}/stub/calls?path=/v3/search", timeout=SECONDS).json()
        return sum(call["body"]["request"]["filters"]["identifier"] == course for call in calls)

    # --- its tables

    def cassandra_answers(self) -> bool:
        try:
            self.session.execute("SELECT release_version FROM system.local")
        except (DriverException, NoHostAvailable):
            return False
        return True

    def insert(self, table: str, **columns: Any) -> None:
        names = ", ".join(columns)
        places = ", ".join(["%s"] * len(columns))
        self.session.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(columns.values()))  # noqa: S608

    def rows(self, table: str, **key: str) -> list[dict[str, Any]]:
        where = " AND ".join(f"{name} = %s" for name in key)
        found = self.session.execute(f"SELECT * FROM {table} WHERE {where}", list(key.values()))  # noqa: S608
        return [row._asdict() for row in found]

    def row(self, table: str, **key: str) -> dict[str, Any] | None:
        return next(iter(self.rows(table, **key)), None)

    def _ends(self, places: Iterable[Place]) -> dict[Place, int]:
        return {place: end.result(SECONDS).offset for place, end in _ends(self._admin, places).items()}

    @staticmethod
    def _redis(closing: ExitStack, found: Mapping[str, Any], database: int) -> redis.Redis:
        return closing.enter_context(
            redis.Redis(
                found["redis.host"], found["redis.port"], database, socket_timeout=SECONDS, decode_responses=True
            )
        )


def sunbird_pipelines(*arguments: str | Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command with these arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.command_line", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def from_file(job: str, configuration: Path, directory: Path, *values: bytes) -> tuple[dict[str, int], str]:
    """Run a job over these values to its end, without Kafka and Flink: what it counted, and what it said.

    What it wrote is in ``directory / "out"``.
    """
    events, metrics = directory / "events.jsonl", directory / "metrics.json"
    events.write_bytes(b"".join(value + b"\n" for value in values))
    files = ("--input", events, "--output", directory / "out", "--metrics", metrics)
    done = sunbird_pipelines("run", job, "--config", configuration, *files)
    assert done.returncode == 0, done.stderr
    counted: dict[str, int] = orjson.loads(metrics.read_bytes())
    return counted, done.stdout + done.stderr


def eventually(
    condition: Callable[[], bool], seconds: float = HANDLED_SECONDS, otherwise: Callable[[], object] = lambda: "late"
) -> float:
    """Wait until the condition holds; the seconds that it took. Fails, saying ``otherwise``, when it does not."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"after {seconds:.0f} s: {otherwise()}"
        time.sleep(0.1)
    return time.monotonic() - begun


def _places(topics: Iterable[str]) -> list[Place]:
    return [(topic, partition) for topic in topics for partition in range(PARTITIONS)]


def _ends(admin: AdminClient, places: Iterable[Place]) -> dict[Place, Future[ListOffsetsResultInfo]]:
    wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    answers = admin.list_offsets(wanted, request_timeout=SECONDS)
    return {(asked.topic, asked.partition): answer for asked, answer in answers.items()}


def _must_be_delivered(error: object, _: object) -> None:
    if error is not None:
        raise AssertionError(f"the broker did not take a record: {error}")


@contextmanager
def _cassandra(found: Mapping[str, Any]) -> Iterator[Session]:
    profile = ExecutionProfile(request_timeout=SECONDS)
    cluster = Cluster(
        [found["lms-cassandra.host"]],
        port=found["lms-cassandra.port"],
        protocol_version=5,
        connect_timeout=SECONDS,
        control_connection_timeout=SECONDS,
        # the server may be one that a test stops and starts
        reconnection_policy=ConstantReconnectionPolicy(0.5, max_attempts=None),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


@contextmanager
def _topics(admin: AdminClient, topics: Topics) -> Iterator[None]:
    wanted = [NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1) for topic in topics]
    for created in admin.create_topics(wanted, operation_timeout=SECONDS).values():
        created.result(SECONDS)
    # it has no leader at once
    eventually(lambda: not any(end.exception(SECONDS) for end in _ends(admin, _places(topics)).values()))
    try:
        yield
    finally:
        for deleted in admin.delete_topics(list(topics), operation_timeout=SECONDS).values():
            deleted.result(SECONDS)
