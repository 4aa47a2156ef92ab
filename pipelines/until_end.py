"""Handling what a topic holds now, in this process, and no more (`run JOB --until-end`).

KafkaIO runs on DirectRunner when its read is bounded. It is read in rounds small enough that Beam does not split the
bound over partitions, and a round's offsets are committed once everything in it is handled.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from io_connectors.kafka import once_the_group_is_found
from pipelines import flink, runtime
from pipelines.channels import FileSink, KafkaSink, KafkaSource, NoSink, Sink, positions_read
from pipelines.configuration import Loaded
from pipelines.settings import KafkaSettings

_log = logging.getLogger(__name__)

# From 10,000 records on, Beam gives each partition an equal part of the bound and waits for all of it.
RECORDS_IN_ONE_ROUND = 9_000
# Ends a round that waits for records that are not there: markers of transactions count as offsets, too.
SECONDS_OF_ONE_ROUND = 30
KAFKA_SECONDS = 30

Positions = dict[tuple[str, int], int]


def run_until_end(job: ModuleType, loaded: Loaded, request: runtime.RunRequest) -> int:
    """Handle what the topic holds at the start for the group, commit, and finish: 0, or 1 when the run failed."""
    from deploy.local.jar import job_server_jar  # noqa: PLC0415 - no other run in process needs a jar

    settings = cast(KafkaSettings, loaded.settings)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_broker_servers,
            "group.id": settings.kafka_group_id,
            "enable.auto.commit": False,
            # only for a look at what a round did not read
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 0,  # what goes wrong is raised, and said once
        }
    )
    with runtime.reported_counts(job.NAME, request.metrics):
        try:
            at, end = _range(consumer, settings)
            if at == end:
                _log.info("The group %s has nothing to read on %s", settings.kafka_group_id, settings.kafka_input_topic)
                return 0
            jar = job_server_jar()
            first = True
            while waiting := sum(max(0, end[place] - at[place]) for place in end):
                _log.info("%d records to read", waiting)
                if not _run_round(job, loaded, request, jar, min(waiting, RECORDS_IN_ONE_ROUND), continues=not first):
                    return 1
                first = False
                read = positions_read.take()
                if not read and _holds_records(consumer, at, end):
                    # what is committed now would never be read
                    _log.error(
                        "Kafka at %s gave none of %d records within %d seconds; nothing of them is committed",
                        settings.kafka_broker_servers,
                        waiting,
                        SECONDS_OF_ONE_ROUND,
                    )
                    return 1
                at |= read or end
                _commit(consumer, at)
        except KafkaException as error:
            place = f"Kafka at {settings.kafka_broker_servers}, topic {settings.kafka_input_topic}"
            _log.error("%s: %s", place, error.args[0].str())
            return 1
        finally:
            consumer.close()
    return 0


def _run_round(
    job: ModuleType, loaded: Loaded, request: runtime.RunRequest, jar: Path, records: int, *, continues: bool
) -> bool:
    """Read and handle so many records. The Java worker serves one pipeline, so each round has its own."""
    settings = cast(KafkaSettings, loaded.settings)
    with flink.expansion_service(jar, in_flink=False) as expansion:
        source = KafkaSource(
            settings.kafka_broker_servers,
            settings.kafka_group_id,
            settings.kafka_input_topic,
            expansion,
            settings.kafka_auto_offset_reset,
            most_records=records,
            most_seconds=SECONDS_OF_ONE_ROUND,
        )
        sink: Sink = KafkaSink(settings.kafka_broker_servers, expansion, runtime.LARGEST_KAFKA_REQUEST)
        if request.shadow:
            sink = NoSink()
        if request.output:
            sink = FileSink(request.output, request.with_keys, continues)
        return runtime.run_in_process(job, loaded, request, source, sink)


@once_the_group_is_found
def _range(consumer: Consumer, settings: KafkaSettings) -> tuple[Positions, Positions]:
    """Where the group stands on each partition, and where the partition ends now."""
    topic = settings.kafka_input_topic
    found = consumer.list_topics(topic, timeout=KAFKA_SECONDS).topics[topic]
    if found.error:
        raise KafkaException(found.error)
    at: Positions = {}
    end: Positions = {}
    partitions = [TopicPartition(topic, partition) for partition in found.partitions]
    for place in consumer.committed(partitions, timeout=KAFKA_SECONDS):
        low, high = consumer.get_watermark_offsets(place, timeout=KAFKA_SECONDS)
        beginning = low if settings.kafka_auto_offset_reset == "earliest" else high
        at[topic, place.partition] = max(low, place.offset) if place.offset >= 0 else beginning
        end[topic, place.partition] = high
    _commit(consumer, at)
    return at, end


def _holds_records(consumer: Consumer, at: Positions, end: Positions) -> bool:
    """Whether there is a record between the positions; markers of transactions are none. Raises KafkaException."""
    left = {place: end[place] for place in end if at[place] < end[place]}
    consumer.assign([TopicPartition(*place, at[place]) for place in left])
    try:
        while left:
            message = consumer.poll(KAFKA_SECONDS)
            if message is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            error = message.error()
            if error and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            place = (message.topic(), message.partition())
            if not error and message.offset() < left.get(place, 0):
                return True
            left.pop(place, None)
    finally:
        consumer.unassign()
    return False


@once_the_group_is_found
def _commit(consumer: Consumer, positions: Positions) -> None:
    offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()]
    consumer.commit(offsets=offsets, asynchronous=False)
