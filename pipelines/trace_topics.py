"""Reading the ends of topics, and where groups stand in them. Nothing is written: no offset is committed.

The reader assigns partitions to itself, so it joins no group and disturbs none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from io_connectors.kafka import once_the_group_is_found
from transforms.stores import StoreUnavailable
from transforms.trace_records import Backlog, FoundRecord, Tail

__all__ = ["Kafka", "KafkaTopics", "Match", "Topics", "shares"]

Match = Callable[[bytes], str | None]
"""Of a record's value: None when it is not looked for, else why it failed (``""`` where that is no question)."""

ANSWER_SECONDS = 10
_RECORDS_AT_ONCE = 1_000
# of those that are about the learner, the newest
_KEPT = 1_000

T = TypeVar("T")


class Topics(Protocol):
    """Kafka, as far as a trace needs it. Every method raises StoreUnavailable, LookupError for no such topic."""

    def tail(
        self, topic: str, records: int, seconds: float, might: Callable[[bytes | None], bool], match: Match
    ) -> Tail:
        """Look for records among the last ``records`` of a topic, for so many seconds at most."""
        ...

    def backlog(self, group: str, topic: str) -> Backlog:
        """Where a group stands."""
        ...


@dataclass(frozen=True)
class Kafka:
    """The recipe; ``brokers`` as ``host:port[,host:port…]``."""

    brokers: str

    def open(self) -> KafkaTopics:
        """A client; it connects when it is first asked for something."""
        return KafkaTopics(self.brokers)


class KafkaTopics:
    """The client (``Topics``), for one thread. ``close`` it in the end."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._consumers: dict[str, Consumer] = {}

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._consumers.values():
            consumer.close()
        self._consumers.clear()

    def tail(
        self, topic: str, records: int, seconds: float, might: Callable[[bytes | None], bool], match: Match
    ) -> Tail:
        """As the protocol says."""
        return self._asked(lambda: self._tail(topic, records, seconds, might, match))

    def backlog(self, group: str, topic: str) -> Backlog:
        """As the protocol says."""
        return self._asked(lambda: self._backlog(group, topic))

    def _asked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except KafkaException as error:
            raise StoreUnavailable(f"Kafka at {self._brokers}: {error.args[0].str()}") from error

    def _consumer(self, group: str) -> Consumer:
        if group not in self._consumers:
            self._consumers[group] = Consumer(
                {
                    "bootstrap.servers": self._brokers,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "allow.auto.create.topics": False,
                    "auto.offset.reset": "earliest",
                    "log_level": 0,
                }
            )
        return self._consumers[group]

    @property
    def _reader(self) -> Consumer:
        return self._consumer("sunbird-pipelines-trace")

    @cached_property
    def _partitions(self) -> Mapping[str, Sequence[int]]:
        """Of all topics: to ask for one by its name could make it."""
        found = self._reader.list_topics(timeout=ANSWER_SECONDS).topics
        return {name: sorted(topic.partitions) for name, topic in found.items()}

    def _ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first and the next offset of each partition."""
        if topic not in self._partitions:
            raise LookupError(f"there is no topic {topic}")
        return {
            partition: self._reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_SECONDS)
            for partition in self._partitions[topic]
        }

    @once_the_group_is_found
    def _backlog(self, group: str, topic: str) -> Backlog:
        ends = self._ends(topic)
        places = [TopicPartition(topic, partition) for partition in ends]
        committed: dict[int, int | None] = {
            place.partition: place.offset if place.offset >= 0 else None
            for place in self._consumer(group).committed(places, timeout=ANSWER_SECONDS)
        }
        waiting = {
            partition: max(0, high - max(low, committed.get(partition) or 0)) for partition, (low, high) in ends.items()
        }
        return Backlog(group, committed, waiting)

    def _tail(
        self, topic: str, records: int, seconds: float, might: Callable[[bytes | None], bool], match: Match
    ) -> Tail:
        until = time.monotonic() + seconds
        ends = self._ends(topic)
        total = sum(high - low for low, high in ends.values())
        wanted = shares(records, {partition: high - low for partition, (low, high) in ends.items()})
        left = {partition for partition, share in wanted.items() if share}
        at = {partition: ends[partition][1] - wanted[partition] for partition in left}
        self._reader.assign([TopicPartition(topic, partition, offset) for partition, offset in at.items()])
        found: list[FoundRecord] = []
        try:
            while left and time.monotonic() < until:
                for message in self._reader.consume(_RECORDS_AT_ONCE, timeout=min(1.0, seconds)):
                    partition, error = message.partition(), message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    if error is None:
                        at[partition] = message.offset() + 1
                        value = message.value()
                        if might(value) and (reason := match(value)) is not None:
                            place = (topic, partition, message.offset(), message.timestamp()[1])
                            found = [*found, FoundRecord(*place, reason)][-_KEPT:]
                    # markers of transactions are offsets without records: the end is told, or passed
                    if error is not None or at[partition] >= ends[partition][1]:
                        at[partition] = ends[partition][1]
                        left.discard(partition)
        finally:
            self._reader.unassign()
        begun = sum(ends[partition][1] - wanted[partition] for partition in at)
        return Tail(found, sum(at.values()) - begun, sum(wanted.values()), total)


def shares(records: int, available: Mapping[int, int]) -> dict[int, int]:
    """How many of the last ``records`` are taken from each partition: alike, and more where others have fewer."""
    taken: dict[int, int] = {}
    left = records
    for position, (partition, size) in enumerate(sorted(available.items(), key=lambda item: item[1])):
        taken[partition] = min(size, left // (len(available) - position))
        left -= taken[partition]
    return taken
