"""`stack up|down|status|env`: the local stack on the command line."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from deploy.local.errors import StackError, UsageError
from deploy.local.kafka_client import Sender, records, topics
from deploy.local.progress import shown
from deploy.local.stack import DEFAULT_PORTS, DEFAULT_SLOTS, SERVICES, Stack

app = typer.Typer(
    name="stack",
    help="""The local stack: real servers on this machine, reachable from this machine only.

\b
  sunbird-pipelines stack up cassandra redis
  sunbird-pipelines stack up --slots 9              all of it, with a Flink that has room for every job
  sunbird-pipelines stack env > site.yaml
  sunbird-pipelines stack send delete.user events.jsonl
  sunbird-pipelines stack down""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Directory = Annotated[Path, typer.Option("--dir", help="Where data and logs are kept.")]
ServiceNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SERVICE]...",
        help=f"{', '.join(SERVICES)}; all without names (up: all but monitoring).",
        show_default=False,
    ),
]


def _ports(values: list[str]) -> dict[str, int]:
    ports = {}
    for value in values:
        name, _, number = value.partition("=")
        if name not in DEFAULT_PORTS or not number.isdecimal() or not 0 < int(number) < 65536:
            names = ", ".join(DEFAULT_PORTS)
            raise UsageError(f"--port {value}: expected NAME=NUMBER with one of the names {names}")
        ports[name] = int(number)
    return ports


def _fail(error: StackError) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2 if isinstance(error, UsageError) else 1)


@app.command()
def up(
    services: ServiceNames = None,
    directory: Directory = Path(".stack"),
    environment: Annotated[str, typer.Option("--env", help="Prefix of topics and keyspaces.")] = "dev",
    port: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER: a port that is not the default one; may be repeated.")
    ] = None,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any ports that are free.")] = False,
    slots: Annotated[
        int | None, typer.Option(min=1, help=f"Task slots of the TaskManager; {DEFAULT_SLOTS} at first.")
    ] = None,
) -> None:
    """Start services, wait until they are healthy, and make the topics and tables of an environment."""
    try:
        ports: dict[str, int] | Literal["free"] = "free" if free_ports else _ports(port or [])
        with shown() as progress:
            Stack(directory, environment, ports, slots, progress).up(services or [])
    except StackError as error:
        raise _fail(error) from error


@app.command()
def down(services: ServiceNames = None, directory: Directory = Path(".stack")) -> None:
    """End what `up` started; the data stays."""
    try:
        with shown() as progress:
            ended = Stack(directory, progress=progress).down(services or [])
    except StackError as error:
        raise _fail(error) from error
    if not ended:
        typer.echo("nothing was up", err=True)


@app.command()
def status(directory: Directory = Path(".stack")) -> None:
    """Show which services are up, with their ports and processes."""
    table = Table("service", "state", "ports", "processes")
    for state in Stack(directory).status():
        ports = ", ".join(f"{name}={number}" for name, number in state.ports.items())
        named = "[green]up" if state.up else "[yellow]partly up" if state.pids else "down"
        table.add_row(state.service, named, ports if state.pids else "", ", ".join(map(str, state.pids)))
    Console().print(table)


@app.command()
def send(
    topic: Annotated[str, typer.Argument(help="With or without the environment in front.")],
    file: Annotated[
        Path | None, typer.Argument(exists=True, help="Each line is a record; without, of standard input.")
    ] = None,
    directory: Directory = Path(".stack"),
) -> None:
    """Send records to a topic of the stack's Kafka."""
    lines = (file.read_bytes() if file else sys.stdin.buffer.read()).splitlines()
    try:
        sender, name = Sender(_brokers(directory)), _topic(topic, directory)
        for line in lines:
            sender.send(name, None, line)
        sender.finish()
    except KafkaException as error:
        raise _fail(StackError(str(error))) from error


@app.command()
def read(
    topic: Annotated[str, typer.Argument(help="With or without the environment in front.")],
    directory: Directory = Path(".stack"),
) -> None:
    """Print the records that a topic of the stack's Kafka holds now, one a line."""
    try:
        for value in records(_brokers(directory), _topic(topic, directory)):
            typer.echo(value if value is not None else b"null")
    except KafkaException as error:
        raise _fail(StackError(str(error))) from error


def _brokers(directory: Path) -> str:
    settings = Stack(directory).environment()
    if "kafka.broker-servers" not in settings:
        raise _fail(StackError("kafka is not up: sunbird-pipelines stack up kafka"))
    return str(settings["kafka.broker-servers"])


def _topic(name: str, directory: Path) -> str:
    environment = f"{Stack(directory).environment()['job.env']}."
    topic = name if name.startswith(environment) else environment + name
    there = topics(_brokers(directory))
    if topic not in there:
        raise _fail(UsageError(f"there is no topic {topic}; there are {', '.join(there)}"))
    return topic


@app.command()
def env(directory: Directory = Path(".stack")) -> None:
    """Print the settings of the services that are up as YAML, for `run --config`."""
    typer.echo(yaml.safe_dump(Stack(directory).environment(), sort_keys=False), nl=False)
