"""`sunbird-pipelines trace`: reads the configuration, walks, prints."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console

from pipelines import trace_report
from pipelines.trace import KafkaLimits, stores, trace
from pipelines.trace_settings import trace_settings
from transforms.trace import Learner

__all__ = ["run"]

# what takes longer is told
_SECONDS = 2.0
# what goes into a file is as wide as a terminal should be
_WIDTH = 100


def run(
    learner: tuple[str, str, str],
    files: Sequence[str],
    overrides: Sequence[str],
    kafka_records: int,
    kafka_seconds: float,
    as_json: bool,
) -> int:
    """Print the trace of (user, course, batch): 0, or 1 when a store that it needs stayed away. Raises UsageError."""
    settings, warnings = trace_settings(files, overrides)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    # a store that stays away is said once, in the trace
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr)
    found = trace(Learner(*learner), settings, stores(settings), KafkaLimits(kafka_records, kafka_seconds), _doing)
    if as_json:
        typer.echo(trace_report.as_json(found))
    else:
        trace_report.print_table(found, Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False))
    for why in found.away:
        typer.echo(f"error: {why}", err=True)
    return 1 if found.away else 0


@contextmanager
def _doing(what: str) -> Iterator[None]:
    """Say what is waited for, once it takes some time."""
    timer = threading.Timer(_SECONDS, lambda: typer.echo(f"waiting for {what} …", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
