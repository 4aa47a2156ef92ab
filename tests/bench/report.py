"""The numbers for people (a table) and for programs (JSON)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.assessments import AssessmentsMeasured
from tests.bench.certificates import CALLS_AT_ONCE, CertificatesMeasured
from tests.bench.load import Shape
from tests.bench.measure import JOB_PROCESSES, Latency, Measured, MemoryRun, Throughput
from tests.bench.reconciliation import ReconciliationsMeasured
from tests.bench.stages import StageProfile
from tests.bench.stores import Compared

__all__ = [
    "Everything",
    "machine",
    "measured_as_json",
    "memory_as_json",
    "show",
    "show_memory",
]

STORES = ("Cassandra", "Redis", "Kafka", "JobManager")
PERCENTILES = (50, 95, 99)
MEGABYTE = 1_000_000


class Everything(NamedTuple):
    """All that one call of the bench measured; what was not asked for is missing."""

    measured: Measured | None = None
    issued: CertificatesMeasured | None = None
    scored: Sequence[AssessmentsMeasured] = ()
    counted_again: ReconciliationsMeasured | None = None

    @property
    def is_right(self) -> bool:
        return all(found.is_right for found in (self.measured, self.issued, *self.scored, self.counted_again) if found)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": psutil.cpu_count(),
        "memory MB": psutil.virtual_memory().total // MEGABYTE,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load of the last minute": psutil.getloadavg()[0],
    }


def show(console: Console, shape: Shape, parallelism: int, everything: Everything) -> None:
    """Print all tables."""
    _show_machine(console)
    if everything.measured:
        _show_measured(console, shape, parallelism, everything.measured)
    if everything.issued:
        _show_certificates(console, everything.issued)
    if everything.scored:
        _show_assessments(console, everything.scored)
    if everything.counted_again:
        _show_reconciliations(console, everything.counted_again)


def _show_measured(console: Console, shape: Shape, parallelism: int, measured: Measured) -> None:
    low, high = shape.contents_per_event
    console.print(
        f"{shape.events} events of {shape.learners} learners, {low}-{high} contents each; "
        f"{shape.leaf_nodes} leaf nodes in {shape.units} units; "
        f"{shape.duplicates:.0%} duplicates, {shape.skipped:.0%} skipped; parallelism {parallelism}",
        highlight=False,
    )
    _show_throughput(console, measured)
    if measured.latency:
        _show_latency(console, measured.latency)
    if measured.stages:
        _show_stages(console, measured.stages, measured.warm)
    if measured.functions:
        _show_functions(console, measured.functions)
    _show_correct(console, measured.correct)
    if measured.restarts:
        console.print(f"Flink restarted the job {measured.restarts} times", style="red")


def _show_machine(console: Console) -> None:
    found = machine()
    console.print(
        f"\n{found['cores']} cores of {found['cpu']}, {found['memory MB'] / 1000:.0f} GB, {found['system']}, "
        f"Python {found['python']}; load {found['load of the last minute']:.1f}",
        highlight=False,
    )


def _show_throughput(console: Console, measured: Measured) -> None:
    table = _table("throughput", "from the start", "warm", "peak MB of one")
    runs = [run for run in (measured.cold, measured.warm) if run]
    table.add_row("events/s", *(f"{run.events_per_second:.0f}" for run in runs), "")
    table.add_row("seconds", *(f"{run.ended - run.began:.1f}" for run in runs), "")
    table.add_row("seconds to the first event written", *(f"{run.first - run.began:.1f}" for run in runs), "")
    table.add_section()
    table.add_row("CPU seconds per 1,000 events:", *("" for _ in runs), "")
    table.add_row("the job", *(f"{run.cpu_per_1000(*JOB_PROCESSES):.2f}" for run in runs), "")
    for process in (*JOB_PROCESSES, *STORES):
        indent = "  " if process in JOB_PROCESSES else ""
        peak = f"{measured.memory.get(process, 0):.0f}"
        table.add_row(indent + process, *(f"{run.cpu_per_1000(process):.2f}" for run in runs), peak)
    console.print(table)


def _show_latency(console: Console, latency: Latency) -> None:
    table = _table("latency", *(f"p{percent}" for percent in PERCENTILES), "largest")
    table.add_row(
        f"{latency.rate:g} events/s, {len(latency.milliseconds)} events",
        *(f"{latency.percentile(percent):.0f} ms" for percent in (*PERCENTILES, 100)),
    )
    console.print(table)


def _show_stages(console: Console, profile: StageProfile, warm: Throughput | None) -> None:
    table = _table(f"stages ({profile.events} events in this process)", "wall", "share", "CPU s/1,000", "share")
    for stage, spent in profile.stages.items():
        table.add_row(
            stage,
            f"{spent.wall:.2f} s",
            f"{spent.wall / profile.wall:.0%}",
            f"{1000 * spent.cpu / profile.events:.3f}",
            f"{spent.cpu / profile.cpu:.0%}",
        )
    table.add_section()
    of_all = 1000 * profile.cpu / profile.events
    table.add_row("all of the job's own", f"{profile.wall:.2f} s", "", f"{of_all:.3f}", "")
    if warm:
        rest = warm.cpu_per_1000(*JOB_PROCESSES) - of_all
        table.add_row("Beam and Flink (what the job uses beyond that, warm)", "", "", f"{rest:.3f}", "")
    console.print(table)


def _show_functions(console: Console, profile: StageProfile) -> None:
    table = _table(
        f"functions ({profile.events} events, calling thread, under cProfile)", "own s", "with callees", "calls"
    )
    for function in profile.functions:
        table.add_row(function.name, f"{function.own:.3f}", f"{function.cumulative:.3f}", str(function.calls))
    console.print(table)


def _show_correct(console: Console, correct: dict[str, Compared]) -> None:
    table = _table("end state", "right", "wrong")
    for what, compared in correct.items():
        style = "red" if compared.wrong else None
        table.add_row(what, str(compared.right), str(compared.wrong), style=style)
    console.print(table)
    for what, compared in correct.items():
        for example in compared.examples:
            console.print(f"wrong: {what}: {example}", style="red", highlight=False, markup=False, soft_wrap=True)


def _show_certificates(console: Console, measured: CertificatesMeasured) -> None:
    """Print what was measured of the certificate jobs."""
    plan = measured.plan
    table = _table(f"{plan.learners} certificates, services answer in {plan.answer_ms} ms", "")
    table.add_row("certificates/s, through both jobs", f"{measured.per_second:.0f}")
    table.add_row("seconds", f"{measured.seconds:.1f}")
    most = f"{measured.most_calls_at_once} of {2 * CALLS_AT_ONCE} allowed"
    table.add_row("calls of both jobs in flight, at most", most)
    for process, seconds in measured.cpu.items():
        table.add_row(f"CPU milliseconds per certificate, {process}", f"{1000 * seconds / plan.learners:.1f}")
    table.add_row("peak MB of a Python worker", f"{measured.memory.get('Python workers', 0):.0f}")
    drawn = f"{measured.drawing_ms:.1f}"
    table.add_row("CPU milliseconds for document, QR code and picture, without RC", drawn)
    console.print(table)
    _show_correct(console, measured.correct)


def _show_assessments(console: Console, measured: Sequence[AssessmentsMeasured]) -> None:
    """Print what was measured of the scoring of attempts."""
    table = _table(
        f"{measured[0].attempts} attempts, scored in this process",
        *(f"{run.questions} questions, {run.event_bytes / 1000:.0f} kB" for run in measured),
    )
    table.add_row("events/s", *(f"{run.per_second:.0f}" for run in measured))
    table.add_row("CPU seconds per 1,000 events", *(f"{run.cpu_per_1000:.2f}" for run in measured))
    table.add_row("peak MB of this process", *(f"{run.spent.memory:.0f}" for run in measured))
    table.add_row("  more than before", *(f"{run.spent.grown:.0f}" for run in measured))
    console.print(table)
    for run in measured:
        _show_correct(console, run.correct)


def _show_reconciliations(console: Console, measured: ReconciliationsMeasured) -> None:
    """Print what was measured of counting progress again."""
    plan = measured.plan
    table = _table(
        f"{plan.reconciliations} learners counted again, in this process",
        f"{plan.leaf_nodes} contents in {plan.units} units",
    )
    table.add_row("events/s", f"{measured.per_second:.0f}")
    table.add_row("CPU seconds per 1,000 events", f"{measured.cpu_per_1000:.2f}")
    table.add_row("peak MB of this process", f"{measured.spent.memory:.0f}")
    table.add_row("  more than before", f"{measured.spent.grown:.0f}")
    console.print(table)
    _show_correct(console, measured.correct)


def show_memory(console: Console, run: MemoryRun) -> None:
    """Print what a long run said about memory."""
    _show_machine(console)
    table = _table(f"memory over {run.events} events", "MB")
    for name, megabytes in run.memory.items():
        table.add_row(f"{name}, peak", f"{megabytes:.0f}")
    table.add_row("Python worker, growth from the second to the last quarter", f"{run.growth:+.1f}")
    table.add_row("events/s, with the load generator on the same machine", f"{run.events_per_second:.0f}")
    console.print(table)
    _show_correct(console, run.correct)


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


# --- JSON


def measured_as_json(shape: Shape, parallelism: int, everything: Everything) -> bytes:
    """The same numbers; times in seconds (latency in milliseconds), memory in megabytes."""
    measured, issued, scored, counted_again = everything
    found: dict[str, Any] = {"machine": machine()}
    if measured:
        found |= {"load": shape.__dict__, "parallelism": parallelism, **_measured(measured)}
    return _json(
        {
            **found,
            "certificates": _certificates(issued) if issued else None,
            "assessments": [_assessments(run) for run in scored],
            "reconciliations": _reconciliations(counted_again) if counted_again else None,
        }
    )


def _measured(measured: Measured) -> dict[str, Any]:
    runs = {"from the start": measured.cold, "warm": measured.warm}
    return {
        "throughput": {name: _throughput(run) for name, run in runs.items() if run},
        "latency": _latency(measured.latency) if measured.latency else None,
        "peak memory": measured.memory,
        "stages": _stages(measured.stages) if measured.stages else None,
        "functions": [function.__dict__ for function in measured.functions.functions] if measured.functions else None,
        "end state": _correct(measured.correct),
        "restarts": measured.restarts,
    }


def memory_as_json(run: MemoryRun) -> bytes:
    """The samples and what follows from them; megabytes, and seconds since the job ran."""
    return _json(
        {
            "machine": machine(),
            "events": run.events,
            "events per second": run.events_per_second,
            "peak memory": run.memory,
            "growth of the Python worker": run.growth,
            "samples of the Python worker": run.samples,
            "end state": _correct(run.correct),
        }
    )


def _throughput(run: Throughput) -> dict[str, Any]:
    return {
        "events": run.events,
        "seconds": run.ended - run.began,
        "seconds to the first event written": run.first - run.began,
        "events per second": run.events_per_second,
        "CPU seconds": run.cpu,
        "CPU seconds per 1,000 events": {
            "the job": run.cpu_per_1000(*JOB_PROCESSES),
            **{process: run.cpu_per_1000(process) for process in run.cpu},
        },
    }


def _latency(latency: Latency) -> dict[str, Any]:
    return {
        "events per second": latency.rate,
        "events": latency.events,
        "events with an end state of their own": len(latency.milliseconds),
        "milliseconds": {f"p{percent}": latency.percentile(percent) for percent in (*PERCENTILES, 100)},
        "CPU seconds": latency.cpu,
    }


def _stages(profile: StageProfile) -> dict[str, Any]:
    return {
        "events": profile.events,
        "seconds": profile.wall,
        "CPU seconds": profile.cpu,
        "CPU seconds of the calling thread and of the clients' threads": profile.threads,
        "stages": {stage: spent.__dict__ for stage, spent in profile.stages.items()},
    }


def _certificates(measured: CertificatesMeasured) -> dict[str, Any]:
    return {
        "certificates": measured.plan.learners,
        "milliseconds until a service answers": measured.plan.answer_ms,
        "certificates per second": measured.per_second,
        "seconds": measured.seconds,
        "calls in flight, at most": measured.most_calls_at_once,
        "calls in flight, allowed": 2 * CALLS_AT_ONCE,
        "CPU seconds": measured.cpu,
        "peak memory": measured.memory,
        "CPU milliseconds for document, QR code and picture": measured.drawing_ms,
        "end state": _correct(measured.correct),
    }


def _assessments(measured: AssessmentsMeasured) -> dict[str, Any]:
    return {
        "attempts": measured.attempts,
        "questions of each": measured.questions,
        "bytes of an event": measured.event_bytes,
        **_spent(measured),
    }


def _reconciliations(measured: ReconciliationsMeasured) -> dict[str, Any]:
    plan = measured.plan
    return {
        "learners": plan.reconciliations,
        "contents of the course": plan.leaf_nodes,
        "units": plan.units,
        **_spent(measured),
    }


def _spent(measured: AssessmentsMeasured | ReconciliationsMeasured) -> dict[str, Any]:
    return {
        "seconds": measured.spent.seconds,
        "events per second": measured.per_second,
        "CPU seconds": measured.spent.cpu,
        "CPU seconds per 1,000 events": measured.cpu_per_1000,
        "peak memory": measured.spent.memory,
        "peak memory above what there was before": measured.spent.grown,
        "end state": _correct(measured.correct),
    }


def _correct(correct: dict[str, Compared]) -> dict[str, Any]:
    return {what: compared.__dict__ for what, compared in correct.items()}


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
