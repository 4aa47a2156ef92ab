"""Building a job and running it: which source, sinks and runner, what is reported, with which exit code."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import apache_beam as beam
import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.runners.runner import PipelineState

from io_connectors.flink import Flink, FlinkError
from pipelines import flink
from pipelines.channels import FileSink, FileSource, KafkaSink, KafkaSource, NoSink, Sink, Source
from pipelines.configuration import Loaded
from pipelines.groups import Group, beam_options_of
from pipelines.settings import UsageError
from pipelines.shadow import shadowed
from pipelines.watched_steps import watch
from transforms.counters import counted_in_this_process, forget_counts
from transforms.dead_letter import FAILED

_log = logging.getLogger(__name__)

LARGEST_KAFKA_REQUEST = 33_554_432


@dataclass(frozen=True)
class RunRequest:
    """What the command line asks for (design: `sunbird-pipelines run`)."""

    input: Path | None = None
    input_format: str = "raw"
    output: Path | None = None
    with_keys: bool = False
    until_end: bool = False
    metrics: Path | None = None
    shadow: bool = False
    detach: bool = False
    beam_options: tuple[str, ...] = ()


class FailureWithoutSink(ValueError):
    """A job leaves a failure output unread, so its dead letters would be lost."""


def assemble(
    pipeline: beam.Pipeline,
    job: ModuleType,
    settings: Any,
    source: Source,
    sink: Sink,
    under: str | None = None,
    *,
    limited: bool = True,
) -> None:
    """Put a job between its source and sinks, ``under`` a name where there are others. Raises FailureWithoutSink.

    Its dead letters are ``limited``, but for a job in the shadow, to which every service is one that refuses.
    """
    if under:
        _ = pipeline | under >> _Among(job, settings, source, sink)
    else:
        _connect(pipeline, job, settings, source, sink)
    refuse_failures_without_sink(pipeline)
    watch(pipeline, job.NAME, settings, under=under, limited=limited)


def _connect(begin: Any, job: ModuleType, settings: object, source: Source, sink: Sink) -> None:
    outputs = job.build(source.read(begin), settings, job.stores(settings))
    for topic, written in outputs.items():
        sink.write(topic, written)


class _Among(beam.PTransform[Any, None]):
    """A job with its source and sinks as one of a pipeline's steps."""

    def __init__(self, *what: Any) -> None:
        super().__init__()
        self._what = what

    def expand(self, begin: Any) -> None:
        _connect(begin, *self._what)


def refuse_failures_without_sink(pipeline: beam.Pipeline) -> None:
    """Raise FailureWithoutSink when a step can fail on data and nothing reads its failure output."""
    finder = _FailureOutputs()
    pipeline.visit(finder)
    unread = sorted(finder.steps_with_failures - finder.steps_whose_failures_are_read)
    if unread:
        raise FailureWithoutSink(
            f"the failure output of {', '.join(unread)} has no sink: dead letters would be lost. "
            "Give it to one of the topics that the job's build function returns."
        )


class _FailureOutputs(PipelineVisitor):
    def __init__(self) -> None:
        self.steps_with_failures: set[str] = set()
        self.steps_whose_failures_are_read: set[str] = set()

    def visit_transform(self, step: AppliedPTransform) -> None:
        if FAILED in getattr(step.transform, "output_tags", ()):
            self.steps_with_failures.add(step.full_label)
        for read in step.inputs:
            if getattr(read, "tag", None) == FAILED and read.producer:
                self.steps_whose_failures_are_read.add(read.producer.full_label)


def run(job: ModuleType, loaded: Loaded, request: RunRequest) -> int:
    """Run a job as asked: 0 when all that was read is handled, 1 when the run failed. Raises UsageError."""
    if request.shadow:
        job, loaded = shadowed(job, loaded)
    if request.input:
        return _run_file(job, loaded, request)
    if request.until_end:
        from pipelines.until_end import run_until_end  # noqa: PLC0415 - needs a Kafka client that no other run needs

        return run_until_end(job, loaded, request)
    group = Group.of_one(job, loaded, writes=not request.shadow)
    return run_on_flink(group, list(request.beam_options), detach=request.detach)


def package(group: Group, out: Path, beam_options: list[str]) -> int:
    """Write the self-contained jar of a job or a group of them, which any Flink cluster runs by itself."""
    options = [*beam_options, f"--output_executable_path={out.resolve()}", "--flink_master=[auto]"]
    code = run_on_flink(group, options)
    if code == 0:
        _log.info("Written: %s", out)
    return code


def _run_file(job: ModuleType, loaded: Loaded, request: RunRequest) -> int:
    if not request.input or not request.input.exists():
        raise UsageError(f"--input {request.input}: no such file")
    source = FileSource(request.input, base64=request.input_format == "base64")
    with reported_counts(job.NAME, request.metrics):
        return 0 if run_in_process(job, loaded, request, source, file_or_no_sink(request)) else 1


def file_or_no_sink(request: RunRequest) -> Sink:
    if request.output is None:
        _log.warning("Without --output DIR, what the job writes to its topics is dropped")
        return NoSink()
    return FileSink(request.output, request.with_keys, reads=request.input)


def run_in_process(job: ModuleType, loaded: Loaded, request: RunRequest, source: Source, sink: Sink) -> bool:
    """Run a job over a bounded source with DirectRunner: whether all was handled. Raises UsageError."""
    options = PipelineOptions(["--runner=DirectRunner", *request.beam_options])
    try:
        pipeline = beam.Pipeline(options=options)
        assemble(pipeline, job, loaded.settings, source, sink, limited=not request.shadow)
        state = pipeline.run().wait_until_finish()
    except (UsageError, FailureWithoutSink):
        raise
    except Exception as error:
        _log.error("The run failed: %s", _cause(error))
        _log.debug("", exc_info=error)
        return False
    return bool(state == PipelineState.DONE)


@contextlib.contextmanager
def reported_counts(job_name: str, metrics: Path | None) -> Iterator[None]:
    """Write what the job counted in between as one JSON object, whatever happens."""
    forget_counts(job_name)
    try:
        yield
    finally:
        counted = counted_in_this_process(job_name)
        _log.info("%s counted %s", job_name, ", ".join(f"{n} {name}" for name, n in counted.items()) or "nothing")
        if metrics:
            metrics.write_text(json.dumps(counted) + "\n", encoding="utf-8")


def run_on_flink(group: Group, beam_options: list[str], *, detach: bool = False) -> int:
    """Submit a group's jobs to Flink as one, or write their jar: 0, or 1 when it failed. Raises UsageError.

    Waits until the job ends; ``detach``: until it runs.
    """
    from deploy.local.jar import job_server_jar  # noqa: PLC0415 - a run from a file needs no jar

    wanted = beam_options_of(group.members, beam_options)
    arguments = flink.options(group.name, wanted, beam_options, None)
    if str(PipelineOptions(arguments).view_as(StandardOptions).runner).endswith("DirectRunner"):
        raise UsageError("DirectRunner reads Kafka to its end only: add --until-end, or read a file with --input FILE")
    jar = job_server_jar()
    options = PipelineOptions(flink.options(group.name, wanted, beam_options, jar))
    _log.info("Assembling %s; Beam's Java service needs some seconds", group.name)
    # Beam replaces the address when it submits
    master = str(options.view_as(FlinkRunnerOptions).flink_master).removeprefix("http://")
    with flink.expansion_service(jar, in_flink=True) as expansion:
        pipeline = beam.Pipeline(options=options)
        for member in group.members:
            settings = member.loaded.settings
            source = KafkaSource(
                settings.kafka_broker_servers,
                settings.kafka_group_id,
                settings.kafka_input_topic,
                expansion,
                settings.kafka_auto_offset_reset,
            )
            sink: Sink = NoSink()
            if member.writes:
                sink = KafkaSink(settings.kafka_broker_servers, expansion, LARGEST_KAFKA_REQUEST)
            under = member.job.NAME if group.names_steps else None
            assemble(pipeline, member.job, settings, source, sink, under, limited=member.writes)
        try:
            result = pipeline.run()
        except requests.ConnectionError:
            _log.error("Flink at %s does not answer. Is it up, and flink.master its REST address, HOST:PORT?", master)
            return 1
        except (OSError, RuntimeError) as error:
            _log.error("Flink at %s did not take the job: %s", master, _cause(error))
            return 1
    if detach:
        return _left_on_flink(group.name, result, master)
    if not options.view_as(PortableOptions).output_executable_path:
        _log.info("%s runs on Flink. It stays there when this command ends; cancel it on Flink's page", group.name)
    try:
        return 0 if result.wait_until_finish() == PipelineState.DONE else 1
    except RuntimeError as error:
        _log.error("The run failed: %s", _cause(error))
        return 1


def _left_on_flink(name: str, result: Any, master: str) -> int:
    """Wait until the job that was submitted runs: 0, or 1 when it does not."""
    # Beam tells nobody under which id Flink knows a job
    job = result._job_service._jobs[result._job_id]
    try:
        Flink(master).wait_until_running(job._flink_job_id)
    except (OSError, FlinkError) as error:
        _log.error("%s was submitted, but %s", name, str(error).rstrip("."))
        _log.error("Flink tries on; to end that: sunbird-pipelines cancel %s", name)
        return 1
    finally:
        # Flink has its own copy of a job that was submitted
        job.delete_jar()
    _log.info("%s runs on Flink as %s, and stays there", name, job._flink_job_id)
    return 0


def _cause(error: BaseException) -> str:
    """The first line of what went wrong; Beam wraps it in the traces of its workers."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    # what Flink refuses comes with its trace on one line, its line ends escaped
    causes = re.findall(r"Caused by: (.+?)(?=\\[nt]|$)", said)
    return causes[-1] if causes else said
