"""Which records can be scored at all. spec: assessment-aggregator §2, §3.1"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.assessment import InvalidAssessment, assessment_of
from transforms.assessment_failures import failed_event
from transforms.counters import count
from transforms.dead_letter import FAILED
from transforms.decode import NotAnObject, Record, parse_object
from transforms.keyed_batch import shard_of

__all__ = ["SelectAssessments"]

_log = logging.getLogger(__name__)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectAssessments(beam.DoFn):
    """Takes records, gives ``(shard of the user, value)`` of valid events; FAILED gets Kafka records (key, value)."""

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        parsed = None
        try:
            parsed = parse_object(record.value)
            assessment = assessment_of(parsed)
        except (NotAnObject, InvalidAssessment) as error:
            count(self._job, "failed-event-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield TaggedOutput(FAILED, failed_event(str(error), record.value, parsed))
            return
        yield shard_of(assessment.enrolment.user_id, self._shards), record.value or b""
