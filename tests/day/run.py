"""The jobs of a day: their own steps in this process, on stores of any kind, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import ModuleType
from typing import Any

from apache_beam.pvalue import TaggedOutput

from pipelines import (
    activity_aggregate_updater,
    assessment_aggregator,
    enrolment_reconciliation,
    merge_user_courses,
    relation_cache_updater,
)
from tests.bench.steps import steps_of
from tests.day.events import FIRST, RELATION, Day
from transforms.dead_letter import FAILED
from transforms.decode import Record

__all__ = ["BATCHES_TWICE", "Emitted", "Jobs", "live"]

MODULES: tuple[ModuleType, ...] = (
    relation_cache_updater,
    activity_aggregate_updater,
    assessment_aggregator,
    enrolment_reconciliation,
    merge_user_courses,
)
# of the batches, those whose worker dies at their end, where batches are delivered again
BATCHES_TWICE = 0.1

Emitted = Counter[tuple[str, bytes]]
"""How often each value was written, with its topic: ``audit``, ``certificate``, ``sync``, or the job that failed."""


# Beam copies a step that is put into a pipeline, with all that its functions hold
_moment = FIRST


def _now() -> int:
    return _moment


def _id() -> str:
    return "id"


class Jobs:
    """All jobs of a day, each on its ``stores``; ``keyspace`` has the learners' tables, ``hierarchies`` the trees."""

    def __init__(self, keyspace: str, hierarchies: str, stores: Mapping[ModuleType, Any]) -> None:
        settings = {
            job: {"job.env": "dev", "lms-cassandra.keyspace": hierarchies if job.NAME == RELATION else keyspace}
            for job in MODULES
        }
        settings[assessment_aggregator] |= {"assessment.skip.missingRecords": True}
        self._made = {
            job.NAME: steps_of(
                job,
                job.Settings(**settings[job]),
                stores[job],
                **({} if job.NAME == RELATION else {"clock": _now, "new_id": _id}),
            )
            for job in MODULES
        }
        self._steps = {name: made.begun() for name, made in self._made.items()}

    def handle(self, job: str, records: Sequence[Record]) -> list[TaggedOutput]:
        """A bundle of a job's records."""
        return self._steps[job].handle(records)

    def die(self, job: str) -> None:
        """A new worker takes the place of the job's."""
        self._steps[job] = self._made[job].begun()


def live(
    day: Day,
    jobs: Jobs,
    write: Callable[[list[Any]], None],
    cut: Random,
    largest: int,
    again: bool = False,
    said: Callable[[int], None] = lambda _: None,
) -> Emitted:
    """Let the day pass; what was written to topics.

    The jobs take turns by ``cut``, with batches of at most ``largest`` records; ``write`` takes the services' rows.
    With ``again``, some batches are handled by a worker that dies at their end, and delivered once more; not those of
    merges, whose sums would be added twice (spec: merge-user-courses §8.7). ``said`` hears of the events so far.
    """
    global _moment
    emitted: Emitted = Counter()
    offsets: Counter[str] = Counter()
    for hour in day.hours():
        _moment = hour.at
        write(hour.writes)
        turns = [*_batches(RELATION, hour.published, cut, largest, offsets)]
        by_job = [list(_batches(job, values, cut, largest, offsets)) for job, values in hour.events.items()]
        turns += _in_turn(by_job, cut)
        for job, records in turns:
            if again and job != merge_user_courses.NAME and cut.random() < BATCHES_TWICE:
                jobs.handle(job, records)
                jobs.die(job)
            for output in jobs.handle(job, records):
                value = output.value[1] if isinstance(output.value, tuple) else output.value
                emitted[job if output.tag == FAILED else output.tag, value] += 1
        said(offsets.total())
    return emitted


Batch = tuple[str, list[Record]]


def _batches(job: str, values: Sequence[bytes | None], cut: Random, largest: int, offsets: Counter[str]) -> list[Batch]:
    found: list[Batch] = []
    start = 0
    while start < len(values):
        size = cut.randint(1, largest)
        some = values[start : start + size]
        found.append((job, [Record(v, job, 0, offsets[job] + n, 0, lasting=True) for n, v in enumerate(some)]))
        offsets[job] += len(some)
        start += size
    return found


def _in_turn(sequences: list[list[Batch]], cut: Random) -> list[Batch]:
    """All batches, in a random order that keeps that of each job."""
    turns = [place for place, sequence in enumerate(sequences) for _ in sequence]
    cut.shuffle(turns)
    following = [iter(sequence) for sequence in sequences]
    return [next(following[place]) for place in turns]
