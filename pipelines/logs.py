"""Where logs go, as text or as JSON: one object a line, with what is known of the record at hand.

The command logs to its standard error. A worker that Beam's pool starts has no log handler at all: what is bad enough
goes bare to the pool's standard error, the rest nowhere. So the steps bring it one. A worker that Beam's SDK container
starts has Beam's handler, which sends lines to Flink; that one gets our format. docs/operations/logs.md
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from transforms.decode import NotAnObject, Record, parse_object

__all__ = ["Lines", "WorkerLogs", "at_hand", "of_message", "record_at_hand", "to_standard_error"]

record_at_hand: ContextVar[Record | None] = ContextVar("record_at_hand", default=None)
"""The record that the source has just given out: it is at hand until a step passes on to another worker."""


def at_hand(record: Record) -> Iterator[Record]:
    """Give out a record; whatever is logged until it is asked for more, is about it."""
    record_at_hand.set(record)
    yield record
    record_at_hand.set(None)


def of_message(value: bytes | None) -> dict[str, Any]:
    """The members of a line that say which message it is about: its ``mid``, where it has one."""
    try:
        message_id = parse_object(value).get("mid")
    except NotAnObject:
        message_id = None
    return {"messageId": message_id} if isinstance(message_id, str) else {}


class Lines(JsonFormatter):
    """Writes lines of a job; without ``job``, of the one whose step is at work in this worker process."""

    def __init__(self, job: str | None = None) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"},
            timestamp="time",
            json_ensure_ascii=False,
        )
        self._job = job

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] = {"job": self._job or _job_at_work()}
        about = record_at_hand.get()
        if about is not None:
            members |= {"topic": about.topic, "partition": about.partition, "offset": about.offset}
            members |= of_message(about.value)
        record.__dict__.update(members)
        # a lone surrogate can not be written, nor sent to Flink
        line = super().format(record).encode("utf-8", "replace").decode()
        if self._job is None:
            # it is in the line: Beam's handler would send it once more, and Flink write it on lines of its own
            record.exc_info = None
        return line


def to_standard_error(job: str | None, *, as_json: bool, instead: bool = False) -> None:
    """Let this process log to its standard error, ``instead`` of where it may have logged; ``job`` as for ``Lines``."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=instead,
    )
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(Lines(job))
    for chatty in ("apache_beam", "cassandra", "elasticsearch", "neo4j", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # what Beam's Java worker says arrives as the root logger's own; it does not close its channels before it ends
    logging.getLogger().addFilter(lambda record: "ManagedChannel" not in record.getMessage())
    # they warn of options that only Flink's side knows, and of steps that emit at the bundle's end
    for mistaken in ("apache_beam.options.pipeline_options", "apache_beam.transforms.core"):
        logging.getLogger(mistaken).setLevel(logging.ERROR)


@dataclass(frozen=True)
class WorkerLogs:
    """Lets the worker process in which it arrives, inside of a step, log as the job is configured.

    Workers get no options, and nothing of ours runs in them before a step does.
    """

    job: str
    as_json: bool

    def __reduce__(self) -> Any:
        return _arrived, (self.job, self.as_json)


# Those that have steps in this worker process: several where they run in a group
_jobs: set[str] = set()


def _arrived(job: str, as_json: bool) -> WorkerLogs:
    is_first = not _jobs
    _jobs.add(job)
    from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler  # noqa: PLC0415 - not for the command

    to_runner = [one for one in logging.getLogger().handlers if isinstance(one, FnApiLogRecordHandler)]
    if not to_runner and is_first and _is_worker_of_the_pool():
        # a library that had something to say when it was imported has made a handler, for warnings alone
        to_standard_error(None, as_json=as_json, instead=True)
    for handler in to_runner if as_json else ():
        if not isinstance(handler.formatter, Lines):
            handler.setFormatter(Lines())
    return WorkerLogs(job, as_json)


def _is_worker_of_the_pool() -> bool:
    """Beam's pool starts `python -c "from … import SdkHarness; SdkHarness(…).run()"`."""
    return hasattr(sys.modules["__main__"], "SdkHarness")


def _job_at_work() -> str | None:
    """The job that a line is about; of several, the one whose step this thread is in, None when it is in none."""
    if len(_jobs) == 1:
        return next(iter(_jobs))
    from apache_beam.runners.worker import statesampler  # noqa: PLC0415 - not for the command

    tracker = statesampler.get_current_tracker()
    state = tracker.current_state() if tracker else None
    step = (state.name_context.step_name if state and state.name_context else None) or ""
    return next((job for job in _jobs if step.startswith(f"{job}/")), None)
