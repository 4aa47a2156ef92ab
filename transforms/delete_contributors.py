"""The step that passes the deletion of a user on to the coKreat portal.

spec: cokreat-user-delete §2, §3, §6
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum
from typing import Any

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import Done, owners_side_by_side
from transforms.services import Contributors, ServiceAnswer, ServiceRefused
from transforms.stores import Opens, StoreUnavailable

__all__ = [
    "ContributorStores",
    "DeleteContributors",
    "SelectDeletions",
    "Verdict",
    "said_by",
    "user_to_delete",
    "verdict_on",
]

_log = logging.getLogger(__name__)

ECHO = "coKreat Flink Job"
"""The actor of the events by which the contribution service tells of the deletions that it has made."""

EXPLAINING = ("status", "err", "errmsg", "msgid", "resmsgid", "response", "message", "error")
LONGEST_SAID = 500


class Verdict(Enum):
    """What an answer of the contribution service says of the deletion."""

    DELETED = "deleted"
    NEVER_THERE = "never there"
    REFUSED = "refused"
    LATER = "later"


def user_to_delete(event: Mapping[str, Any], job: str) -> str | None:
    """The user that an event wants deleted; None for any other event.

    None, too, for what this job caused itself and finds on its own topic: the contribution service's word that the
    deletion is made, and its own dead letters. spec §2, §8.2
    """
    if value_at(event, "edata.action") != "delete-user" or value_at(event, "actor.id") == ECHO:
        return None
    if event.get("jobName") == job and "failInfo" in event:
        return None
    return id_at(event, "edata.userId")


def verdict_on(answer: ServiceAnswer) -> Verdict:
    """spec §3.3, §8.6: a 404 counts as "unknown user" only when it says so."""
    status, body = answer
    if status == 200 and body.get("responseCode") == "OK":
        return Verdict.DELETED
    said = value_at(body, "result.response")
    if status == 404 and isinstance(said, str) and "not found" in said.lower():
        return Verdict.NEVER_THERE
    return Verdict.LATER if status >= 500 else Verdict.REFUSED


def said_by(answer: ServiceAnswer, name: Any) -> str:
    """What an answer's ``params`` and ``result`` say, for the log, without the user's ``name``.

    Only members that explain: others may be the record of a person. spec §6
    """
    plain = {
        f"{part}.{member}": found
        for part in ("params", "result")
        for member in EXPLAINING
        if isinstance(found := value_at(answer.body, f"{part}.{member}"), str | int)
    }
    text = orjson.dumps(plain).decode()
    if isinstance(name, str) and name.strip():
        text = text.replace(orjson.dumps(name).decode()[1:-1], "…")
    return text[:LONGEST_SAID]


@dataclass(frozen=True)
class ContributorStores:
    """The recipes; ``calls`` is where the service is waited for."""

    contributors: Opens[Contributors]
    calls: Opens[Executor]


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectDeletions(beam.DoFn):
    """Takes records, gives ``(shard of the user, value)``; FAILED gets what can not be read. spec §3.1"""

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        try:
            user = user_to_delete(parse_object(record.value), self._job)
        except NotAnObject as error:
            count(self._job, "failed-events-count")
            _log.warning("%s can not be read: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value))
            return
        if user is None:
            count(self._job, "skipped-events-count")
            return
        yield shard_of(user, self._shards), record.value or b""


class DeleteContributors(KeyedBatch):
    """Takes ``(shard, event)``, all bytes; gives FAILED values.

    ``gives_up``: an event whose deletion fails for good, or as long as it is tried, is a dead letter. Otherwise
    nobody would get it: what may pass raises StoreUnavailable, so that the bundle fails and is repeated. spec §6
    """

    def __init__(self, job: str, stores: ContributorStores, *, size: int, gives_up: bool) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._gives_up = gives_up

    def setup(self) -> None:
        self._contributors = self._stores.contributors.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        by_user: dict[str, list[bytes]] = defaultdict(list)
        for payload in payloads:
            by_user[str(value_at(parse_object(payload), "edata.userId"))].append(payload)
        return owners_side_by_side(self._job, self._calls, by_user, self._delete_all, self.refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return [self._dead_letter(payload, f"could not be handled: {type(error).__name__}")]

    def _dead_letter(self, payload: bytes, reason: str) -> TaggedOutput:
        return TaggedOutput(FAILED, dead_letter(self._job, reason, payload, parse_object(payload)))

    def _delete_all(self, user: str, payloads: list[bytes]) -> list[Done]:
        """Events of one user, in turn."""
        return [self._delete(user, payload) for payload in payloads]

    def _delete(self, user: str, payload: bytes) -> Done:
        try:
            answer = self._contributors.delete_user(user)
        except ServiceRefused as error:
            return self._failed(payload, str(error))
        except StoreUnavailable as error:
            if not self._gives_up:
                raise
            return self._failed(payload, str(error))
        verdict = verdict_on(answer)
        if verdict is Verdict.DELETED:
            return Done(counts=Counter({"success-events-count": 1}))
        if verdict is Verdict.NEVER_THERE:
            return Done(counts=Counter({"skipped-events-count": 1}))
        reason = f"the contribution service answers {answer.status}"
        if answer.status == 200:
            reason += " without responseCode OK"
        if verdict is Verdict.LATER and not self._gives_up:
            raise StoreUnavailable(reason)
        return self._failed(payload, reason, said_by(answer, value_at(parse_object(payload), "edata.userName")))

    def _failed(self, payload: bytes, reason: str, said: str = "nothing") -> Done:
        _log.error("A user was not deleted: %s; it says %s", reason, said)
        return Done([self._dead_letter(payload, reason)], Counter({"failed-events-count": 1}))
