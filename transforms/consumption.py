"""The learner's consumption event: which records are work for the progress job, and what is read from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at
from transforms.enrolments import Enrolment
from transforms.keyed_batch import shard_of

__all__ = ["Consumption", "Enrolment", "InvalidEvent", "SelectConsumption", "Work", "consumption_of", "enrolment_of"]

_log = logging.getLogger(__name__)

ACTION = "batch-enrolment-update"
COMPLETED = 2
# A Cassandra key holds at most 65,535 bytes; the aggregates' partition key holds two ids.
LONGEST_ID = 32_000


class Consumption(NamedTuple):
    """What one event reports: contents that the learner completed, in the event's order, with repetitions."""

    enrolment: Enrolment
    contents: tuple[str, ...]


class InvalidEvent(ValueError):
    """An event of the right kind that lacks what the work needs. The message is one line without personal data."""


def consumption_of(parsed: dict[str, Any]) -> Consumption | None:
    """The consumption that an event reports; None when the event is not for this job. Raises InvalidEvent.

    spec: activity-aggregate-updater §2
    """
    action = value_at(parsed, "edata.action")
    if not isinstance(action, str) or action.lower() != ACTION:
        return None
    reported = value_at(parsed, "edata.contents")
    if reported is None or reported == []:
        return None
    if not isinstance(reported, list):
        raise InvalidEvent("edata.contents is not a list")
    completed = [entry for entry in reported if _is_completed(entry)]
    if not completed:
        return None
    enrolment = enrolment_of(parsed)
    contents = tuple(content for entry in completed if (content := id_at(entry, "contentId")) is not None)
    if not contents:
        raise InvalidEvent("edata.contents: no completed entry has a contentId")
    for content in contents:
        _check_length("edata.contents[].contentId", content)
    return Consumption(enrolment, contents)


def enrolment_of(parsed: dict[str, Any]) -> Enrolment:
    """The enrolment that an event is about: ``edata.userId``, ``courseId``, ``batchId``. Raises InvalidEvent.

    spec: activity-aggregate-updater §2, enrolment-reconciliation §2
    """
    return Enrolment(*(_required_id(parsed, name) for name in Enrolment._fields))


def _is_completed(entry: Any) -> bool:
    status = value_at(entry, "status")
    return isinstance(status, int | float) and not isinstance(status, bool) and status == COMPLETED


_WIRE_NAMES = {"user_id": "edata.userId", "course_id": "edata.courseId", "batch_id": "edata.batchId"}


def _required_id(parsed: dict[str, Any], name: str) -> str:
    path = _WIRE_NAMES[name]
    value = id_at(parsed, path)
    if value is None:
        raise InvalidEvent(f"{path} is missing, blank or not a string")
    _check_length(path, value)
    return value


def _check_length(path: str, value: str) -> None:
    if len(value) > LONGEST_ID // 4 and len(value.encode()) > LONGEST_ID:
        raise InvalidEvent(f"{path} is longer than {LONGEST_ID} bytes, more than a Cassandra key can hold")


class Work(NamedTuple):
    """A consumption on its way to its owner's worker.

    ``delivery`` names the Kafka record (topic, partition, offset, timestamp), so that a redelivered record is told
    from a repeated event; it is empty where records have no lasting position, as in a file.
    """

    consumption: Consumption
    delivery: str
    value: bytes

    @classmethod
    def of(cls, consumption: Consumption, record: Record) -> Work:
        return cls(consumption, record.name if record.lasting else "", record.value or b"")

    def to_bytes(self) -> bytes:
        """One line of JSON with what was read, then the record's value as it came."""
        enrolment, contents = self.consumption
        return orjson.dumps([self.delivery, *enrolment, *contents]) + b"\n" + self.value

    @classmethod
    def from_bytes(cls, payload: bytes) -> Work:
        head, _, value = payload.partition(b"\n")
        delivery, user_id, course_id, batch_id, *contents = orjson.loads(head)
        return cls(Consumption(Enrolment(user_id, course_id, batch_id), tuple(contents)), delivery, value)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectConsumption(beam.DoFn):
    """Takes records, gives ``(shard of the user, Work as bytes)``; FAILED gets dead letters; the rest is skipped.

    ``read`` says what a record is to the job; ``counter`` counts what is taken. Never raises for the sake of a record.
    spec: activity-aggregate-updater §3.1, enrolment-reconciliation §2
    """

    def __init__(
        self,
        job: str,
        shards: int,
        read: Callable[[dict[str, Any]], Consumption | None],
        counter: str | None = None,
    ) -> None:
        self._job = job
        self._shards = shards
        self._read = read
        self._counter = counter

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        parsed = None
        try:
            parsed = parse_object(record.value)
            consumption = self._read(parsed)
        except (NotAnObject, InvalidEvent) as error:
            count(self._job, "failed-events-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value, parsed))
            return
        if consumption is None:
            count(self._job, "skipped-events-count")
            return
        if self._counter:
            count(self._job, self._counter)
        yield shard_of(consumption.enrolment.user_id, self._shards), Work.of(consumption, record).to_bytes()
