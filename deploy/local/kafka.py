"""Kafka: one node, broker and controller in one, without ZooKeeper."""

import time
import uuid
from base64 import urlsafe_b64encode
from subprocess import PIPE, STDOUT, run
from typing import Any, ClassVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from deploy.local.errors import StackError
from deploy.local.maven import class_path, java
from deploy.local.processes import LOOPBACK
from deploy.local.service import Service, Surroundings

LARGEST_MESSAGE_BYTES = 5_242_880
RETENTION_MILLISECONDS = 172_800_000
PARTITIONS = 2
LEADERS_SECONDS = 120

# spec: core §13.1, input, output and failed topics of every job, without the environment in front
TOPICS = (
    "activity.agg.failed",
    "auto.creation.job.request",
    "auto.creation.job.request.failed",
    "batch.enrolment.sync.request",
    "content.postpublish.request",
    "coursebatch.job.request",
    "delete.user",
    "enrolment.reconciliation.failed",
    "generate.certificate.failed",
    "generate.certificate.request",
    "issue.certificate.failed",
    "issue.certificate.request",
    "learning.events.failed",
    "learning.graph.events",
    "legacy.certificate.migrate",
    "lms.notification",
    "lms.user.account.merge",
    "object.import.request",
    "programuser.info",
    "telemetry.assess",
    "telemetry.assess.failed",
    "telemetry.audit",
    "telemetry.raw",
    "user.ownership.transfer",
)


class Kafka(Service):
    """The broker that the jobs read from and write to."""

    name = "kafka"
    ports: ClassVar = {"kafka": 9092, "kafka-controller": 9093}
    processes = ("kafka",)

    def prepare(self, around: Surroundings) -> None:
        class_path("kafka", around.progress)

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("kafka")
        properties = directory / "server.properties"
        log_directory = directory / "logs"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{around.ports['kafka-controller']}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{around.ports['kafka']},"
            f"CONTROLLER://{LOOPBACK}:{around.ports['kafka-controller']}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{around.ports['kafka']}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": log_directory,
            "auto.create.topics.enable": "false",
            "num.partitions": PARTITIONS,
            "message.max.bytes": LARGEST_MESSAGE_BYTES,
            "replica.fetch.max.bytes": LARGEST_MESSAGE_BYTES,
            "log.retention.ms": RETENTION_MILLISECONDS,
            "log.cleaner.dedupe.buffer.size": 16_777_216,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        properties.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        launch = [
            java(),
            "-Xmx512m",
            "-XX:+UseG1GC",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            "-cp",
            class_path("kafka", around.progress),
        ]
        if not (log_directory / "meta.properties").exists():
            around.progress(self.name, "formatting the log directory")
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            tool = [*launch, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
            formatted = run(tool, stdout=PIPE, stderr=STDOUT, text=True, timeout=120, check=False)
            if formatted.returncode != 0:
                raise StackError(f"Kafka's log directory cannot be formatted:\n{formatted.stdout[-2000:]}")
        around.processes.start(process, [*launch, "kafka.Kafka", str(properties)], {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        try:
            return bool(self._admin(around).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    @staticmethod
    def _admin(around: Surroundings) -> AdminClient:
        return AdminClient(
            {"bootstrap.servers": f"{LOOPBACK}:{around.ports['kafka']}", "log_level": 0},
            logger=None,
        )

    def populate(self, environment: str, around: Surroundings) -> None:
        around.progress(self.name, "creating topics")
        admin = self._admin(around)
        configuration = {
            "max.message.bytes": str(LARGEST_MESSAGE_BYTES),
            "retention.ms": str(RETENTION_MILLISECONDS),
        }
        there = admin.list_topics(timeout=10).topics
        missing = [
            NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1, config=configuration)
            for topic in (f"{environment}.{name}" for name in TOPICS)
            if topic not in there
        ]
        if not missing:
            return
        for topic, created in admin.create_topics(missing, operation_timeout=30, request_timeout=30).items():
            try:
                created.result(timeout=60)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise StackError(f"topic {topic} cannot be created: {error.args[0].str()}") from error
        # a new topic has no leader at once, and until then nobody can read it
        ends = {
            TopicPartition(new.topic, number): OffsetSpec.latest() for new in missing for number in range(PARTITIONS)
        }
        latest = time.monotonic() + LEADERS_SECONDS
        while not _all_have_leaders(admin, ends):
            if time.monotonic() > latest:
                raise StackError(f"Kafka's new topics have no leaders within {LEADERS_SECONDS} s")
            time.sleep(0.2)

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {"kafka.broker-servers": f"{LOOPBACK}:{around.ports['kafka']}"}


def _all_have_leaders(admin: AdminClient, ends: dict[TopicPartition, OffsetSpec]) -> bool:
    asked = admin.list_offsets(ends, request_timeout=30)
    return all(end.exception(timeout=60) is None for end in asked.values())
