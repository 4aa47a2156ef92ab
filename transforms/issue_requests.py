"""The issue-certificate event: for which learners of which batch a certificate is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at
from transforms.keyed_batch import shard_of

__all__ = ["IssueRequest", "SelectIssueRequests", "issue_request_of"]

_log = logging.getLogger(__name__)

ACTION = "issue-certificate"


class IssueRequest(NamedTuple):
    """One event: the learners, each once, in the event's order; ``reissue``: also those who have a certificate."""

    course_id: str
    batch_id: str
    user_ids: tuple[str, ...]
    reissue: bool


def issue_request_of(parsed: dict[str, Any]) -> IssueRequest | None:
    """What an event asks for; None when it is not for this job or lacks something.

    spec: collection-cert-pre-processor §2
    """
    action = value_at(parsed, "edata.action")
    if not isinstance(action, str) or action.lower() != ACTION:
        return None
    course_id, batch_id = id_at(parsed, "edata.courseId"), id_at(parsed, "edata.batchId")
    listed = value_at(parsed, "edata.userIds")
    users = [user for user in listed if isinstance(user, str) and user.strip()] if isinstance(listed, list) else []
    if course_id is None or batch_id is None or not users:
        return None
    reissue = value_at(parsed, "edata.reIssue")
    return IssueRequest(course_id, batch_id, tuple(dict.fromkeys(users)), str(reissue).lower() == "true")


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectIssueRequests(beam.DoFn):
    """Takes records, gives ``(shard, value)`` of those that ask for certificates; FAILED gets dead letters.

    The shard spreads the records over the workers; their order does not matter (spec §3.8).
    spec: collection-cert-pre-processor §2, §6
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        try:
            request = issue_request_of(parse_object(record.value))
        except NotAnObject as error:
            count(self._job, "failed-events-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value))
            return
        if request is None:
            count(self._job, "skipped-event-count")
            return
        yield shard_of(record.name, self._shards), record.value or b""
