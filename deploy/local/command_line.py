"""`stack up|down|status|env`: the local stack on the command line."""

from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.console import Console
from rich.table import Table

from deploy.local.errors import StackError, UsageError
from deploy.local.progress import shown
from deploy.local.stack import DEFAULT_PORTS, DEFAULT_SLOTS, SERVICES, Stack

app = typer.Typer(
    name="stack",
    help="The local stack: real servers on this machine, reachable from this machine only.",
    no_args_is_help=True,
    add_completion=False,
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
def env(directory: Directory = Path(".stack")) -> None:
    """Print the settings of the services that are up as YAML, for `run --config`."""
    typer.echo(yaml.safe_dump(Stack(directory).environment(), sort_keys=False), nl=False)
