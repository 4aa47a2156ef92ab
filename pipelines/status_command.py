"""`sunbird-pipelines status` and `cancel`: the jobs on Flink, and the records that wait for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import requests
import typer
from confluent_kafka import Consumer, KafkaException, TopicPartition
from rich.console import Console
from rich.table import Table

from io_connectors.kafka import once_the_group_is_found
from pipelines.configuration import Loaded
from pipelines.flink import DEFAULTS
from pipelines.settings import UsageError

__all__ = ["OnFlink", "cancel", "found_on_flink", "status", "waiting"]

KAFKA_SECONDS = 10
# those that ask Kafka, side by side
AT_ONCE = 8
RUNNING = "RUNNING"
GATHERING_SECONDS = 2


class OnFlink(NamedTuple):
    """A job of Flink: one of ours, or a group. ``tasks`` are (name, state)."""

    id: str
    name: str
    state: str
    since: float
    restarts: int
    tasks: tuple[tuple[str, str], ...]

    def has(self, job: str) -> bool:
        """Whether the job is this one, or one of its group, whose steps are named after it."""
        return job == self.name or any(f"{job}/" in name for name, _ in self.tasks)

    @property
    def runs(self) -> bool:
        """Whether every task does."""
        return self.state == RUNNING and bool(self.tasks) and all(state == RUNNING for _, state in self.tasks)

    def told(self, job: str, now: float) -> str:
        """Its state in words."""
        where = "" if self.name == job else f" in {self.name}"
        if not self.runs:
            up = sum(state == RUNNING for _, state in self.tasks)
            return f"{self.state}{where}, {up} of {len(self.tasks)} tasks run, {self.restarts} restarts"
        minutes = int(now - self.since) // 60
        return f"{RUNNING}{where}, {minutes} min, {self.restarts} restarts"


def status(configured: Mapping[str, Loaded | str], *, counters: bool) -> int:
    """`_status`, or 1 when Flink goes away meanwhile."""
    try:
        return _status(configured, counters=counters)
    except requests.RequestException as error:
        typer.echo(f"error: Flink stopped answering: {error}", err=True)
        return 1


def _status(configured: Mapping[str, Loaded | str], *, counters: bool) -> int:
    """Print a line for each job, with its configuration or what is wrong with that; 0 when all of them run."""
    clusters = {_flink(loaded) for loaded in configured.values() if isinstance(loaded, Loaded)}
    asked = {flink: _asked(flink) for flink in sorted(clusters)}
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
    for job, loaded in configured.items():
        if isinstance(loaded, str):
            table.add_row(job, f"not configured: {loaded}")
            all_run = False
            continue
        there = [one for one in found[_flink(loaded)] if one.has(job)]
        all_run = all_run and any(one.runs for one in there)
        told = "; ".join(one.told(job, time.time()) for one in there) or "not there"
        table.add_row(job, told, waits[job], loaded.settings.kafka_group_id)
    console = Console(width=None if Console().is_terminal else 200, highlight=False)
    console.print(table)
    for flink, there in found.items():
        _print_causes(console, flink, [one for one in there if any(one.has(job) for job in configured)])
    for job, counted in _counters_of(configured, found) if counters else ():
        console.print()
        for name, number in counted.items():
            console.print(f"{job} {name} {number}")
    return 0 if all_run else 1


def cancel(name: str, loaded: Loaded) -> int:
    """Cancel what is called ``name`` on Flink: 0, or 1 when Flink does not answer. Raises UsageError: no such job."""
    from deploy.local import flink_jobs  # noqa: PLC0415 - only of use where there is a Flink
    from deploy.local.errors import StackError  # noqa: PLC0415

    flink = _flink(loaded)
    try:
        living = [job for job in flink_jobs.jobs(flink) if job.lives]
        chosen = [job for job in living if job.name == name]
        if not chosen:
            there = ", ".join(sorted({job.name for job in living})) or "nothing"
            raise UsageError(f"{name} is not on Flink at {flink}; there is {there}")
        for job in chosen:
            flink_jobs.cancel(flink, job.id)
            typer.echo(f"{name} is cancelled ({job.id})")
    except requests.ConnectionError:
        typer.echo(f"error: {_no_answer(flink)}", err=True)
        return 1
    except (requests.RequestException, StackError) as error:
        typer.echo(f"error: Flink at {flink}: {error}", err=True)
        return 1
    return 0


def found_on_flink(flink: str) -> list[OnFlink]:
    """The jobs that live on a cluster (host:port of its REST interface). Raises requests.RequestException."""
    from deploy.local import flink_jobs  # noqa: PLC0415

    found = []
    for job in flink_jobs.jobs(flink):
        if job.lives:
            details = _get(f"http://{flink}/jobs/{job.id}")
            restarts = _get(f"http://{flink}/jobs/{job.id}/metrics", get="numRestarts")
            tasks = tuple((vertex["name"], vertex["status"]) for vertex in details["vertices"])
            since = details["timestamps"][RUNNING] / 1000
            number = int(restarts[0]["value"]) if restarts else 0
            found.append(OnFlink(job.id, job.name, job.state, since, number, tasks))
    return found


@once_the_group_is_found
def waiting(brokers: str, group: str, topic: str) -> int | None:
    """The records of a topic that lie behind the group's committed offsets; None where it has none yet.

    Raises KafkaException, also for a topic that is not there.
    """
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, "log_level": 0}, logger=None
    )
    try:
        found = consumer.list_topics(topic, timeout=KAFKA_SECONDS).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        places = [TopicPartition(topic, partition) for partition in found.partitions]
        committed = [place for place in consumer.committed(places, timeout=KAFKA_SECONDS) if place.offset >= 0]
        ends = (consumer.get_watermark_offsets(place, timeout=KAFKA_SECONDS)[1] for place in committed)
        return sum(end - place.offset for place, end in zip(committed, ends, strict=True)) if committed else None
    finally:
        consumer.close()


def _waits(loaded: Loaded | str) -> str:
    if isinstance(loaded, str):
        return ""
    settings: Any = loaded.settings
    try:
        number = waiting(settings.kafka_broker_servers, settings.kafka_group_id, settings.kafka_input_topic)
    except KafkaException as error:
        return f"{settings.kafka_input_topic}: {error.args[0].str()}"
    return "no offsets yet" if number is None else f"{number}"


def _asked(flink: str) -> Sequence[OnFlink]:
    try:
        return found_on_flink(flink)
    except requests.RequestException:
        typer.echo(f"error: {_no_answer(flink)}", err=True)
        return ()


def _no_answer(flink: str) -> str:
    return f"Flink at {flink} does not answer. Is it up, and flink.master its REST address, HOST:PORT?"


def _print_causes(console: Console, flink: str, found: Sequence[OnFlink]) -> None:
    """Why jobs were restarted, or do not run."""
    from deploy.local.flink_jobs import root_cause  # noqa: PLC0415

    for one in found:
        if (one.restarts or not one.runs) and (cause := root_cause(flink, one.id)):
            console.print(f"\n{one.name} failed last with: {cause}", markup=False)


def _counters_of(
    configured: Mapping[str, Loaded | str], found: Mapping[str, Sequence[OnFlink]]
) -> list[tuple[str, dict[str, int]]]:
    """The counters of each job, of every place where it is."""
    from deploy.local.flink_counters import counters  # noqa: PLC0415

    return [
        (job, counters(_flink(loaded), one.id, job))
        for job, loaded in configured.items()
        if isinstance(loaded, Loaded)
        for one in found[_flink(loaded)]
        if one.has(job)
    ]


def _flink(loaded: Loaded) -> str:
    return str(loaded.beam_options.get("flink_master") or DEFAULTS["flink_master"]).removeprefix("http://")


def _get(address: str, **parameters: str) -> Any:
    answer = requests.get(address, parameters, timeout=KAFKA_SECONDS)
    answer.raise_for_status()
    return answer.json()
