"""`sunbird-pipelines replay`: what it is asked for, and what it prints."""

from __future__ import annotations

import re
from types import ModuleType

import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.configuration import Loaded
from pipelines.replay import Outcome, Selection, moment, replay
from pipelines.settings import UsageError

__all__ = ["run"]


def run(
    job: ModuleType,
    loaded: Loaded,
    *,
    topic: str | None,
    since: str | None,
    until: str | None,
    reason: str | None,
    dry_run: bool,
    rate: float | None,
) -> int:
    """0 when the letters were read (and put back), 1 when Kafka could not be had. Raises UsageError."""
    settings = loaded.settings
    for option, text in (("--topic", topic), ("--since", since), ("--until", until), ("--reason", reason)):
        if text == "":  # of a variable that is not set: it must not mean all letters
            raise UsageError(f"{option}: is empty. Give it a value, or leave it out.")
    failed_topic = topic or getattr(settings, "failed_topic", None)
    if not failed_topic:
        raise UsageError(f"{job.NAME} writes no failed topic here. Name the topic with --topic TOPIC.")
    selection = Selection(_moment("--since", since), _moment("--until", until), _expression(reason))
    errors = Console(stderr=True)
    try:
        with errors.status("reading") as status:
            outcome = replay(
                job.NAME,
                settings.kafka_broker_servers,
                failed_topic,
                settings.kafka_input_topic,
                selection,
                dry_run=dry_run,
                rate=rate,
                doing=status.update,
            )
    except KafkaException as error:
        brokers = settings.kafka_broker_servers
        typer.echo(f"error: Kafka at {brokers}: {error.args[0].str() if error.args else error}", err=True)
        return 1
    show(outcome, dry_run)
    return 0


def show(outcome: Outcome, dry_run: bool) -> None:
    """Print the letters by reason."""
    console = Console()
    table = Table("reason", "would be put back" if dry_run else "put back", "before", "not possible")
    for reason in outcome.reasons:
        faults = outcome.not_possible.get(reason, {})
        cannot = ", ".join(f"{times}: {fault}" for fault, times in faults.items())
        counts = (str(outcome.put_back[reason] or ""), str(outcome.before[reason] or ""))
        table.add_row(_text(reason), *counts, _text(cannot))
    if outcome.reasons:
        console.print(table)
    else:
        typer.echo("No dead letters.")
    if dry_run and outcome.put_back:
        typer.echo("Nothing was put back: leave --dry-run out for that.")


def _text(said: str) -> Text:
    """What comes from records, as it is: no markup, and nothing that would command the terminal."""
    return Text("".join(character if character.isprintable() else " " for character in said))


def _moment(option: str, text: str | None) -> int | None:
    try:
        return moment(text) if text else None
    except ValueError:
        raise UsageError(f"{option} {text}: must be a time such as 2026-11-25 or 2026-11-25T08:00") from None


def _expression(text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UsageError(f"--reason {text}: is no regular expression: {error}") from None
