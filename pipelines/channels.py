"""Where records come from and where they go: the one place that decides.

A job's module takes records and gives a PCollection for each output topic. Whether those come from Kafka or a file,
and go to Kafka, files or nowhere, is chosen here and is invisible to the job. (Lists: see in_memory.)
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import apache_beam as beam
import orjson
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka

from pipelines.logs import at_hand
from pipelines.settings import UsageError
from transforms.decode import Record

Keyed = tuple[bytes | None, bytes]


class WithoutKey(beam.PTransform[beam.PCollection[bytes], beam.PCollection[Keyed]]):
    """Values as records without a Kafka key."""

    def expand(self, values: beam.PCollection[bytes]) -> beam.PCollection[Keyed]:
        return values | beam.Map(_without_key).with_output_types(tuple[bytes | None, bytes])


def _without_key(value: bytes) -> Keyed:
    return None, value


class Source(Protocol):
    def read(self, pipeline: beam.Pipeline) -> beam.PCollection[Record]: ...


class Sink(Protocol):
    def write(self, topic: str, records: beam.PCollection[Keyed]) -> None: ...


# --- Kafka


@dataclass(frozen=True)
class KafkaSource:
    """KafkaIO. Offsets are committed when the runner has made the records durable (a checkpoint, on Flink).

    ``most_records`` bounds the read, for a run that ends. ``expansion_service`` is its address, host:port.
    """

    brokers: str
    group: str
    topic: str
    expansion_service: str
    offset_reset: str | None = None
    most_records: int | None = None
    most_seconds: int | None = None

    def read(self, pipeline: beam.Pipeline) -> beam.PCollection[Record]:
        consumer = {
            "bootstrap.servers": self.brokers,
            "group.id": self.group,
            "isolation.level": "read_committed",
            "enable.auto.commit": "false",
        }
        if self.offset_reset:
            consumer["auto.offset.reset"] = self.offset_reset
        bounded = self.most_records is not None
        return (
            pipeline
            | "Read from Kafka"
            >> ReadFromKafka(
                consumer,
                [self.topic],
                max_num_records=self.most_records,
                max_read_time=self.most_seconds,
                # a bounded run commits by itself, once all is handled
                commit_offset_in_finalize=not bounded,
                with_metadata=True,
                expansion_service=self.expansion_service,
            )
            | "As record" >> beam.ParDo(_FromKafka(notes_positions=bounded))
        )


class _FromKafka(beam.DoFn):
    def __init__(self, notes_positions: bool) -> None:
        self._notes_positions = notes_positions

    def process(self, row: Any) -> Iterator[Record]:
        record = Record(row.value, row.topic, row.partition, row.offset, row.timestamp, lasting=True)
        if self._notes_positions:
            positions_read.note(record)
        yield from at_hand(record)


class _PositionsRead:
    """The position after the last record read of each partition, in this process: what a bounded run commits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[tuple[str, int], int] = {}

    def note(self, record: Record) -> None:
        with self._lock:
            place = (record.topic, record.partition)
            self._positions[place] = max(self._positions.get(place, 0), record.offset + 1)

    def take(self) -> dict[tuple[str, int], int]:
        with self._lock:
            positions, self._positions = self._positions, {}
            return positions


positions_read = _PositionsRead()


@dataclass(frozen=True)
class KafkaSink:
    """KafkaIO's producer, at least once (spec: core §2.2)."""

    brokers: str
    expansion_service: str
    largest_request: int

    def write(self, topic: str, records: beam.PCollection[Keyed]) -> None:
        producer = {
            "bootstrap.servers": self.brokers,
            "linger.ms": "10",
            "batch.size": "65536",
            "compression.type": "snappy",
            # the broker's limit holds for compressed batches; the client's is for the plain record
            "max.request.size": str(self.largest_request),
        }
        _ = (
            records
            | f"As key and value for {topic}" >> beam.Map(_identity).with_output_types(tuple[bytes | None, bytes])
            | f"Write to {topic}" >> WriteToKafka(producer, topic, expansion_service=self.expansion_service)
        )


def _identity(record: Keyed) -> Keyed:
    return record


# --- files


@dataclass(frozen=True)
class FileSource:
    """One record's value on each line: as it is, or in base64 with ``null`` for a tombstone.

    Only the line feed ends a line, and an empty line is an empty value. Raises ValueError for a line that is not
    base64, naming the file and the line.
    """

    path: Path
    base64: bool = False

    def read(self, pipeline: beam.Pipeline) -> beam.PCollection[Record]:
        return (
            pipeline
            | "Name the file" >> beam.Create([str(self.path)])
            | "Read lines" >> beam.FlatMap(_lines, self.base64).with_output_types(Record)
        )


def _lines(path: str, is_base64: bool) -> Iterator[Record]:
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            value: bytes | None = line.removesuffix(b"\n")
            if is_base64:
                try:
                    value = None if value == b"null" else base64.b64decode(value or b"", validate=True)
                except ValueError as error:
                    raise ValueError(f"{path}, line {number + 1}: not base64 ({error})") from error
            yield from at_hand(Record(value, f"file:{Path(path).name}", 0, number, 0))


@dataclass(frozen=True)
class FileSink:
    """Each topic's values, one on a line, in ``directory/<topic>.jsonl``; with keys as ``{"key": …, "value": …}``.

    A topic without records has no file. What an earlier run left there is removed, unless this one ``continues`` it.
    ``write`` raises UsageError where that is the file that the run ``reads``.
    """

    directory: Path
    with_keys: bool = False
    continues: bool = False
    reads: Path | None = None

    def file(self, topic: str) -> Path:
        return self.directory / f"{topic}.jsonl"

    def write(self, topic: str, records: beam.PCollection[Keyed]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.file(topic)
        if self.reads and file.exists() and file.samefile(self.reads):
            raise UsageError(f"--input {self.reads} is the file that --output would be written to. Name another.")
        if not self.continues:
            file.unlink(missing_ok=True)
        _ = records | f"Write {topic}.jsonl" >> beam.ParDo(_AppendLines(str(file), self.with_keys))


class _AppendLines(beam.DoFn):
    def __init__(self, path: str, with_keys: bool) -> None:
        self._path = path
        self._with_keys = with_keys

    def start_bundle(self) -> None:
        self._lines: list[bytes] = []

    def process(self, record: Keyed) -> None:
        key, value = record
        if self._with_keys:
            text = None if key is None else key.decode("utf-8", "replace")
            value = b'{"key":' + orjson.dumps(text) + b',"value":' + value + b"}"
        self._lines.append(value + b"\n")

    def finish_bundle(self) -> None:
        # a topic that gets no records has no file
        if self._lines:
            with open(self._path, "ab") as file:
                file.writelines(self._lines)


# --- nowhere


@dataclass(frozen=True)
class NoSink:
    """Output goes nowhere."""

    def write(self, topic: str, records: beam.PCollection[Keyed]) -> None:
        _ = records | f"Drop {topic}" >> beam.Map(_nothing)


def _nothing(_: Keyed) -> None:
    return None
