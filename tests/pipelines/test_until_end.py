"""What a run to the topic's end commits, with a real broker; the rounds read nothing (design §5.1 ``--until-end``)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.stack import Stack
from pipelines import merge_user_courses, until_end
from pipelines.configuration import load
from pipelines.runtime import RunRequest
from pipelines.until_end import run_until_end

PARTITIONS = 2


class Topic:
    """A topic, and the group that has read nothing of it."""

    def __init__(self, brokers: str) -> None:
        self.name = f"until-end.{uuid.uuid4()}"
        self.settings = [
            f"kafka.broker-servers={brokers}",
            f"kafka.input.topic={self.name}",
            f"kafka.groupId={self.name}",
            "kafka.auto.offset.reset=earliest",
        ]
        self._of_brokers = {"bootstrap.servers": brokers}
        self.admin = AdminClient(self._of_brokers)
        self.admin.create_topics([NewTopic(self.name, PARTITIONS, 1)])[self.name].result()

    def send(self, *, commit: bool, records: int = 1) -> None:
        """Records of one transaction; one that is not committed leaves nothing to read."""
        producer = Producer({**self._of_brokers, "transactional.id": str(uuid.uuid4())})
        producer.init_transactions()
        producer.begin_transaction()
        for _ in range(records):
            producer.produce(self.name, b"a record", partition=1)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()

    def committed(self) -> list[int]:
        consumer = Consumer({**self._of_brokers, "group.id": self.name})
        places = [TopicPartition(self.name, partition) for partition in range(PARTITIONS)]
        try:
            return [place.offset for place in consumer.committed(places, timeout=30)]
        finally:
            consumer.close()

    def run(self) -> int:
        return run_until_end(merge_user_courses, load(merge_user_courses.Settings, [], self.settings, {}), RunRequest())


@pytest.fixture
def topic(stack_of: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:
    """The Java side comes back without a record, as when a broker does not answer it in time."""
    monkeypatch.setattr(until_end, "_run_round", lambda *_, **__: True)
    monkeypatch.setattr("deploy.local.jar.job_server_jar", lambda: None)
    topic = Topic(stack_of("kafka").environment()["kafka.broker-servers"])
    yield topic
    topic.admin.delete_topics([topic.name])[topic.name].result()


def test_records_that_did_not_come_are_not_committed(topic, caplog):
    topic.send(commit=False)
    topic.send(commit=True, records=3)
    assert topic.run() == 1
    assert topic.committed() == [0, 0]
    assert "gave none of" in caplog.text


def test_markers_of_transactions_are_passed_over(topic):
    topic.send(commit=False, records=3)
    assert topic.run() == 0
    # the three, and what says that they count for nothing
    assert topic.committed() == [0, 4]
