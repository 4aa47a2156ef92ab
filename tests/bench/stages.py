"""Where the time of a batch goes: the job's own steps in this process, on the real stores, with a watch around them.

The steps are those that the job's build function makes. Only the recipes of the stores that it is given are wrapped,
and the functions that make its output events; the product itself carries no timers.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from unittest import mock

import apache_beam as beam
import psutil
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from tests.bench.load import Load
from transforms import update_progress
from transforms.consumption import SelectConsumption
from transforms.decode import Record
from transforms.stores import KeyValues, Opens, Row, Select, Tables, Update
from transforms.update_progress import ProgressStores

__all__ = ["Function", "Spent", "StageProfile", "profiled"]

SELECT = "decode and select"
DEDUP = "dedup look-up"
RELATIONS = "relation cache"
READS = "Cassandra reads"
COMPUTE = "compute"
PLANS = "plans"
WRITES = "Cassandra writes"
CHECKSUMS = "checksums"
EMIT = "emit (make the events)"
STAGES = (SELECT, DEDUP, RELATIONS, READS, COMPUTE, PLANS, WRITES, CHECKSUMS, EMIT)

_EVENTS = ("content_audit", "certificate_request", "enrolment_audit")
FUNCTIONS_LISTED = 25


@dataclass
class Spent:
    """Seconds of the clock, and seconds of CPU of the whole process, client threads included."""

    wall: float = 0.0
    cpu: float = 0.0
    calls: int = 0


@dataclass(frozen=True)
class Function:
    """A line of the profile: seconds in the function itself, and with what it calls."""

    name: str
    calls: int
    own: float
    cumulative: float


@dataclass(frozen=True)
class StageProfile:
    """What ``events`` took in this process, stage by stage; ``functions`` has the costliest of the calling thread.

    ``threads`` has the CPU seconds of the calling thread and of all others (those of the clients).
    """

    events: int
    stages: dict[str, Spent]
    threads: tuple[float, float]
    functions: list[Function] = field(default_factory=list)

    @property
    def wall(self) -> float:
        return sum(spent.wall for spent in self.stages.values())

    @property
    def cpu(self) -> float:
        return sum(spent.cpu for spent in self.stages.values())


class _Watch:
    """Time spent in each stage. A stage inside another one is not counted in the outer one."""

    def __init__(self) -> None:
        self.spent = {stage: Spent() for stage in STAGES}
        self._inner: list[Spent] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._inner.append(Spent())
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            passed = Spent(time.perf_counter() - wall, time.process_time() - cpu)
            inner = self._inner.pop()
            spent = self.spent[name]
            spent.wall += passed.wall - inner.wall
            spent.cpu += passed.cpu - inner.cpu
            spent.calls += 1
            if self._inner:
                self._inner[-1].wall += passed.wall
                self._inner[-1].cpu += passed.cpu

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            with self.stage(name):
                return function(*arguments)

        return watched


# Beam pickles a step when it is made, so a recipe finds its watch here.
_watch = _Watch()


class _TimedTables:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def select(self, selects: Sequence[Select]) -> list[Any]:
        with _watch.stage(READS):
            found: list[list[Row] | Any] = self._tables.select(selects)
            return found

    def write(self, batches: Sequence[Sequence[Update]]) -> list[Any]:
        with _watch.stage(WRITES):
            return list(self._tables.write(batches))


class _TimedKeyValues:
    def __init__(self, key_values: KeyValues) -> None:
        self._key_values = key_values

    def __getattr__(self, name: str) -> Any:
        return getattr(self._key_values, name)

    def members(self, keys: Sequence[str]) -> list[frozenset[str]]:
        with _watch.stage(RELATIONS):
            return self._key_values.members(keys)

    def get(self, keys: Sequence[str]) -> list[str | None]:
        with _watch.stage(DEDUP):
            return self._key_values.get(keys)

    def exists(self, keys: Collection[str]) -> list[bool]:
        with _watch.stage(DEDUP):
            return self._key_values.exists(list(keys))

    def set(self, values: Mapping[str, str], expiry: int | None = None) -> None:
        with _watch.stage(PLANS if next(iter(values)).startswith("plan:") else CHECKSUMS):
            self._key_values.set(values, expiry)


@dataclass(frozen=True)
class _Timed:
    """The recipe of a store with a watch around it."""

    recipe: Opens[Any]
    wrapper: Callable[[Any], Any]

    def open(self) -> Any:
        return self.wrapper(self.recipe.open())


def profiled(
    job: ModuleType, settings: Any, warm_up: Load, load: Load, batch_size: int, functions: bool = False
) -> StageProfile:
    """Run the load's records through the job's steps, ``batch_size`` at a time, after those of ``warm_up``.

    With ``functions``, under cProfile, which makes everything slower: the stages' times are then of no use. The
    learners of both loads have to be in the stores; what the job writes, it writes.
    """
    global _watch
    select, progress = _steps(job, settings, _with_watch(job.stores(settings)))
    progress.setup()
    offset = 0
    for of_load in (warm_up, load):
        _watch = _Watch()
        profile = cProfile.Profile()
        before = _threads()
        records = [
            Record(message.value, load.scenario.courses[0].id, 0, offset + place, 0, lasting=True)
            for place, message in enumerate(of_load.scenario.messages)
        ]
        offset += len(records)
        # what this process keeps for other reasons is not the garbage collector's business in these steps
        gc.collect()
        gc.freeze()
        watched = {name: _watch.around(EMIT, getattr(update_progress, name)) for name in _EVENTS}
        with nullcontext() if functions else mock.patch.multiple(update_progress, **watched):
            if functions:
                profile.enable()
            for start in range(0, len(records), batch_size):
                _run(select, progress, records[start : start + batch_size])
            profile.disable()
        gc.unfreeze()
    after = _threads()
    return StageProfile(
        len(load.scenario.messages),
        _watch.spent,
        (after[0] - before[0], after[1] - before[1]),
        _costliest(profile) if functions else [],
    )


def _run(select: Any, progress: Any, records: list[Record]) -> None:
    """One bundle through both steps, as the runner calls them."""
    progress.start_bundle()
    with _watch.stage(SELECT):
        selected = [output for record in records for output in select.process(record)]
    with _watch.stage(COMPUTE):
        for element in selected:
            if isinstance(element, tuple):
                progress.process(element)
        progress.finish_bundle()


def _with_watch(stores: ProgressStores) -> ProgressStores:
    return replace(
        stores,
        tables=_Timed(stores.tables, _TimedTables),
        relation_cache=_Timed(stores.relation_cache, _TimedKeyValues),
        dedup=_Timed(stores.dedup, _TimedKeyValues) if stores.dedup else None,
    )


class _Steps(PipelineVisitor):
    def __init__(self) -> None:
        self.found: dict[type, Any] = {}

    def visit_transform(self, step: AppliedPTransform) -> None:
        if isinstance(step.transform, beam.ParDo):
            self.found[type(step.transform.fn)] = step.transform.fn


def _steps(job: ModuleType, settings: Any, stores: ProgressStores) -> tuple[Any, Any]:
    """The DoFns that the job's build function puts into a pipeline, which is never run."""
    pipeline = beam.Pipeline(runner="DirectRunner")
    job.build(pipeline | beam.Create([]).with_output_types(Record), settings, stores)
    finder = _Steps()
    pipeline.visit(finder)
    return finder.found[SelectConsumption], finder.found[update_progress.UpdateProgress]


def _threads() -> tuple[float, float]:
    """CPU seconds so far: of this thread, and of all others of the process."""
    own = time.thread_time()
    times = psutil.Process().cpu_times()
    return own, times.user + times.system - own


def _costliest(profile: cProfile.Profile) -> list[Function]:
    rows = []
    for (file, line, name), (_, calls, own, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        place = "/".join(file.split("/")[-2:])
        rows.append(Function(f"{place}:{line}({name})" if line else name, calls, own, cumulative))
    return sorted(rows, key=lambda row: row.own, reverse=True)[:FUNCTIONS_LISTED]
