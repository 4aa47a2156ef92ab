"""The topics of a measurement: records put on the input, and what appears on the outputs, with Kafka's timestamps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

__all__ = ["Outcome", "Outputs", "Topics", "publish", "topics"]

SECONDS = 30
# Nothing more comes when nothing came for so long.
STALLED_SECONDS = 60
RECORDS_AT_ONCE = 2_000


@dataclass(frozen=True)
class Topics:
    """The names of the job's topics in an environment of its own, under the keys of its settings."""

    input: str
    audit: str
    certificates: str
    failed: str

    @classmethod
    def of(cls, environment: str) -> Topics:
        return cls(*(f"{environment}.{name}" for name in ("events", "audit", "certificates", "failed")))

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "kafka.input.topic": self.input,
            "kafka.output.audit.topic": self.audit,
            "kafka.output.certissue.topic": self.certificates,
            "kafka.output.failed.topic": self.failed,
            "kafka.groupId": f"{self.input}-group",
            "kafka.auto.offset.reset": "earliest",
        }


@contextmanager
def topics(brokers: str, environment: str, partitions: int) -> Iterator[Topics]:
    """Make the topics, and delete them afterwards. The outputs carry the time at which the broker took a record."""
    admin = AdminClient({"bootstrap.servers": brokers})
    names = Topics.of(environment)
    of_outputs = {"message.timestamp.type": "LogAppendTime"}
    wanted = [NewTopic(names.input, partitions, 1)]
    wanted += [
        NewTopic(name, partitions, 1, config=of_outputs) for name in (names.audit, names.certificates, names.failed)
    ]
    for created in admin.create_topics(wanted, operation_timeout=SECONDS).values():
        created.result(SECONDS)
    try:
        yield names
    finally:
        for deleted in admin.delete_topics([topic.topic for topic in wanted], operation_timeout=SECONDS).values():
            deleted.result(SECONDS)


def publish(
    brokers: str, topic: str, records: Sequence[tuple[bytes | None, bytes | None]], rate: float | None = None
) -> list[int]:
    """Put records on a topic, ``rate`` a second or as fast as it goes; gives their Kafka timestamps (epoch ms).

    Raises RuntimeError when the broker does not take them.
    """
    errors: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
        }
    )
    timestamps = []
    begun = time.monotonic()
    for place, (key, value) in enumerate(records):
        if rate:
            pause = begun + place / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            producer.poll(0)
        timestamps.append(time.time_ns() // 1_000_000)
        producer.produce(
            topic, value, key, timestamp=timestamps[-1], on_delivery=lambda error, _: errors.append(str(error))
        )
    if producer.flush(SECONDS) or errors:
        raise RuntimeError(f"not all records reached {topic}: {errors[:1]}")
    return timestamps


class Outcome(NamedTuple):
    """An output record of the job: whose, about what, which kind, and when the broker took it (epoch ms)."""

    timestamp: int
    user_id: str
    object_id: str
    kind: str


CERTIFICATE = "certificate"
FAILED = "failed"


class Outputs:
    """Reads the output topics from their beginning, in a thread of its own, and keeps what comes."""

    def __init__(self, brokers: str, names: Topics) -> None:
        self._names = names
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"{names.input}-outputs"})
        partitions = [
            TopicPartition(topic, partition, 0)
            for topic in (names.audit, names.certificates, names.failed)
            for partition in self._consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        ]
        self._consumer.assign(partitions)
        self._arrived = threading.Condition()
        self._records: list[Message] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._ends.is_set():
            records = self._consumer.consume(RECORDS_AT_ONCE, timeout=0.2)
            if records:
                with self._arrived:
                    self._records += records
                    self._arrived.notify_all()

    def wait(self, records: int) -> bool:
        """Wait until so many records have come that were not taken yet. False when nothing came for a long time."""
        with self._arrived:
            while len(self._records) < records:
                before = len(self._records)
                self._arrived.wait_for(lambda before=before: len(self._records) > before, STALLED_SECONDS)
                if len(self._records) == before:
                    return False
            return True

    def take(self) -> list[Outcome]:
        """What came since it was last asked. Raises KafkaException for what could not be read."""
        with self._arrived:
            records, self._records = self._records, []
        return [self._outcome(record) for record in records]

    def _outcome(self, record: Message) -> Outcome:
        if record.error():
            raise KafkaException(record.error())
        _, timestamp = record.timestamp()
        if record.topic() == self._names.failed:
            return Outcome(timestamp, "", "", FAILED)
        event = orjson.loads(record.value() or b"{}")
        if record.topic() == self._names.certificates:
            return Outcome(timestamp, event["edata"]["userIds"][0], event["object"]["id"], CERTIFICATE)
        return Outcome(timestamp, event["actor"]["id"], event["object"]["id"], event["edata"]["type"])
