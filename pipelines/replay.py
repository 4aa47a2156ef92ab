"""Putting dead letters back on the topic that they came from, once each.

A record that was put back carries a header that names its letter: topic, partition and offset. A later replay reads
these headers first, so the mark is written with the record itself, and nothing beside Kafka has to remember anything.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from transforms.replayed import Letter, letter_of

__all__ = ["HEADER", "Outcome", "Selection", "moment", "replay"]

HEADER = "sunbird-replay"
SECONDS = 30
# of syslog's levels; what goes wrong is raised, and said once
SILENT = 0
RECORDS_AT_ONCE = 2_000
# as of the jobs' own producer (pipelines.runtime): the topic's limit counts, not the client's
LARGEST_RECORD = 33_554_432

Doing = Callable[[str], None]


class Selection(NamedTuple):
    """Which letters: those of ``[since, until)`` (Kafka's epoch ms), with a reason that ``reason`` finds."""

    since: int | None = None
    until: int | None = None
    reason: re.Pattern[str] | None = None

    def takes(self, timestamp: int, letter: Letter) -> bool:
        if (self.since is not None and timestamp < self.since) or (self.until is not None and timestamp >= self.until):
            return False
        return self.reason is None or self.reason.search(letter.reason) is not None


@dataclass
class Outcome:
    """How many letters, by reason: put back now (or to be, in a dry run), put back before, and those that can not be,
    by what stands in the way."""

    put_back: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    not_possible: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def reasons(self) -> list[str]:
        """All reasons, the most frequent first."""
        total = self.put_back + self.before
        for reason, faults in self.not_possible.items():
            total[reason] += faults.total()
        return [reason for reason, _ in total.most_common()]


def moment(text: str) -> int:
    """``2026-11-25``, ``2026-11-25T08:00`` or ``2026-11-25T08:00:00+05:30`` in epoch ms; UTC when it does not say.

    Raises ValueError.
    """
    read = datetime.fromisoformat(text)
    return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000)


def replay(
    job: str,
    brokers: str,
    failed_topic: str,
    input_topic: str,
    selection: Selection,
    *,
    dry_run: bool,
    rate: float | None,
    doing: Doing,
) -> Outcome:
    """Put the letters of ``failed_topic`` that ``selection`` takes back on ``input_topic``, at most ``rate`` a second.

    A letter that was put back before is left out; two replays at the same time do not see each other. Raises
    KafkaException when a broker or a topic can not be had.
    """
    outcome = Outcome()
    reader = _Reader(brokers)
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "linger.ms": 5,
            "enable.idempotence": True,
            "message.max.bytes": LARGEST_RECORD,
            "log_level": SILENT,
        }
    )
    try:
        doing("looking for what was put back before")
        marks = _marks(reader, input_topic, selection.since)
        begun, sent = time.monotonic(), 0
        for message in reader.read(failed_topic, selection.since):
            letter = letter_of(message.value(), job)
            if not selection.takes(message.timestamp()[1], letter):
                continue
            mark = f"{message.topic()}:{message.partition()}:{message.offset()}"
            if letter.original is None:
                outcome.not_possible[letter.reason][letter.fault] += 1
            elif mark in marks:
                outcome.before[letter.reason] += 1
            else:
                outcome.put_back[letter.reason] += 1
                if not dry_run:
                    _pause(begun, sent, rate)
                    _send(producer, input_topic, letter.original, mark)
                    sent += 1
            doing(f"{outcome.put_back.total()} {'to be put back' if dry_run else 'put back'}")
        if producer.flush(SECONDS):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"not all records reached {input_topic}"))
    finally:
        reader.close()
    return outcome


def _marks(reader: _Reader, topic: str, since: int | None) -> set[str]:
    """The letters that records of the topic name. A record is younger than its letter."""
    return {
        value.decode()
        for message in reader.read(topic, since)
        for name, value in message.headers() or ()
        if name == HEADER and value
    }


def _pause(begun: float, sent: int, rate: float | None) -> None:
    if rate and (pause := begun + sent / rate - time.monotonic()) > 0:
        time.sleep(pause)


def _send(producer: Producer, topic: str, value: bytes, mark: str) -> None:
    while True:
        try:
            producer.produce(topic, value, headers=[(HEADER, mark.encode())], on_delivery=_must_arrive)
        except BufferError:
            producer.poll(0.5)
            continue
        producer.poll(0)
        return


def _must_arrive(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        raise KafkaException(error)


class _Reader:
    """Reads what topics hold now. It belongs to no group that commits anything."""

    def __init__(self, brokers: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "sunbird-pipelines-replay",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                # the oldest records go at any time; what is left must not go with them
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "log_level": SILENT,
            }
        )
        self.close = self._consumer.close

    def read(self, topic: str, since: int | None) -> Iterator[Message]:
        """All records from ``since`` (epoch ms; the beginning without it) up to the end as it is now."""
        found = self._consumer.list_topics(topic, timeout=SECONDS).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        left = set()
        begins = self._begins(topic, sorted(found.partitions), since)
        for place in begins:
            low, high = self._consumer.get_watermark_offsets(place, timeout=SECONDS)
            place.offset = high if place.offset < 0 else max(place.offset, low)
            if place.offset < high:
                left.add(place.partition)
        ends = {place.partition: self._consumer.get_watermark_offsets(place, timeout=SECONDS)[1] for place in begins}
        self._consumer.assign([place for place in begins if place.partition in left])
        while left:
            for message in self._consumer.consume(RECORDS_AT_ONCE, timeout=0.5):
                if message.error() and message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                if message.error() or message.offset() >= ends[message.partition()]:
                    left.discard(message.partition())
                elif message.partition() in left:
                    yield message

    def _begins(self, topic: str, partitions: Sequence[int], since: int | None) -> list[TopicPartition]:
        """Where to begin; a negative offset where nothing is that young."""
        if since is None:
            return [TopicPartition(topic, partition, 0) for partition in partitions]
        wanted = [TopicPartition(topic, partition, since) for partition in partitions]
        found: list[TopicPartition] = self._consumer.offsets_for_times(wanted, timeout=SECONDS)
        return found
