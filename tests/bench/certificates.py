"""How many certificates a second go through both certificate jobs, with services that take their time to answer."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil
import requests
from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.progress import Progress
from deploy.local.stack import Stack
from pipelines.clock import any_character, new_uuid
from schemas.cassandra import create_statements
from tests.bench.job import submitted
from tests.bench.kafka import publish
from tests.bench.processes import Sampler
from tests.bench.stores import Compared
from transforms.certificate.access_code import access_code
from transforms.certificate.badge import Certificate, badge, stored_document
from transforms.certificate.qr_code import qr_code_image
from transforms.certificate.request import CertificateRequest
from transforms.certificate.svg import SvgTemplate, print_uri

__all__ = ["CALLS_AT_ONCE", "CertificatesMeasured", "CertificatesPlan", "measure_certificates"]

CHECKER, GENERATOR = "collection-cert-pre-processor", "collection-certificate-generator"
COURSE, BATCH = "do_2140555", "0140555"
NAME = "Course Completion Certificate"
SERVICES = ("kafka", "cassandra", "redis", "flink", "stubs")
TEMPLATES = Path(__file__).parents[2] / "deploy/local/templates"
SECONDS = 60
# Nothing more comes when nothing came for so long.
STALLED_SECONDS = 60
CALLS_AT_ONCE = 64


@dataclass(frozen=True)
class CertificatesPlan:
    """So many learners, each with one certificate to come, after ``warm_up`` of them; ``answer_ms`` of each service."""

    learners: int = 1_500
    warm_up: int = 200
    answer_ms: int = 50


@dataclass(frozen=True)
class CertificatesMeasured:
    """What was found. ``seconds`` from the first event's timestamp to that of the last certificate's AUDIT event.

    ``drawing_ms``: CPU milliseconds for document, QR code and picture of one certificate of our own.
    """

    plan: CertificatesPlan
    seconds: float
    cpu: dict[str, float]
    most_calls_at_once: int
    memory: dict[str, float]
    drawing_ms: float
    correct: dict[str, Compared] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.plan.learners / self.seconds

    @property
    def is_right(self) -> bool:
        all_right = all(compared.wrong == 0 for compared in self.correct.values())
        return all_right and self.most_calls_at_once <= 2 * CALLS_AT_ONCE


def measure_certificates(plan: CertificatesPlan, stack: Stack, progress: Progress) -> CertificatesMeasured:
    """Run both jobs on Flink, with one worker each, and let them issue with Sunbird RC's stand-in.

    Raises StackError when the stack can not be had, NotRunning when a job does not come up.
    """
    stack.up(SERVICES)
    found = stack.environment()
    run = f"certificates{int(time.time())}"
    with ExitStack() as ending, tempfile.TemporaryDirectory() as directory:
        session = ending.enter_context(_keyspace(found, run))
        stubs = ending.enter_context(_stubs(str(found["service.search.basePath"]), plan))
        topics = ending.enter_context(_topics(found["kafka.broker-servers"], run))
        settings = {**found, "job.env": run, "lms-cassandra.keyspace": run, "kafka.auto.offset.reset": "earliest"}
        # learners of both jobs wait side by side
        settings["task.calls.at.once"] = CALLS_AT_ONCE
        _prepare(session, stubs, run, plan)
        progress("certificates", "submitting both jobs")
        sampler = Sampler(_processes(stack, time.time()))
        ending.callback(sampler.close)
        for job in (CHECKER, GENERATOR):
            place = Path(directory) / job
            place.mkdir()
            ending.enter_context(submitted(job, settings, 1, place))
        reader = _Audits(found["kafka.broker-servers"], topics.audit)
        ending.callback(reader.close)
        progress("certificates", f"warming up with {plan.warm_up} learners")
        publish(found["kafka.broker-servers"], topics.requests, list(_events(0, plan.warm_up)))
        reader.wait_for(plan.warm_up)
        stubs.forget_calls()
        progress("certificates", f"{plan.learners} learners, services answer in {plan.answer_ms} ms")
        events = list(_events(plan.warm_up, plan.warm_up + plan.learners))
        began = min(publish(found["kafka.broker-servers"], topics.requests, events)) / 1000
        ended = reader.wait_for(plan.warm_up + plan.learners) / 1000
        # what is told to learners comes after their certificates
        stubs.wait_until_told(plan.warm_up + plan.learners)
        series = dict(sampler.series)
        measured = CertificatesMeasured(
            plan,
            ended - began,
            {name: of_process.cpu_between(began, ended) for name, of_process in series.items()},
            stubs.most_at_once(),
            {name: of_process.peak_megabytes for name, of_process in series.items()},
            drawing_milliseconds(),
            _judge(session, stubs, run, plan, reader),
        )
        progress("certificates", "done", done=True)
    return measured


def drawing_milliseconds(certificates: int = 200) -> float:
    """CPU milliseconds that one certificate without Sunbird RC costs: its document, QR code and picture."""
    template = SvgTemplate.of((TEMPLATES / "classic.svg").read_text(encoding="utf-8"))
    edata = {
        "userId": "learner-1",
        "data": [{"recipientName": "Learner One"}],
        "name": NAME,
        "courseName": "Foundations of Numeracy",
        "svgTemplate": "classic.svg",
        "issuer": {"name": "State Council", "url": "https://scert.example.in/"},
        "signatoryList": [{"id": "DIR", "name": "Director", "designation": "Director", "image": "https://x/sig.png"}],
        "criteria": {"narrative": NAME},
        "tag": BATCH,
        "related": {"batchId": BATCH, "courseId": COURSE, "type": NAME},
    }
    begun = time.process_time()
    for _ in range(certificates):
        request = CertificateRequest.of(edata, suppress_signatories=False)
        made = Certificate.of(
            request, request.recipients[0], base="https://x/certs", certificate_id=new_uuid(), now=datetime.now(UTC)
        )
        code = access_code(any_character)
        orjson.dumps(stored_document(badge(made), print_uri(template, made, qr_code_image(made.qr_text, code))))
    return 1000 * (time.process_time() - begun) / certificates


def _events(first: int, end: int) -> Iterator[tuple[bytes | None, bytes]]:
    for number in range(first, end):
        edata = {"userIds": [f"learner-{number}"], "action": "issue-certificate", "batchId": BATCH, "courseId": COURSE}
        yield None, orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": edata})


# --- the stores


@contextmanager
def _keyspace(settings: Mapping[str, Any], name: str) -> Iterator[Any]:
    cluster = Cluster([settings["lms-cassandra.host"]], port=settings["lms-cassandra.port"], connect_timeout=10)
    try:
        session = cluster.connect()
        session.default_timeout = SECONDS
        for statement in create_statements("dev"):
            if "sunbird_courses" in statement:
                session.execute(statement.replace("sunbird_courses", name))
        try:
            yield session
        finally:
            session.execute(f"DROP KEYSPACE {name}")
    finally:
        cluster.shutdown()


def _prepare(session: Any, stubs: _Stubs, keyspace: str, plan: CertificatesPlan) -> None:
    learners = [f"learner-{number}" for number in range(plan.warm_up + plan.learners)]
    template = {
        "identifier": "t1",
        "name": NAME,
        "url": "CLOUD_BASE_PATH/blue.svg",
        "criteria": '{"enrollment":{"status":2}}',
        "issuer": '{"name":"State Council","url":"https://scert.example.in/"}',
        "signatoryList": '[{"id":"DIR","name":"Director","designation":"Director","image":"https://x/sig.png"}]',
        "notifyTemplate": '{"subject":"Your certificate","emailTemplateType":"defaultCertTemp"}',
    }
    session.execute(
        f"INSERT INTO {keyspace}.course_batch (courseid, batchid, cert_templates) VALUES (%s, %s, %s)",  # noqa: S608
        (COURSE, BATCH, {"t1": template}),
    )
    enrol = session.prepare(
        f"INSERT INTO {keyspace}.user_enrolments (userid, courseid, batchid, active, status) "  # noqa: S608
        f"VALUES (?, '{COURSE}', '{BATCH}', true, 2)"
    )
    execute_concurrent_with_args(session, enrol, [(learner,) for learner in learners])
    stubs.put("users", {learner: {"firstName": "Learner", "maskedPhone": "98******10"} for learner in learners})
    stubs.put("contents", {COURSE: {"name": "Foundations of Numeracy"}})


def _judge(session: Any, stubs: _Stubs, keyspace: str, plan: CertificatesPlan, reader: _Audits) -> dict[str, Compared]:
    learners = [f"learner-{number}" for number in range(plan.warm_up + plan.learners)]
    credentials = stubs.get("credentials")
    owners = {record["recipient"]["id"]: osid for osid, record in credentials.items()}
    rows = session.execute(f"SELECT userid, issued_certificates FROM {keyspace}.user_enrolments")  # noqa: S608
    noted = {row.userid: [entry["identifier"] for entry in row.issued_certificates or []] for row in rows}
    judged = {name: Compared() for name in ("certificates", "enrolments", "AUDIT events", "feed entries")}
    judged["certificates"].note("records in RC", len(learners), len(credentials))
    fed = Counter(entry["userId"] for entry in stubs.get("feeds"))
    for learner in learners:
        judged["enrolments"].note(learner, [owners.get(learner)], noted.get(learner))
        judged["AUDIT events"].note(learner, 1, reader.audits[learner])
        judged["feed entries"].note(learner, 1, fed[learner])
    return judged


# --- the services


class _Stubs:
    """The stand-ins of the services."""

    def __init__(self, address: str) -> None:
        self._address = f"{address}/stub"

    def put(self, what: str, value: Any) -> None:
        requests.put(f"{self._address}/{what}", json=value, timeout=SECONDS).raise_for_status()

    def get(self, what: str) -> Any:
        answer = requests.get(f"{self._address}/{what}", timeout=SECONDS)
        answer.raise_for_status()
        return answer.json()

    def clear(self) -> None:
        requests.delete(self._address, timeout=SECONDS).raise_for_status()

    def forget_calls(self) -> None:
        requests.delete(f"{self._address}/calls", timeout=SECONDS).raise_for_status()

    def most_at_once(self) -> int:
        return int(self.get("load")["most_in_flight"])

    def wait_until_told(self, learners: int) -> None:
        """Raises TimeoutError when not all learners are told in a minute."""
        deadline = time.monotonic() + STALLED_SECONDS
        while len(self.get("feeds")) < learners:
            if time.monotonic() > deadline:
                raise TimeoutError("not all learners were told of their certificate")
            time.sleep(0.5)


@contextmanager
def _stubs(address: str, plan: CertificatesPlan) -> Iterator[_Stubs]:
    stubs = _Stubs(address)
    stubs.clear()
    stubs.put("settings", {"delay_ms": plan.answer_ms})
    try:
        yield stubs
    finally:
        stubs.clear()


# --- Kafka


@dataclass(frozen=True)
class _Topics:
    requests: str
    audit: str


@contextmanager
def _topics(brokers: str, environment: str) -> Iterator[_Topics]:
    admin = AdminClient({"bootstrap.servers": brokers})
    inside = ("issue.certificate.request", "generate.certificate.request")
    outside = ("telemetry.raw", "issue.certificate.failed", "generate.certificate.failed")
    wanted = [NewTopic(f"{environment}.{name}", 2, 1) for name in inside]
    wanted += [
        NewTopic(f"{environment}.{name}", 2, 1, config={"message.timestamp.type": "LogAppendTime"}) for name in outside
    ]
    for created in admin.create_topics(wanted, operation_timeout=SECONDS).values():
        created.result(SECONDS)
    try:
        yield _Topics(f"{environment}.issue.certificate.request", f"{environment}.telemetry.raw")
    finally:
        for deleted in admin.delete_topics([topic.topic for topic in wanted], operation_timeout=SECONDS).values():
            deleted.result(SECONDS)


class _Audits:
    """Reads the AUDIT events of certificates; ``audits`` counts those of each learner."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.audits: Counter[str] = Counter()
        self._last = 0
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"{topic}-bench"})
        partitions = self._consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        self.close = self._consumer.close

    def wait_for(self, events: int) -> int:
        """Wait until so many have come; when the broker took the last (epoch ms). Raises TimeoutError."""
        came = time.monotonic()
        while self.audits.total() < events:
            for record in self._consumer.consume(1_000, timeout=0.2):
                if record.error():
                    raise KafkaException(record.error())
                came = time.monotonic()
                self.audits[orjson.loads(record.value())["actor"]["id"]] += 1
                self._last = max(self._last, record.timestamp()[1])
            if time.monotonic() - came > STALLED_SECONDS:
                raise TimeoutError(f"{self.audits.total()} of {events} certificates came, and no more")
        return self._last


def _processes(stack: Stack, since: float) -> Any:
    servers = {"TaskManager": "taskmanager", "Cassandra": "cassandra", "stubs": "stubs"}
    fixed = {name: [stack.process(process)] for name, process in servers.items()}

    def now() -> Mapping[str, list[psutil.Process]]:
        return {"Python workers": [w for w in stack.workers() if w.create_time() >= since], **fixed}

    return now
