"""A job's own steps in this process, without a runner, and what they cost."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import apache_beam as beam
import psutil
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.pvalue import TaggedOutput

from tests.bench.processes import Sampler
from transforms.decode import Record
from transforms.keyed_batch import KeyedBatch

__all__ = ["Spent", "Steps", "steps_of", "watched"]

SAMPLE_SECONDS = 0.02

T = TypeVar("T")


@dataclass(frozen=True)
class Steps:
    """The two steps of a job: which records are work, and the work."""

    select: Any
    work: Any

    def begun(self) -> Steps:
        """The steps on a new worker."""
        work = copy(self.work)
        work.setup()
        return Steps(self.select, work)

    def handle(self, records: Sequence[Record]) -> list[TaggedOutput]:
        """A bundle of records, as a runner takes it through the steps."""
        outputs: list[TaggedOutput] = []
        self.work.start_bundle()
        for record in records:
            for selected in self.select.process(record):
                outputs += [selected] if isinstance(selected, TaggedOutput) else self.work.process(selected)
        # these come with a window around them
        ended = self.work.finish_bundle()
        return outputs + [TaggedOutput(output.tag, output.value.value) for output in ended]

    def handle_all(self, records: Sequence[Record], bundle: int) -> list[TaggedOutput]:
        """All records, ``bundle`` of them at a time."""
        cut = (records[start : start + bundle] for start in range(0, len(records), bundle))
        return [output for some in cut for output in self.handle(some)]


class _Found(PipelineVisitor):
    def __init__(self) -> None:
        self.select: Any = None
        self.work: Any = None

    def visit_transform(self, step: AppliedPTransform) -> None:
        fn = step.transform.fn if isinstance(step.transform, beam.ParDo) else None
        if isinstance(fn, KeyedBatch):
            self.work = fn
        elif fn is not None and step.full_label.startswith("Select "):
            self.select = fn


def steps_of(job: ModuleType, settings: Any, stores: Any, **options: Any) -> Steps:
    """What the job's build function, which gets ``options``, puts into a pipeline; that is never run."""
    pipeline = beam.Pipeline(runner="DirectRunner")
    job.build(pipeline | beam.Create([]).with_output_types(Record), settings, stores, **options)
    found = _Found()
    pipeline.visit(found)
    return Steps(found.select, found.work)


@dataclass(frozen=True)
class Spent:
    """Seconds; CPU seconds of the process with its clients' threads; megabytes.

    ``memory`` is the most that this process held meanwhile, ``grown`` how much more that is than before.
    """

    seconds: float
    cpu: float
    memory: float
    grown: float


def watched(work: Callable[[], T]) -> tuple[T, Spent]:
    """What ``work`` gives, and what it cost."""
    gc.collect()
    gc.freeze()
    this = psutil.Process()
    before = this.memory_info().rss
    sampler = Sampler(lambda: {"this": [this]}, SAMPLE_SECONDS)
    began, cpu = time.perf_counter(), time.process_time()
    try:
        done = work()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        sampler.close()
        gc.unfreeze()
    peak = sampler.series["this"].peak_megabytes
    return done, Spent(seconds, cpu, peak, max(0.0, peak - before / 1_000_000))
