"""`python -m tests.day`: a day of events of all kinds on real servers, twice with different cuts of batches.

Then once in memory. All must leave the same tables and caches, to the byte, and write the same events.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from deploy.local.errors import StackError
from deploy.local.progress import Progress, shown
from deploy.local.stack import Stack
from tests.day.compare import differing, differing_events
from tests.day.events import Day
from tests.day.run import Emitted, live
from tests.day.sites import Site, State, in_memory, on_servers

SERVICES = ("cassandra", "redis", "stubs")
# the largest batch of each run
LARGEST = {"servers": 500, "servers, cut otherwise": 90, "memory": 300}


def main(
    events: Annotated[int, typer.Option(min=100, help="Events of the day.")] = 100_000,
    seed: Annotated[int, typer.Option(help="What is left to chance.")] = 1,
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the stack; one that is up is used.")] = Path(
        ".stack/bench"
    ),
) -> None:
    """Exit code 0 when all runs left the same, 1 when not, or when a server did not come up."""
    # each record that is none is worth a warning
    logging.getLogger("transforms").setLevel(logging.ERROR)
    with shown() as progress:
        stack = Stack(directory, ports="free", progress=progress)
        was_up = {status.service for status in stack.status() if status.up}
        try:
            stack.up(SERVICES)
            found = {name: _passed(name, stack.environment(), events, seed, progress) for name in LARGEST}
        except StackError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        finally:
            if started := set(SERVICES) - was_up:
                stack.down(started)
    (state, emitted), *others = found.values()
    problems = [
        problem
        for other, written in others
        for problem in (*differing(state, other), *differing_events(emitted, written))
    ]
    for kind, lines in state.items():
        typer.echo(f"{kind:<26}{len(lines):>8} rows, {sum(map(len, lines)):>11,} bytes")
    for topic in sorted({topic for topic, _ in emitted}):
        typer.echo(f"{topic:<26}{sum(n for (of, _), n in emitted.items() if of == topic):>8} events")
    for problem in problems:
        typer.echo(problem)
    typer.echo("Not the same." if problems else f"{len(found)} runs left the same, to the byte.")
    raise typer.Exit(1 if problems else 0)


def _passed(name: str, settings: dict[str, Any], events: int, seed: int, progress: Progress) -> tuple[State, Emitted]:
    run = f"day{int(time.time())}"
    # the totals are those of the courses before anything happens
    totals = Day(events, "", "", seed).totals()
    if name == "memory":
        return _lived(in_memory(run, totals), name, events, seed, progress)
    with on_servers(settings, run, totals) as site:
        return _lived(site, name, events, seed, progress)


def _lived(site: Site, name: str, events: int, seed: int, progress: Progress) -> tuple[State, Emitted]:
    begun = time.monotonic()
    day = Day(events, site.keyspace, site.hierarchies, seed)
    cut = Random(LARGEST[name])
    emitted = live(
        day, site.jobs, site.write, cut, LARGEST[name], said=lambda handled: progress(name, f"{handled} events")
    )
    progress(name, f"{events} events in {time.monotonic() - begun:.0f} s", done=True)
    return site.state(), emitted


if __name__ == "__main__":
    typer.run(main)
