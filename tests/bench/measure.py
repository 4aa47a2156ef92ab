"""One measurement from beginning to end: the stack, the loads, the job on Flink, and what is read off."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import psutil

from deploy.local.progress import Progress
from deploy.local.stack import Stack
from pipelines import flink, jobs
from pipelines.configuration import load as load_settings
from tests.bench.job import submitted
from tests.bench.kafka import CERTIFICATE, FAILED, Outcome, Outputs, Topics, publish, topics
from tests.bench.load import Load, Shape, load_of
from tests.bench.processes import MEGABYTE, Sampler, Series
from tests.bench.stages import StageProfile, profiled
from tests.bench.stores import DEDUP_DATABASE, EXAMPLES, RELATION_CACHE_DATABASE, Compared, Stores, opened

__all__ = [
    "JOB",
    "JOB_PROCESSES",
    "Latency",
    "Measured",
    "MemoryRun",
    "Plan",
    "Throughput",
    "measure",
    "measure_memory",
]

JOB = "activity-aggregate-updater"
SERVICES = ("kafka", "cassandra", "redis", "flink", "stubs")
PYTHON, POOL, TASKMANAGER = "Python worker", "worker pool", "TaskManager"
JOB_PROCESSES = (PYTHON, POOL, TASKMANAGER)
SERVERS = {
    POOL: "worker-pool",
    TASKMANAGER: "taskmanager",
    "JobManager": "jobmanager",
    "Cassandra": "cassandra",
    "Redis": "redis",
    "Kafka": "kafka",
}
WORKERS_KNOWN_SECONDS = 1.0
WARM_UP_EVENTS = 300
MEMORY_BLOCK_EVENTS = 20_000
MEMORY_SAMPLE_SECONDS = 5.0
MEMORY_COMPARED = 200


@dataclass(frozen=True)
class Plan:
    """What is to be measured. ``rate`` in events a second, ``seconds`` how long the latency is measured at it.

    ``profile_events`` go through the job's steps in this process; ``functions`` asks for the costliest functions, too.
    """

    shape: Shape
    parallelism: int = 1
    rate: float = 100.0
    seconds: float = 30.0
    profile_events: int = 2_000
    functions: bool = False
    beam_options: tuple[str, ...] = ()
    batch_size: int | None = None


@dataclass(frozen=True)
class Throughput:
    """A backlog worked off: ``began`` and ``ended`` in seconds since the epoch.

    ``began`` is when Flink says that all steps run (a job that starts on a full topic), or the Kafka timestamp of the
    first record (a job that runs already); ``ended`` when the broker took the last event that the job wrote. ``first``
    is when it took the first one. ``cpu``: process -> CPU seconds in between.
    """

    events: int
    began: float
    first: float
    ended: float
    cpu: dict[str, float]

    @property
    def events_per_second(self) -> float:
        return self.events / (self.ended - self.began)

    def cpu_per_1000(self, *processes: str) -> float:
        return 1000 * sum(self.cpu.get(process, 0.0) for process in processes) / self.events


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an event's Kafka timestamp until the broker has the last AUDIT event of its contents.

    Only events that do something have one. AUDIT events leave the job after all writes to the stores.
    """

    events: int
    rate: float
    milliseconds: list[int] = field(repr=False)
    cpu: dict[str, float]

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.milliseconds)
        return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]) if ordered else float("nan")


@dataclass
class Measured:
    """All that was found. ``correct``: what was compared -> how much of it is right and wrong."""

    cold: Throughput | None = None
    warm: Throughput | None = None
    latency: Latency | None = None
    memory: dict[str, float] = field(default_factory=dict)
    correct: dict[str, Compared] = field(default_factory=dict)
    stages: StageProfile | None = None
    functions: StageProfile | None = None
    restarts: int = 0

    @property
    def is_right(self) -> bool:
        return all(compared.wrong == 0 for compared in self.correct.values())


@dataclass
class MemoryRun:
    """Memory over a long run. ``samples``: (seconds since the start, megabytes of the largest Python worker)."""

    events: int
    samples: list[tuple[float, float]]
    memory: dict[str, float]
    correct: dict[str, Compared]
    events_per_second: float

    @property
    def growth(self) -> float:
        """Megabytes by which the last quarter's median lies above the second quarter's."""
        values = [megabytes for _, megabytes in self.samples]
        quarter = len(values) // 4
        return median(values[-quarter:]) - median(values[quarter : 2 * quarter]) if quarter else 0.0

    @property
    def is_right(self) -> bool:
        return all(compared.wrong == 0 for compared in self.correct.values())


class _Bench:
    """What every measurement needs: the stores, the topics, and the judgement of what comes out."""

    def __init__(
        self, stores: Stores, outputs: Outputs, names: Topics, settings: dict[str, Any], run: str, shape: Shape
    ) -> None:
        self.stores = stores
        self.outputs = outputs
        self.names = names
        self.settings = settings
        self.brokers = str(settings["kafka.broker-servers"])
        self.course = shape.course(run)
        self.correct: dict[str, Compared] = {}
        self._outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
        self._run = run
        stores.publish(self.course)

    def load(self, name: str, shape: Shape) -> Load:
        """Generate a load and put into the stores what is there before it."""
        load = Load.of(shape, self.course, f"{name}-{self._run}", seed=shape.events)
        self.stores.enrol(load)
        return load

    def publish(self, load: Load, rate: float | None = None) -> list[int]:
        records = [(message.key, message.value) for message in load.scenario.messages]
        return publish(self.brokers, self.names.input, records, rate)

    def finish(self, load: Load) -> list[Outcome]:
        """Wait for what the load implies; gives what came of it and judges it."""
        wanted = load.audits().total() + load.certificates().total()
        while (missing := wanted - len(self._outcomes[load.name])) > 0 and self.outputs.wait(missing):
            self._take(load)
        self._take(load)
        outcomes = self._outcomes.pop(load.name)
        for what, compared in judge(load, outcomes).items():
            self._add(what, compared)
        return outcomes

    def _take(self, load: Load) -> None:
        """Sort what came by the load that it belongs to; what names no learner counts for the one at hand."""
        for outcome in self.outputs.take():
            self._outcomes[load_of(outcome.user_id) or load.name].append(outcome)

    def compare(self, load: Load, **only: Any) -> None:
        for table, compared in self.stores.compare(load, **only).items():
            self._add(table, compared)

    def _add(self, what: str, compared: Compared) -> None:
        total = self.correct.setdefault(what, Compared())
        total.right += compared.right
        total.wrong += compared.wrong
        total.examples = (total.examples + compared.examples)[:EXAMPLES]

    def nothing_more_came(self) -> None:
        """What came after all was there is too much."""
        late = [*(outcome for rest in self._outcomes.values() for outcome in rest), *self.outputs.take()]
        for outcome in late:
            self._add("AUDIT events", Compared(wrong=1, examples=[f"too much: {outcome}"]))


def judge(load: Load, outcomes: list[Outcome]) -> dict[str, Compared]:
    """How many of the output events are right: each that the load implies once, and no others."""
    audits = Counter(outcome[1:] for outcome in outcomes if outcome.kind not in (CERTIFICATE, FAILED))
    requests = Counter(outcome.user_id for outcome in outcomes if outcome.kind == CERTIFICATE)
    judged = {"AUDIT events": Compared(), "certificate requests": Compared(), "dead letters": Compared()}
    judged["AUDIT events"].note_all("", load.audits(), audits)
    judged["certificate requests"].note_all("", load.certificates(), requests)
    judged["dead letters"].wrong = sum(outcome.kind == FAILED for outcome in outcomes)
    return judged


def latencies(load: Load, timestamps: list[int], outcomes: list[Outcome]) -> list[int]:
    """Milliseconds from the timestamp of each event that does something to the last AUDIT event of its contents."""
    ends: dict[int, int] = {}
    for outcome in outcomes:
        place = load.first_reports.get((outcome.user_id, outcome.object_id))
        if place is not None:
            ends[place] = max(ends.get(place, 0), outcome.timestamp)
    return [end - timestamps[place] for place, end in sorted(ends.items())]


def measure(plan: Plan, stack: Stack, progress: Progress) -> Measured:
    """Measure throughput on a full topic, once from the job's start and once with the job warm, then latency.

    Raises StackError when the stack can not be had, NotRunning when the job does not come up.
    """
    measured = Measured()
    with _prepared(plan.shape, plan.parallelism, stack, progress) as bench, tempfile.TemporaryDirectory() as directory:
        progress("load", f"{plan.shape.events} events of {plan.shape.learners} learners, enrolled and on the topic")
        cold = bench.load("cold", plan.shape)
        warm = bench.load("warm", plan.shape)
        events = round(plan.rate * plan.seconds)
        paced = bench.load("paced", _resized(plan.shape, events)) if events else None
        bench.publish(cold)
        progress("load", f"{plan.shape.events} events wait on the topic", done=True)

        progress("job", "being submitted to Flink")
        with _sampled(stack) as sampler:
            arguments = (JOB, bench.settings, plan.parallelism, Path(directory), plan.beam_options)
            with submitted(*arguments) as running:
                progress("job", "works off the topic")
                outcomes = bench.finish(cold)
                measured.cold = _throughput(cold, running.began, outcomes, sampler)
                progress("job", "works off the same load once more, now warm")
                timestamps = bench.publish(warm)
                outcomes = bench.finish(warm)
                measured.warm = _throughput(warm, min(timestamps) / 1000, outcomes, sampler)
                if paced:
                    progress("job", f"gets {plan.rate:g} events a second for {plan.seconds:g} s")
                    timestamps = bench.publish(paced, plan.rate)
                    outcomes = bench.finish(paced)
                    measured.latency = _latency(paced, plan.rate, timestamps, outcomes, sampler)
                measured.restarts = running.restarts()
            bench.nothing_more_came()
            progress("job", "done", done=True)
        measured.memory = {name: series.peak_megabytes for name, series in sampler.series.items()}

        progress("end state", "being compared")
        for load in (cold, warm, paced):
            if load:
                bench.compare(load)
        measured.correct = bench.correct
        progress("end state", "compared", done=True)
        del cold, warm, paced, load

        progress("stages", "the job's steps in this process, on the same stores")
        measured.stages = _stages(bench, plan, "stages", functions=False)
        if plan.functions:
            measured.functions = _stages(bench, plan, "functions", functions=True)
        progress("stages", "measured", done=True)
    return measured


def measure_memory(
    events: int, shape: Shape, parallelism: int, stack: Stack, progress: Progress, beam_options: tuple[str, ...] = ()
) -> MemoryRun:
    """Keep the job busy with so many events, always some waiting, and watch its memory.

    The end state of some learners of each block is compared, all AUDIT events and certificate requests are.
    """
    blocks = max(1, round(events / MEMORY_BLOCK_EVENTS))
    of_block = _resized(shape, min(events, MEMORY_BLOCK_EVENTS))
    with _prepared(shape, parallelism, stack, progress) as bench, tempfile.TemporaryDirectory() as directory:
        waiting = [bench.load("block-0", of_block)]
        bench.publish(waiting[0])
        with _sampled(stack, MEMORY_SAMPLE_SECONDS) as sampler:
            arguments = (JOB, bench.settings, parallelism, Path(directory), beam_options)
            with submitted(*arguments) as running:
                for block in range(blocks):
                    if block + 1 < blocks:
                        waiting.append(bench.load(f"block-{block + 1}", of_block))
                        bench.publish(waiting[-1])
                    load = waiting.pop(0)
                    bench.finish(load)
                    bench.compare(load, enrolments=list(load.end_states)[:MEMORY_COMPARED])
                    megabytes = sampler.series[PYTHON].memory[-1] / MEGABYTE
                    progress("memory", f"{(block + 1) * of_block.events} events, Python worker {megabytes:.0f} MB")
                seconds = time.time() - running.began
            bench.nothing_more_came()
    series = sampler.series[PYTHON]
    samples = [
        (at - running.began, memory / MEGABYTE)
        for at, memory in zip(series.times, series.memory, strict=True)
        if running.began <= at <= running.began + seconds
    ]
    progress("memory", "done", done=True)
    memory = {name: series.peak_megabytes for name, series in sampler.series.items()}
    return MemoryRun(blocks * of_block.events, samples, memory, bench.correct, blocks * of_block.events / seconds)


@contextmanager
def _prepared(shape: Shape, parallelism: int, stack: Stack, progress: Progress) -> Iterator[_Bench]:
    """Bring up what is not up, and make stores and topics of an own environment."""
    stack.up(SERVICES)
    found = stack.environment()
    run = f"bench{int(time.time())}"
    with (
        opened(found, found["job.env"], run) as stores,
        topics(found["kafka.broker-servers"], run, max(2, parallelism)) as names,
    ):
        outputs = Outputs(found["kafka.broker-servers"], names)
        settings = {
            **found,
            **names.settings,
            "job.env": run,
            "lms-cassandra.keyspace": run,
            "redis.database.relationCache.id": RELATION_CACHE_DATABASE,
            "dedup-redis.database.index": DEDUP_DATABASE,
        }
        try:
            yield _Bench(stores, outputs, names, settings, run, shape)
        finally:
            outputs.close()


@contextmanager
def _sampled(stack: Stack, every: float | None = None) -> Iterator[Sampler]:
    """Sample all processes that take part. Of the Python workers, those that start from now on."""
    sampler = Sampler(_processes(stack, time.time()), *([every] if every else []))
    try:
        yield sampler
    finally:
        sampler.close()


def _processes(stack: Stack, since: float) -> Callable[[], Mapping[str, Sequence[psutil.Process]]]:
    servers = {name: [stack.process(process)] for name, process in SERVERS.items()}
    known: list[psutil.Process] = []
    looked = 0.0

    def now() -> Mapping[str, Sequence[psutil.Process]]:
        nonlocal known, looked
        # looking through all processes of the machine costs more than the samples
        if time.monotonic() - looked > WORKERS_KNOWN_SECONDS:
            known = [worker for worker in stack.workers() if worker.create_time() >= since]
            looked = time.monotonic()
        return {PYTHON: known, **servers}

    return now


def _resized(shape: Shape, events: int) -> Shape:
    return Shape(
        events,
        Shape.learners_for(events),
        shape.leaf_nodes,
        shape.units,
        shape.contents_per_event,
        shape.duplicates,
        shape.skipped,
    )


def _throughput(load: Load, began: float, outcomes: list[Outcome], sampler: Sampler) -> Throughput:
    timestamps = [outcome.timestamp / 1000 for outcome in outcomes]
    ended = max(timestamps, default=began)
    cpu = _cpu(sampler.series, began, ended)
    return Throughput(len(load.scenario.messages), began, min(timestamps, default=began), ended, cpu)


def _latency(load: Load, rate: float, timestamps: list[int], outcomes: list[Outcome], sampler: Sampler) -> Latency:
    ended = max((outcome.timestamp for outcome in outcomes), default=timestamps[-1])
    cpu = _cpu(sampler.series, timestamps[0] / 1000, ended / 1000)
    return Latency(len(timestamps), rate, latencies(load, timestamps, outcomes), cpu)


def _cpu(series: Mapping[str, Series], begin: float, end: float) -> dict[str, float]:
    return {name: of_process.cpu_between(begin, end) for name, of_process in series.items()}


def _stages(bench: _Bench, plan: Plan, name: str, functions: bool) -> StageProfile:
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory) / "settings.json"
        configuration.write_bytes(orjson.dumps(bench.settings))
        job = jobs.load(JOB)
        settings = load_settings(job.Settings, [configuration], [], {}, job_name=JOB).settings
    warm_up = bench.load(f"{name}-warm-up", _resized(plan.shape, WARM_UP_EVENTS))
    load = bench.load(name, _resized(plan.shape, plan.profile_events))
    batch = plan.batch_size or int(flink.DEFAULTS["max_bundle_size"])
    return profiled(job, settings, warm_up, load, batch, functions)
