"""`python -m tests.bench.groups`: what light jobs take alone, each on a Flink of its own, and together as a group.

Each measurement has a fresh JobManager, TaskManager and worker pool; a record for each job goes through before the
processes' resident memory is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml
from rich.console import Console
from rich.table import Table

from deploy.local.flink_jobs import submitted
from deploy.local.progress import shown
from deploy.local.stack import Stack
from tests.bench.processes import MEGABYTE
from tests.e2e.installation import Installation

SERVICES = ("kafka", "cassandra", "redis", "elasticsearch", "stubs", "mongo", "flink")
LIGHT = (
    *("cokreat-user-delete", "merge-user-courses", "ml-user-delete"),
    *("program-user-info", "user-deletion-cleanup", "user-ownership-transfer"),
)
PARTS = ("jobmanager", "taskmanager", "workers")

Megabytes = dict[str, float]


def taken(stack: Stack, site: Installation, jobs: Sequence[str], directory: Path) -> Megabytes:
    """The resident memory of a fresh Flink that runs these jobs, as one when they are several."""
    stack.stop_service("flink")
    stack.up(("flink",))
    name = jobs[0] if len(jobs) == 1 else "light"
    file = directory / "group.yaml"
    file.write_text(yaml.safe_dump({"group": name, "jobs": {job: [str(site.configuration(job))] for job in jobs}}))
    with submitted(site.flink, name, [], directory / "run.log", group=file) as wait:
        job_id = wait()
        for job in jobs:
            site.send(site.topics.read_by(job), b"{}")
        for job in jobs:
            site.handled(job)
        found = {
            "jobmanager": _resident([stack.process("jobmanager")]),
            "taskmanager": _resident([stack.process("taskmanager")]),
            "workers": _resident([stack.process("worker-pool"), *stack.workers()]),
        }
        site.flink.cancel(job_id)
    return found


def _resident(processes: Sequence[psutil.Process]) -> float:
    return sum(process.memory_info().rss for process in processes) / MEGABYTE


def main(
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the stack.")] = Path(".stack/bench"),
) -> None:
    """Print the resident megabytes of each light job alone, their sum, and those of all of them as one group."""
    with tempfile.TemporaryDirectory() as scratch, shown() as progress:
        stack = Stack(directory, ports="free", progress=progress)
        stack.up(SERVICES)
        try:
            with Installation.on(stack, Path(scratch), LIGHT) as site:
                rows = {job: taken(stack, site, [job], Path(scratch)) for job in LIGHT}
                together = taken(stack, site, LIGHT, Path(scratch))
        finally:
            stack.down(SERVICES)
    alone = {part: sum(row[part] for row in rows.values()) for part in PARTS}
    table = Table(box=None)
    for title in ("", *PARTS, "all, MB"):
        table.add_column(title, justify="left" if not title else "right")
    for title, row in {**rows, f"{len(LIGHT)} jobs alone": alone, "as one group": together}.items():
        table.add_row(title, *(f"{row[part]:.0f}" for part in PARTS), f"{sum(row.values()):.0f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
