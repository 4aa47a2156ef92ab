"""`python -m tests.bench`: measure the jobs that keep progress, issue certificates, score attempts and count again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local.errors import StackError
from deploy.local.progress import shown
from deploy.local.stack import Stack
from tests.bench import report
from tests.bench.assessments import AssessmentsPlan, measure_assessments
from tests.bench.certificates import CertificatesPlan, measure_certificates
from tests.bench.job import NotRunning
from tests.bench.load import Shape
from tests.bench.measure import SERVICES, Plan, measure, measure_memory
from tests.bench.reconciliation import ReconciliationsPlan, measure_reconciliations
from tests.bench.report import Everything

# what is printed into a file or a pipe is not folded
WIDTH = 120


def share(text: str) -> float:
    """``10%`` or ``0.1``."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value < 1:
        raise typer.BadParameter(f"{text}: expected a share such as 10%")
    return value


def span(text: str) -> tuple[int, int]:
    """``1-4`` or ``2``."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high:
        raise typer.BadParameter(f"{text}: expected numbers such as 1-4")
    return low, high


def main(
    events: Annotated[int, typer.Option(min=20, help="Events of each backlog.")] = 6_091,
    learners: Annotated[int | None, typer.Option(help="Learners; in proportion to the events without.")] = None,
    leaf_nodes: Annotated[int, typer.Option(help="Leaf nodes of the course.")] = 12,
    units: Annotated[int, typer.Option(help="Units of the course.")] = 3,
    contents_per_event: Annotated[str, typer.Option(help="Completed contents in an event.")] = "1-4",
    duplicates: Annotated[str, typer.Option(help="Share of events that repeat an earlier one.")] = "10%",
    skipped: Annotated[str, typer.Option(help="Share of events that are not for the job.")] = "1%",
    parallelism: Annotated[int, typer.Option(min=1, help="Parallel parts of each step.")] = 1,
    rate: Annotated[float, typer.Option(help="Events a second while latency is measured.")] = 100,
    seconds: Annotated[float, typer.Option(help="How long latency is measured; 0: not.")] = 30,
    profile: Annotated[
        bool, typer.Option("--profile", help="All events through the stages, and the functions.")
    ] = False,
    certificates: Annotated[
        int, typer.Option(help="Certificates that are measured, through both of their jobs; 0: not.")
    ] = 1_500,
    assessments: Annotated[
        int, typer.Option(help="Attempts that are scored in this process, of 10 and of 100 questions; 0: not.")
    ] = 2_000,
    reconciliations: Annotated[
        int, typer.Option(help="Learners whose progress in a course of 200 contents is counted again; 0: not.")
    ] = 500,
    stores_only: Annotated[
        bool, typer.Option("--stores-only", help="Only what needs no Flink: attempts, and counting again.")
    ] = False,
    memory: Annotated[int, typer.Option(metavar="N", help="Instead: N events in a row, watching memory.")] = 0,
    out: Annotated[Path, typer.Option(help="The JSON with all numbers.")] = Path("bench.json"),
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the stack; one that is up is used.")] = Path(
        ".stack/bench"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    beam_option: Annotated[
        list[str] | None, typer.Option(help="An option for Beam, such as --max_bundle_size=500.")
    ] = None,
) -> None:
    """Throughput of a full topic, CPU by process, latency at a steady rate, peak memory, and whether all came right.

    Exit code 0 when the end state is right, 1 when it is not or could not be measured.
    """
    shape = Shape(
        events,
        learners or Shape.learners_for(events),
        leaf_nodes,
        units,
        span(contents_per_event),
        share(duplicates),
        share(skipped),
    )
    options = tuple(beam_option or ())
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    try:
        with shown() as progress:
            stack = Stack(directory, ports="free", progress=progress)
            was_up = any(status.up for status in stack.status())
            try:
                if memory:
                    run = measure_memory(memory, shape, parallelism, stack, progress, options)
                else:
                    sample = events if profile else min(events, 2_000)
                    plan = Plan(shape, parallelism, rate, seconds, sample, profile, options)
                    on_flink = not stores_only
                    everything = Everything(
                        measure(plan, stack, progress) if on_flink else None,
                        measure_certificates(CertificatesPlan(certificates), stack, progress)
                        if on_flink and certificates
                        else None,
                        measure_assessments(AssessmentsPlan(assessments), stack, progress) if assessments else (),
                        measure_reconciliations(ReconciliationsPlan(reconciliations), stack, progress)
                        if reconciliations
                        else None,
                    )
            finally:
                if not keep and not was_up:
                    stack.down(SERVICES)
    except (StackError, NotRunning, TimeoutError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if memory:
        out.write_bytes(report.memory_as_json(run))
        report.show_memory(console, run)
        is_right = run.is_right
    else:
        out.write_bytes(report.measured_as_json(shape, parallelism, everything))
        report.show(console, shape, parallelism, everything)
        is_right = everything.is_right
    console.print(f"All numbers: {out}", highlight=False)
    raise typer.Exit(0 if is_right else 1)


if __name__ == "__main__":
    typer.run(main)
