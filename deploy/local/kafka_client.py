"""The other side of the jobs' topics: what the LMS sends, what comes out, where a group stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, Consumer, KafkaException, Producer, TopicPartition

from io_connectors.kafka import once_the_group_is_found

TIMEOUT_SECONDS = 20
# of syslog's levels: emergencies only; what goes wrong is raised, not printed
QUIET = 0


class Sender:
    """Sends records; those of one key stay in order."""

    def __init__(self, brokers: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "linger.ms": 5,
                "compression.type": "snappy",
                # what is sent again must not overtake
                "max.in.flight": 1,
                "log_level": QUIET,
            }
        )
        self._refused: list[str] = []

    def send(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Hand a record over to be sent soon."""
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait until the broker has all of it. Raises KafkaException when it does not take it."""
        left = self._producer.flush(TIMEOUT_SECONDS)
        if left or self._refused:
            raise KafkaException(f"{left} records were not sent, {len(self._refused)} refused: {self._refused[:1]}")

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            self._refused.append(str(error))


class Received(NamedTuple):
    """A record and the topic it came from."""

    topic: str
    value: bytes | None


class Listener:
    """Reads what comes onto topics from now on, outside of any group."""

    def __init__(self, brokers: str, topics: Sequence[str]) -> None:
        self._consumer = _consumer(brokers, "listener")
        self._consumer.assign(
            [
                TopicPartition(topic, partition, self._end(topic, partition))
                for topic in topics
                for partition in _partitions(self._consumer, topic)
            ]
        )

    def new_records(self, seconds: float) -> list[Received]:
        """What came since the last call; waits up to ``seconds`` for something to come. Raises KafkaException."""
        found = []
        for message in self._consumer.consume(num_messages=10_000, timeout=seconds):
            if message.error():
                raise KafkaException(message.error())
            found.append(Received(message.topic(), message.value()))
        return found

    def close(self) -> None:
        self._consumer.close()

    def _end(self, topic: str, partition: int) -> int:
        return _ends(self._consumer, topic, partition)


def topics(brokers: str) -> list[str]:
    """The topics that there are, but for Kafka's own. Raises KafkaException."""
    consumer = _consumer(brokers, "reader")
    try:
        return sorted(name for name in consumer.list_topics(timeout=TIMEOUT_SECONDS).topics if name[0] != "_")
    finally:
        consumer.close()


def records(brokers: str, topic: str) -> Iterator[bytes | None]:
    """The values that a topic holds now. Raises KafkaException, also for a topic that is not there."""
    consumer = _consumer(brokers, "reader")
    try:
        there = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic]
        if there.error:
            raise KafkaException(there.error)
        places = [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in there.partitions]
        begins_ends = {p.partition: consumer.get_watermark_offsets(p, timeout=TIMEOUT_SECONDS) for p in places}
        left = sum(end - begin for begin, end in begins_ends.values())
        consumer.assign(places)
        while left > 0:
            found = consumer.consume(num_messages=min(left, 1_000), timeout=TIMEOUT_SECONDS)
            if not found:
                return
            left -= len(found)
            for message in found:
                if message.error():
                    raise KafkaException(message.error())
                yield message.value()
    finally:
        consumer.close()


@once_the_group_is_found
def waiting_records(brokers: str, group: str, topic: str) -> int:
    """How many records of a topic wait for a group that nobody is in.

    A group that never read a partition gets its start there at the end of what there is, as Kafka's default has it,
    but from now on and not from when its reader comes up: nothing that is sent in between is missed.
    """
    consumer = _consumer(brokers, group)
    try:
        places = [TopicPartition(topic, partition) for partition in _partitions(consumer, topic)]
        waiting, begun = 0, []
        for place in consumer.committed(places, timeout=TIMEOUT_SECONDS):
            end = _ends(consumer, topic, place.partition)
            if place.offset == OFFSET_INVALID:
                begun.append(TopicPartition(topic, place.partition, end))
            else:
                waiting += end - place.offset
        if begun:
            consumer.commit(offsets=begun, asynchronous=False)
        return waiting
    finally:
        consumer.close()


def _consumer(brokers: str, group: str) -> Consumer:
    return Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, "log_level": QUIET})


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    return sorted(consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions)


def _ends(consumer: Consumer, topic: str, partition: int) -> int:
    return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_SECONDS)[1])
