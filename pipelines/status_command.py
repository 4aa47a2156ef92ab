"""`sunbird-pipelines status` and `cancel`: the jobs on Flink, and the records that wait for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import requests
import typer
from rich.console import Console
from rich.table import Table

from io_connectors.flink import Flink, FlinkError, FlinkJob, JobDetails
from io_connectors.flink_counters import counters_of
from pipelines.configuration import Loaded
from pipelines.flink import DEFAULTS
from pipelines.settings import UsageError
from pipelines.trace_topics import KafkaTopics
from transforms.stores import StoreUnavailable

__all__ = ["OnFlink", "cancel", "found_on_flink", "status", "waiting"]

# those that ask Kafka, side by side
AT_ONCE = 8
GATHERING_SECONDS = 2


class OnFlink(NamedTuple):
    """A job of Flink, one of ours or a group, and how it is."""

    job: FlinkJob
    details: JobDetails

    def has(self, name: str) -> bool:
        """Whether the job is this one, or one of its group, whose steps are named after it."""
        return name == self.job.name or any(f"{name}/" in task for task, _ in self.details.tasks)

    def told(self, name: str, now: float) -> str:
        """Its state in words; ``now`` in epoch seconds."""
        state, since, restarts, tasks = self.details
        where = "" if self.job.name == name else f" in {self.job.name}"
        if not self.details.runs:
            return f"{state}{where}, {self.details.tasks_up} of {len(tasks)} tasks run, {restarts} restarts"
        return f"{state}{where}, {int(now - since) // 60} min, {restarts} restarts"


def status(configured: Mapping[str, Loaded | str], *, counters: bool) -> int:
    """`_status`, or 1 when Flink goes away meanwhile."""
    try:
        return _status(configured, counters=counters)
    except requests.RequestException as error:
        typer.echo(f"error: Flink stopped answering: {error}", err=True)
        return 1


def _status(configured: Mapping[str, Loaded | str], *, counters: bool) -> int:
    """Print a line for each job, with its configuration or what is wrong with it; 0 when all run and Kafka answers."""
    clusters = {_flink(loaded) for loaded in configured.values() if isinstance(loaded, Loaded)}
    asked = {flink: _asked(flink) for flink in sorted(clusters, key=lambda flink: flink.address)}
    if counters:
        _counters_of(configured, asked)
    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        waits = dict(zip(configured, threads.map(_waits, configured.values()), strict=True))
    # Flink gathers what it is asked for when it is asked: the first answer may be an old one, or none
    time.sleep(max(0.0, begun + GATHERING_SECONDS - time.monotonic()))
    found = {flink: _asked(flink) if there else there for flink, there in asked.items()}
    table = Table("job", "on Flink", "waiting", "consumer group", box=None, pad_edge=False, header_style="bold")
    all_run = True
    kafka_answers = all(wait.asked for wait in waits.values())
    for job, loaded in configured.items():
        if isinstance(loaded, str):
            table.add_row(job, f"not configured: {loaded}")
            all_run = False
            continue
        there = [one for one in found[_flink(loaded)] if one.has(job)]
        all_run = all_run and any(one.details.runs for one in there)
        told = "; ".join(one.told(job, time.time()) for one in there) or "not there"
        table.add_row(job, told, waits[job].told, loaded.settings.kafka_group_id)
    console = Console(width=None if Console().is_terminal else 200, highlight=False)
    console.print(table)
    for flink, there in found.items():
        _print_causes(console, flink, [one for one in there if any(one.has(job) for job in configured)])
    for job, counted in _counters_of(configured, found) if counters else ():
        console.print()
        for name, number in counted.items():
            console.print(f"{job} {name} {number}")
    return 0 if all_run and kafka_answers else 1


def cancel(name: str, loaded: Loaded) -> int:
    """Cancel what is called ``name`` on Flink: 0, or 1 when Flink does not answer. Raises UsageError: no such job."""
    flink = _flink(loaded)
    try:
        living = flink.living()
        chosen = [job for job in living if job.name == name]
        if not chosen:
            there = ", ".join(sorted({job.name for job in living})) or "nothing"
            raise UsageError(f"{name} is not on Flink at {flink.address}; there is {there}")
        for job in chosen:
            flink.cancel(job.id)
            typer.echo(f"{name} is cancelled ({job.id})")
    except requests.ConnectionError:
        typer.echo(f"error: {_no_answer(flink)}", err=True)
        return 1
    except (requests.RequestException, FlinkError) as error:
        typer.echo(f"error: Flink at {flink.address}: {error}", err=True)
        return 1
    return 0


def found_on_flink(flink: Flink) -> list[OnFlink]:
    """The jobs that live on a cluster. Raises requests.RequestException."""
    return [OnFlink(job, flink.details(job.id)) for job in flink.living()]


def waiting(brokers: str, group: str, topic: str) -> int | None:
    """The records of a topic that lie behind the group's committed offsets; None where it has none yet.

    Raises StoreUnavailable, LookupError for a topic that is not there.
    """
    with closing(KafkaTopics(brokers)) as topics:
        backlog = topics.backlog(group, topic)
    behind = [number for partition, number in backlog.waiting.items() if backlog.committed.get(partition) is not None]
    return sum(behind) if behind else None


class _Waits(NamedTuple):
    """What is told of the records that wait, and whether Kafka could be asked."""

    told: str
    asked: bool = True


def _waits(loaded: Loaded | str) -> _Waits:
    if isinstance(loaded, str):
        return _Waits("")
    settings: Any = loaded.settings
    try:
        number = waiting(settings.kafka_broker_servers, settings.kafka_group_id, settings.kafka_input_topic)
    except LookupError as error:
        return _Waits(str(error.args[0]))
    except StoreUnavailable as error:
        return _Waits(str(error.args[0]), asked=False)
    return _Waits("no offsets yet" if number is None else f"{number}")


def _asked(flink: Flink) -> Sequence[OnFlink]:
    try:
        return found_on_flink(flink)
    except requests.RequestException:
        typer.echo(f"error: {_no_answer(flink)}", err=True)
        return ()


def _no_answer(flink: Flink) -> str:
    return f"Flink at {flink.address} does not answer. Is it up, and flink.master its REST address, HOST:PORT?"


def _print_causes(console: Console, flink: Flink, found: Sequence[OnFlink]) -> None:
    """Why jobs were restarted, or do not run."""
    for job, details in found:
        if (details.restarts or not details.runs) and (cause := flink.root_cause(job.id)):
            console.print(f"\n{job.name} failed last with: {cause}", markup=False)


def _counters_of(
    configured: Mapping[str, Loaded | str], found: Mapping[Flink, Sequence[OnFlink]]
) -> list[tuple[str, dict[str, int]]]:
    """The counters of each job, of every place where it is."""
    return [
        (name, counters_of(flink, one.job.id, (name,))[name])
        for name, loaded in configured.items()
        if isinstance(loaded, Loaded)
        for flink in (_flink(loaded),)
        for one in found[flink]
        if one.has(name)
    ]


def _flink(loaded: Loaded) -> Flink:
    return Flink(str(loaded.beam_options.get("flink_master") or DEFAULTS["flink_master"]).removeprefix("http://"))
