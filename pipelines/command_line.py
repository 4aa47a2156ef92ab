"""The command line, ``sunbird-pipelines``.

Exit codes of every command: 0 everything read was handled, 1 the run failed, 2 wrong configuration or usage. Beam is
only loaded by the commands that need it, so that ``list`` and ``--help`` answer at once.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
import yaml
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from pipelines import jobs, logs
from pipelines.configuration import FLINK_OPTIONS, Loaded, load
from pipelines.settings import MASK, JobSettings, UsageError, keys, masked, seed_names, type_name

logger = logging.getLogger("sunbird_pipelines")

# rich folds lines at the width of the terminal; what goes into a file or a pipe stays on its line
_UNFOLDED = 10_000


class _Commands(TyperGroup):
    """Turns what a user can mend into one line on standard error and exit code 2."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        except Exception as error:
            if isinstance(error, importlib.import_module("deploy.local.errors").StackError):
                # no Java, no jar
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(1) from None
            if hasattr(error, "option_name") and ctx.invoked_subcommand in ("run", "package", "run-group"):
                error.message = (
                    f"{error.message.rstrip('.')}. Options of Beam go behind a lone --, e.g. -- {error.option_name}=…"
                )
            if getattr(getattr(error, "param", None), "name", None) == "job":
                error.message = "Which JOB? `sunbird-pipelines list` prints the names."
            raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""Sunbird's stream jobs as Apache Beam pipelines: on Flink, or on this machine.

\b
Look around:     sunbird-pipelines list
                 sunbird-pipelines config activity-aggregate-updater
                 sunbird-pipelines trace --help
Try without any cluster of your own:
                 sunbird-pipelines demo
Run a job on a file of events:
                 sunbird-pipelines stack up cassandra redis
                 sunbird-pipelines stack env > local.yaml
                 sunbird-pipelines run activity-aggregate-updater --config local.yaml \\
                     --input events.jsonl --output out --metrics metrics.json
Run it on Flink: sunbird-pipelines run activity-aggregate-updater --config site.yaml --detach
                 sunbird-pipelines status --config site.yaml
                 sunbird-pipelines cancel activity-aggregate-updater --config site.yaml

Exit codes: 0 everything read was handled, 1 the run failed, 2 wrong configuration or usage.""",
)


class InputFormat(StrEnum):
    """How the lines of ``--input`` hold a record's value."""

    raw = "raw"
    base64 = "base64"


_Job = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, as `sunbird-pipelines list` prints it.")]
_Config = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML, JSON (.json) or HOCON (.conf) file with upstream's keys, dotted or nested. May be given again: "
        "later files win.",
    ),
]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One key; wins over the files. May be given again."),
]
_Detach = Annotated[
    bool,
    typer.Option("--detach", help="End as soon as all tasks run on Flink; else the command ends with the job."),
]
_BeamOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="BEAM_OPTION", help="Options of Beam and its Flink runner, behind a lone --."),
]


@app.command("list")
def list_jobs() -> None:
    """The jobs, one line each."""
    width = max(len(name) for name in jobs.JOBS)
    for name in jobs.JOBS:
        typer.echo(f"{name:<{width}}  {jobs.SUMMARIES[name]}")


@app.command()
def run(
    job: _Job,
    config: _Config = None,
    set_: _Set = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Read this file instead of Kafka: each line is one record."),
    ] = None,
    input_format: Annotated[
        InputFormat,
        typer.Option(
            help="raw: a line is the value itself, an empty line an empty record. base64: a line is the value in "
            "base64, `null` a tombstone."
        ),
    ] = InputFormat.raw,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write to DIR/<topic>.jsonl instead of Kafka, one value per line."),
    ] = None,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help='With --output: lines are {"key": …, "value": …}.')
    ] = False,
    until_end: Annotated[
        bool,
        typer.Option("--until-end", help="Handle what the topic holds now for the group, commit, and finish."),
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="At the end of a run that ends, failed or not: the counters as JSON."),
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Compute everything and write nothing, to no store and no topic; count and log where the stores "
            "differ from what the job would have written. Kafka is read with a group of its own, GROUP-shadow.",
        ),
    ] = False,
    detach: _Detach = False,
    beam_options: _BeamOptions = None,
) -> None:
    """Run a job.

    With --input or --until-end the run ends by itself and Beam's DirectRunner does the work on this machine; otherwise
    the job is submitted to Flink and runs until it is cancelled there (sunbird-pipelines cancel).

    \b
    From a file, no Kafka needed:
      sunbird-pipelines run activity-aggregate-updater --config site.yaml --input events.jsonl --output out
    Everything that waits on the topic, then finish:
      sunbird-pipelines run activity-aggregate-updater --config site.yaml --until-end
    On a Flink cluster, with an upstream configuration file:
      sunbird-pipelines run relation-cache-updater --config relation-cache-updater.conf \\
          --set flink.master=flink:8081 --set flink.worker-pool=localhost:50000 -- --parallelism=4
    Beside the job that it is to replace, before the cut-over:
      sunbird-pipelines run enrolment-reconciliation --config site.yaml --shadow --until-end --metrics shadow.json \\
          --set kafka.auto.offset.reset=earliest
    """
    module = jobs.load(job)
    options = _checked(beam_options)
    if input_ and until_end:
        raise UsageError("--input and --until-end: a run reads a file or Kafka, not both. Leave one of them out.")
    if input_ and not input_.exists():
        raise UsageError(f"--input {input_}: no such file")
    if input_ and input_.is_dir():
        raise UsageError(f"--input {input_}: is a directory")
    if metrics and metrics.is_dir():
        raise UsageError(f"--metrics {metrics}: is a directory; give it the path of a file")
    if input_format != InputFormat.raw and not input_:
        raise UsageError("--input-format says how --input is written: give --input FILE too")
    if with_keys and not output:
        raise UsageError("--with-keys says how --output is written: give --output DIR too")
    if detach and (input_ or until_end):
        raise UsageError("--detach leaves a job on Flink; a run with --input or --until-end is none. Leave it out.")
    if (output or metrics) and not (input_ or until_end):
        raise UsageError("--output and --metrics are for a run that ends: give --input FILE or --until-end too")
    loaded = _load(module, config, set_)
    _log_to_standard_error(job, loaded)
    _warn(loaded, job)
    for directory in filter(None, (output, metrics and metrics.parent)):
        _make(directory)
    runtime = importlib.import_module("pipelines.runtime")
    request = runtime.RunRequest(
        input=input_,
        input_format=input_format.value,
        output=output,
        with_keys=with_keys,
        until_end=until_end,
        metrics=metrics,
        shadow=shadow,
        detach=detach,
        beam_options=options,
    )
    raise typer.Exit(runtime.run(module, loaded, request))


@app.command()
def config(
    job: _Job,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Print what a run would use, as YAML, secrets masked."),
    ] = False,
    config: _Config = None,
    set_: _Set = None,
) -> None:
    """A job's page and its keys: type, default, meaning. With --resolved: the values that a run would use.

    \b
      sunbird-pipelines config relation-cache-updater
      sunbird-pipelines config relation-cache-updater --resolved --config site.conf --set job.env=dev
    """
    module = jobs.load(job)
    if resolved:
        loaded = _load(module, config, set_)
        for warning in loaded.warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(_as_yaml(job, loaded), nl=False)
        return
    if config or set_:
        raise UsageError("--config and --set go with --resolved: without it the keys are listed, not their values")
    console = Console(width=None if sys.stdout.isatty() else _UNFOLDED, highlight=False)
    console.print(Text(inspect.cleandoc(module.__doc__ or job)))
    console.print()
    console.print(_table_of_keys(module.Settings))
    console.print()
    console.print(Text("For Flink (upstream's other task.* and job.* keys are accepted and do nothing here):"))
    console.print(_table_of_flink_keys())


@app.command()
def package(
    job: _Job,
    out: Annotated[Path, typer.Option("--out", metavar="JOB.jar", help="Where the jar is written.")],
    config: _Config = None,
    set_: _Set = None,
    beam_options: _BeamOptions = None,
) -> None:
    """Make the self-contained job jar that a Flink cluster runs by itself. The configuration goes into it.

    \b
      sunbird-pipelines package relation-cache-updater --config site.yaml --out relation-cache-updater.jar
      flink run relation-cache-updater.jar
    """
    module = jobs.load(job)
    options = _checked(beam_options)
    loaded = _load(module, config, set_)
    _log_to_standard_error(job, loaded)
    _warn(loaded, job)
    _make(out.parent)
    runtime = importlib.import_module("pipelines.runtime")
    group = importlib.import_module("pipelines.groups").Group.of_one(module, loaded)
    raise typer.Exit(runtime.package(group, out, list(options)))


_GroupFile = Annotated[
    Path, typer.Argument(metavar="GROUP.yaml", help="`group: NAME`, and `jobs:` with the files of each job.")
]


@app.command("run-group")
def run_group(group: _GroupFile, set_: _Set = None, detach: _Detach = False, beam_options: _BeamOptions = None) -> None:
    """Run several light jobs as one job on Flink: they share a JVM, the workers and the checkpoints.

    \b
    accounts.yaml, paths as seen from it:
      group: accounts
      jobs:
        ml-user-delete: [site.yaml]
        user-deletion-cleanup: [site.yaml, deletion.conf]
    \b
      sunbird-pipelines run-group accounts.yaml
      sunbird-pipelines run-group accounts.yaml --set flink.master=flink:8081 -- --parallelism=2
    """
    options = _checked(beam_options)
    loaded = _load_group(group, set_)
    runtime = importlib.import_module("pipelines.runtime")
    raise typer.Exit(runtime.run_on_flink(loaded, list(options), detach=detach))


@app.command("package-group")
def package_group(
    group: _GroupFile,
    out: Annotated[Path, typer.Option("--out", metavar="GROUP.jar", help="Where the jar is written.")],
    set_: _Set = None,
    beam_options: _BeamOptions = None,
) -> None:
    """Make the self-contained job jar of a group. The configuration of all its jobs goes into it."""
    options = _checked(beam_options)
    loaded = _load_group(group, set_)
    _make(out.parent)
    runtime = importlib.import_module("pipelines.runtime")
    raise typer.Exit(runtime.package(loaded, out, list(options)))


def _load_group(file: Path, overrides: list[str] | None) -> Any:
    group = importlib.import_module("pipelines.groups").load_group(file, overrides or [], os.environ)
    _log_to_standard_error(group.name, *(member.loaded for member in group.members))
    for member in group.members:
        _warn(member.loaded, member.job.NAME)
    return group


@app.command()
def status(
    job: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="These jobs, with their counters; all without names.")
    ] = None,
    config: _Config = None,
    set_: _Set = None,
) -> None:
    """How the jobs fare on Flink, and how many records wait for them. Changes nothing.

    Exit codes: 0 all jobs named run; 1 one does not, or Flink or Kafka could not be asked; 2 wrong usage.

    \b
      sunbird-pipelines status --config site.yaml
      sunbird-pipelines status relation-cache-updater --config site.yaml
    """
    names = job or list(jobs.JOBS)
    # all of them: one that lacks a setting here is none that should keep the others from being shown
    configured: dict[str, Loaded | str] = {}
    for name in names:
        module = jobs.load(name)
        try:
            configured[name] = _load(module, config, set_)
        except UsageError as error:
            if job:
                raise
            configured[name] = str(error)
    raise typer.Exit(importlib.import_module("pipelines.status_command").status(configured, counters=bool(job)))


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called on Flink: a job, or a group.")],
    config: _Config = None,
    set_: _Set = None,
) -> None:
    """Cancel a job or a group on Flink. What it handled since its last checkpoint, its next run handles once more.

    \b
      sunbird-pipelines cancel relation-cache-updater --config site.yaml
    """
    # where Flink is: all that counts of the configuration
    loaded = load(JobSettings, config or [], set_ or [], os.environ, job_name=name)
    raise typer.Exit(importlib.import_module("pipelines.status_command").cancel(name, loaded))


@app.command()
def trace(
    user: Annotated[str, typer.Option("--user", metavar="ID", help="The learner.")],
    course: Annotated[str, typer.Option("--course", metavar="ID", help="The course.")],
    batch: Annotated[str, typer.Option("--batch", metavar="ID", help="The batch that the learner is in.")],
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            metavar="[JOB=]FILE",
            help="As for `run`; topics and groups count in files given as JOB=FILE, or called by a job's name.",
        ),
    ] = None,
    set_: _Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
    kafka_records: Annotated[
        int, typer.Option(min=0, metavar="N", help="Look at so many of the last records of each topic; 0: at no topic.")
    ] = 10_000,
    kafka_seconds: Annotated[
        float, typer.Option(min=1, metavar="S", help="Read the topics for so long at most, all together.")
    ] = 60,
) -> None:
    """Why has this learner no progress, no certificate? Looks at every step, changes nothing.

    Exit codes: 0 the walk was made, whatever it found; 1 Cassandra or Redis could not be asked; 2 wrong usage.

    \b
      sunbird-pipelines trace --user 5d0c1a52 --course do_2140500100 --batch 0140500100200300 --config site.yaml
    With the files of the jobs:
      sunbird-pipelines trace --user … --course … --batch … --config activity-aggregate-updater.conf \\
          --config collection-cert-pre-processor.conf --config collection-certificate-generator=generator.conf
    """
    for name, value in (("--user", user), ("--course", course), ("--batch", batch)):
        if not value.strip():
            raise UsageError(f"{name}: is blank")
        if not value.isprintable():
            raise UsageError(f"{name}: has characters that no id has")
    trace_command = importlib.import_module("pipelines.trace_command")
    raise typer.Exit(
        trace_command.run((user, course, batch), config or [], set_ or [], kafka_records, kafka_seconds, as_json)
    )


@app.command()
def replay(
    job: _Job,
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="The failed topic; without, the one that the job writes.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From then on: 2026-11-25, 2026-11-25T08:00 (UTC)."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only letters whose reason this expression finds.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what there is and what would be put back.")
    ] = False,
    rate: Annotated[float | None, typer.Option(min=0.1, metavar="N", help="At most so many records a second.")] = None,
    config: _Config = None,
    set_: _Set = None,
) -> None:
    """Put dead letters back on the topic that the job reads, each once.

    Shows the letters by reason. A record that is put back carries a header (sunbird-replay) that names its letter, by
    which a second replay knows it: it may be run again at any time, but not twice at the same time.

    \b
      sunbird-pipelines replay activity-aggregate-updater --config site.yaml --dry-run
      sunbird-pipelines replay activity-aggregate-updater --config site.yaml --reason "no leaf nodes" --rate 100
    """
    module = jobs.load(job)
    loaded = _load(module, config, set_)
    _warn(loaded, job)
    raise typer.Exit(
        importlib.import_module("pipelines.replay_command").run(
            module, loaded, topic=topic, since=since, until=until, reason=reason, dry_run=dry_run, rate=rate
        )
    )


_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON, add_help_option=False)
def stack(ctx: typer.Context) -> None:
    """The local stack: up, down, status, env. `sunbird-pipelines stack --help` has the rest."""
    command = typer.main.get_command(_local("deploy.local.command_line").app)
    command(args=ctx.args, prog_name="sunbird-pipelines stack")


@app.command(context_settings=_PASSED_ON, add_help_option=False)
def demo(ctx: typer.Context) -> None:
    """A learner's journey on the local stack, from a published course to a certificate request."""
    raise typer.Exit(_local("deploy.local.demo").main(ctx.args) or 0)


def main() -> None:
    """The console script."""
    app(prog_name="sunbird-pipelines")


def _local(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("deploy"):
            raise
        raise UsageError(
            f"{error.name} is not installed here: call the command from a checkout of the project"
        ) from None


def _load(module: ModuleType, config: list[Path] | None, overrides: list[str] | None) -> Loaded:
    return load(module.Settings, config or [], overrides or [], os.environ, job_name=module.NAME)


def _checked(beam_options: list[str] | None) -> tuple[str, ...]:
    if beam_options and not beam_options[0].startswith("--"):
        raise UsageError(
            f"{beam_options[0]}: one job at a time. Options of Beam go behind a lone --, and begin with --."
        )
    return tuple(beam_options or ())


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: can not be used as a directory: {error.strerror}") from None


def _log_to_standard_error(name: str, *configured: Loaded) -> None:
    """In the format that any of the jobs wants."""
    logs.to_standard_error(name, as_json=any(loaded.settings.logs_format == "json" for loaded in configured))


def _warn(loaded: Loaded, job: str) -> None:
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    if loaded.not_used_here:
        logger.info(
            "known, but without effect here (sunbird-pipelines config %s --resolved says why): %s",
            job,
            ", ".join(item.key for item in loaded.not_used_here),
        )


def _as_yaml(job: str, loaded: Loaded) -> str:
    """The resolved configuration as YAML: a line for each key, with its origin as comment."""
    lines = [f"# What `sunbird-pipelines run {job}` would use. Masked: {MASK}"]
    for name, (value, origin) in loaded.resolved.items():
        lines.append(f"{_scalar({name: masked(name, value)})}  # {_comment(origin)}")
    if loaded.beam_options:
        lines += ["", "# For Flink, these options of Beam:"]
        lines += [f"#   --{option}={_comment(masked(option, value))}" for option, value in loaded.beam_options.items()]
    if loaded.not_used_here:
        lines += ["", "# Not used here:"]
        lines += [f"#   {_comment(item.key)}: {_comment(item.value)}  ({item.why})" for item in loaded.not_used_here]
    if loaded.unknown:
        lines += ["", "# Unknown, ignored:", *(f"#   {_comment(name)}" for name in loaded.unknown)]
    return "\n".join(lines) + "\n"


def _scalar(pair: dict[str, Any]) -> str:
    text = yaml.safe_dump(pair, width=float("inf"), allow_unicode=True, default_flow_style=False).rstrip("\n")
    return text if "\n" not in text else json.dumps(pair)[1:-1]


def _comment(value: Any) -> str:
    return " ".join(str(value).split())


def _table_of_keys(settings_type: type[JobSettings]) -> Table:
    table = _table("key", "type", "default", "meaning")
    for name, field in keys(settings_type).items():
        meaning = "; also written ".join([field.description or "", *seed_names(field)])
        table.add_row(Text(name), type_name(field.annotation), Text(_default(field.default)), Text(meaning))
    return table


def _table_of_flink_keys() -> Table:
    table = _table("key", "option of Beam", "meaning")
    for name, (option, meaning) in FLINK_OPTIONS.items():
        table.add_row(Text(name), f"--{option}", Text(meaning))
    table.add_row(
        "task.parallelism, task.….parallelism", "--parallelism", "the largest of those given holds for all steps"
    )
    table.add_row(
        "job.enable.distributed.checkpointing, job.statebackend.…",
        "--state_backend_storage_path",
        "when true: checkpoints go to job.statebackend.base.url, a slash, and the job's name",
    )
    return table


def _table(*titles: str) -> Table:
    unfolded = not sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, title in enumerate(titles):
        table.add_column(title, no_wrap=unfolded or position == 0, overflow="fold")
    return table


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is ...:
        return "(mandatory)"
    if value is None:
        return "(not set)"
    if isinstance(value, bool):
        return str(value).lower()
    return MASK if isinstance(value, SecretStr) else str(value) or '""'


if __name__ == "__main__":
    main()
