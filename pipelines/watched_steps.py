"""What is added to every step of a job when its pipeline is assembled: the limit of dead letters, and the logs.

Both travel inside the steps, for the workers that Beam's pool starts get no options. A step's function is replaced by
one that calls it, as Beam itself does to check types at run time (``apache_beam.typehints.typecheck``).
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from pipelines import logs
from pipelines.settings import JobSettings
from transforms.dead_letter import FAILED
from transforms.dead_letter_limit import Limit, RecentRecords
from transforms.replayed import letter_of

__all__ = ["TooManyDeadLetters", "watch"]

_log = logging.getLogger(__name__)


class TooManyDeadLetters(RuntimeError):
    """So many records became dead letters that the cause is none of theirs. The bundle fails, nothing is committed."""


def watch(pipeline: beam.Pipeline, job: str, settings: JobSettings, *, under: str | None, limited: bool) -> None:
    """Watch the steps of a job, those ``under`` a name where the pipeline has others; all of them are there already.

    Without ``limited``, dead letters are as many as they like.
    """
    limit = Limit(settings.dead_letters_max_share, settings.dead_letters_max_in_a_row) if limited else Limit()
    worker_logs = logs.WorkerLogs(job, as_json=settings.logs_format == "json")
    pipeline.visit(_Watching(job, f"{under}/" if under else "", limit, worker_logs))


class _Watching(PipelineVisitor):
    def __init__(self, job: str, prefix: str, limit: Limit, worker_logs: logs.WorkerLogs) -> None:
        self._job = job
        self._prefix = prefix
        self._limit = limit
        self._logs = worker_logs

    def visit_transform(self, step: AppliedPTransform) -> None:
        transform = step.transform
        if not isinstance(transform, beam.ParDo) or not step.full_label.startswith(self._prefix):
            return
        # nothing reads it: it has its effect where the step arrives
        transform.fn.worker_logs = self._logs
        if FAILED in getattr(transform, "output_tags", ()):
            transform.fn = transform.dofn = _Watched(transform.fn, self._job, self._limit)


# Good records are said together: one by one they would cost more than many a step that passes them over.
GOOD_TOGETHER = 100

# of all steps that run in this process, whatever copies of them Beam makes
_recent: dict[str, RecentRecords] = {}
_lock = threading.Lock()


class _Watched(beam.DoFn):
    """A step that can fail on data, and what became of the records that it got."""

    def __init__(self, step: beam.DoFn, job: str, limit: Limit) -> None:
        self._step = step
        self._job = job
        self._limit = limit
        self._name = str(uuid.uuid4())
        self._got = 0
        self._good = 0

    def _inspect_process(self) -> Any:
        return self._step.get_function_arguments("process")

    def _inspect_start_bundle(self) -> Any:
        return self._step.get_function_arguments("start_bundle")

    def _inspect_finish_bundle(self) -> Any:
        return self._step.get_function_arguments("finish_bundle")

    def setup(self) -> Any:
        return self._step.setup()

    def teardown(self) -> Any:
        return self._step.teardown()

    def start_bundle(self, *arguments: Any, **named: Any) -> Any:
        self._got = 0
        return self._step.start_bundle(*arguments, **named)

    def process(self, *arguments: Any, **named: Any) -> Iterable[Any]:
        self._got += 1
        return self._seen(self._step.process(*arguments, **named))

    def finish_bundle(self, *arguments: Any, **named: Any) -> Iterable[Any]:
        return self._seen(self._step.finish_bundle(*arguments, **named))

    def _seen(self, outputs: Iterable[Any] | None) -> Iterable[Any]:
        """The outputs, when there are not too many dead letters among them. Raises TooManyDeadLetters."""
        given = list(outputs or ())
        letters = [output for output in given if isinstance(output, TaggedOutput) and output.tag == FAILED]
        waiting = getattr(self._step, "waiting", 0)
        handled, self._got = self._got - waiting, waiting
        if not letters:
            self._good += handled
            if self._good < GOOD_TOGETHER:
                return given
        if exceeded := self._note(handled, len(letters)):
            raise TooManyDeadLetters(self._explained(exceeded, letters[-1]))
        for letter in letters:
            self._tell(letter)
        return given

    def _note(self, handled: int, letters: int) -> str | None:
        """Say what was handled; what exceeds the limit, which only a letter can do."""
        with _lock:
            recent = _recent.setdefault(self._name, RecentRecords())
            if self._good:
                recent.note(self._good, 0, self._limit)
                self._good = 0
            return recent.note(handled, letters, self._limit) if letters else None

    def _tell(self, output: TaggedOutput) -> None:
        """One line for a letter of a step that no longer knows where the record came from."""
        if logs.record_at_hand.get() is None:
            letter = letter_of(_value(output), self._job)
            _log.info("Dead letter: %s", letter.reason, extra=logs.of_message(letter.original))

    def _explained(self, exceeded: str, last: TaggedOutput) -> str:
        reason = letter_of(_value(last), self._job).reason
        return (
            f"{self._job} stops: {exceeded}, the last one because: {reason}. Nothing is lost; what was not committed "
            "is read again. Mend the cause; or, if all are to go to the failed topic, start it with a higher limit "
            "(none: --set dead-letters.max-in-a-row=0 --set dead-letters.max-share=1)."
        )


def _value(output: TaggedOutput) -> bytes:
    """The letter itself; one that ends a bundle comes in its window, and some jobs give it with its Kafka key."""
    value = output.value.value if isinstance(output.value, WindowedValue) else output.value
    letter: bytes = value[1] if isinstance(value, tuple) else value
    return letter
