"""A job in this process, over stores in memory or any others: values in, what it wrote and counted out. For tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import apache_beam as beam
import orjson

from pipelines.channels import Keyed
from pipelines.runtime import refuse_failures_without_sink
from transforms.counters import counted_in_this_process, forget_counts
from transforms.decode import Record

__all__ = ["InMemory", "MemorySink", "MemorySource"]

_numbers = itertools.count()


@dataclass(frozen=True)
class MemorySource:
    """Values of a list. ``lasting``: their places are as those of Kafka, where a record keeps its own for ever."""

    values: tuple[bytes | None, ...]
    topic: str = "memory"
    lasting: bool = False

    def read(self, pipeline: beam.Pipeline) -> beam.PCollection[Record]:
        records = [Record(v, self.topic, 0, offset, 0, self.lasting) for offset, v in enumerate(self.values)]
        return (
            pipeline
            | "Begin" >> beam.Create([b""])
            | "Read list" >> beam.FlatMap(lambda _: records).with_output_types(Record)
        )


@dataclass
class MemorySink:
    """Keeps what was written, by topic: (key, value). Another sink of the same name takes its place."""

    name: str = "memory"
    written: dict[str, list[Keyed]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _MEMORY[self.name] = self.written

    def write(self, topic: str, records: beam.PCollection[Keyed]) -> None:
        _MEMORY[self.name].setdefault(topic, [])
        _ = records | f"Keep {topic}" >> beam.Map(_keep, self.name, topic)


_MEMORY: dict[str, dict[str, list[Keyed]]] = {}


def _keep(record: Keyed, name: str, topic: str) -> None:
    _MEMORY[name][topic].append(record)


@dataclass
class InMemory:
    """A job's module over ``stores``, which are what its function ``stores`` gives, or twins of them.

    After a run, a failed one too, ``written`` has what it wrote, by topic as (key, value), and ``counted`` its counters
    that are not 0. Jobs in two threads of a process count for each other: run one at a time.
    """

    job: ModuleType
    settings: Any
    stores: Any
    written: dict[str, list[Keyed]] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)

    def run(self, *values: Any, topic: str | None = None, lasting: bool = True, **options: Any) -> InMemory:
        """Run over the values: bytes or None as they are, others as JSON. Raises what failed the run.

        Each run's records are new ones, unless ``topic`` is one that had records before: these are then read again, as
        after a crash. ``options`` go to the job's function ``build``.
        """
        raw = tuple(value if isinstance(value, bytes | None) else orjson.dumps(value) for value in values)
        number = next(_numbers)
        sink = MemorySink(f"run {number}")
        forget_counts(self.job.NAME)
        try:
            with beam.Pipeline(runner="DirectRunner") as pipeline:
                records = MemorySource(raw, topic or f"run-{number}", lasting).read(pipeline)
                for output, written in self.job.build(records, self.settings, self.stores, **options).items():
                    sink.write(output, written)
                refuse_failures_without_sink(pipeline)
        finally:
            self.written = _MEMORY.pop(sink.name)
            self.counted = counted_in_this_process(self.job.NAME)
        return self

    def events(self, topic: str) -> list[Any]:
        """The values that the last run wrote to a topic, which are JSON."""
        return [orjson.loads(value) for _, value in self.written.get(topic, ())]
