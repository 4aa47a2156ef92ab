"""Logs as JSON, one object a line: time, level, logger, message, job, and what is known of the record at hand.

Here, and in the workers: there, Beam's handler sends each line to Flink, where it comes out as a message of the
TaskManager's log (docs/operations/logs.md says how that is written as it is).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from apache_beam.runners.worker import statesampler
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler
from pythonjsonlogger.json import JsonFormatter

from transforms.decode import NotAnObject, Record, parse_object

__all__ = ["Lines", "WorkerLogs", "at_hand", "of_message", "record_at_hand"]

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


@dataclass(frozen=True)
class WorkerLogs:
    """Makes the worker process in which it arrives, inside of a step, write JSON.

    Workers of Beam's pool get no options, and nothing of ours runs in them before a step does.
    """

    job: str

    def __reduce__(self) -> Any:
        return _arrived, (self.job,)


# Those that have steps in this worker process: several where they run in a group
_jobs: set[str] = set()


def _arrived(job: str) -> WorkerLogs:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, FnApiLogRecordHandler):
            _jobs.add(job)
            if not isinstance(handler.formatter, Lines):
                handler.setFormatter(Lines())
    return WorkerLogs(job)


def _job_at_work() -> str | None:
    """The job that a line is about; of several, the one whose step this thread is in, None when it is in none."""
    if len(_jobs) == 1:
        return next(iter(_jobs))
    tracker = statesampler.get_current_tracker()
    state = tracker.current_state() if tracker else None
    step = (state.name_context.step_name if state and state.name_context else None) or ""
    return next((job for job in _jobs if step.startswith(f"{job}/")), None)
