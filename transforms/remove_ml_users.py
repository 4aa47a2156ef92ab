"""The step that lets the ML services forget deleted users.

``transforms.ml_documents`` has the updates. A user's are made in order, each waited for; users are side by side.

spec: ml-user-delete §2, §3, §6
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.decode import NotAnObject, Record, id_at, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.ml_documents import removed_user
from transforms.overlapped import Done, owners_side_by_side
from transforms.stores import Collections, Opens, Refused

__all__ = ["MlStores", "RemoveMlUsers", "SelectDeletedUsers"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MlStores:
    """The recipes: the ML services' database, and where its answers are waited for."""

    collections: Opens[Collections]
    calls: Opens[Executor]


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectDeletedUsers(beam.DoFn):
    """Takes records, gives ``(shard of the user, [record's name, user's id] as JSON)``; nothing else is passed on.

    spec: ml-user-delete §2
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes]]:
        count(self._job, "total-transfer-events-count")
        try:
            user_id = id_at(parse_object(record.value), "edata.userId")
            reason = "no edata.userId"
        except NotAnObject as error:
            user_id, reason = None, str(error)
        if user_id is None:
            count(self._job, "skipped-message-count")
            _log.warning("%s is skipped: %s", record.name, reason)
            return
        yield shard_of(user_id, self._shards), orjson.dumps([record.name, user_id])


class RemoveMlUsers(KeyedBatch):
    """Takes ``(shard, [record's name, user's id])``, all bytes; nothing comes out.

    Raises StoreUnavailable, so that the bundle fails and is repeated: the updates already made are made again.
    """

    def __init__(self, job: str, stores: MlStores, *, size: int, extra_fields: Sequence[str]) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._extra_fields = tuple(extra_fields)

    def setup(self) -> None:
        self._collections = self._stores.collections.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        records: dict[str, list[str]] = defaultdict(list)
        for payload in payloads:
            record, user_id = orjson.loads(payload)
            records[user_id].append(record)
        return owners_side_by_side(self._job, self._calls, records, self._remove, self._refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        return self._refuse(orjson.loads(payload)[0], error)

    def _refuse(self, record: str, error: Exception) -> list[TaggedOutput]:
        _log.error("%s could not be handled: %s", record, type(error).__name__)
        count(self._job, "skipped-message-count")
        return []

    def _remove(self, user_id: str, records: list[str]) -> list[Done]:
        return [self._remove_once(user_id, record) for record in records]

    def _remove_once(self, user_id: str, record: str) -> Done:
        done = Done()
        refused = 0
        for update in removed_user(user_id, self._extra_fields):
            try:
                matched = self._collections.update(*update).matched
            except Refused as error:
                _log.warning("%s: documents of %s are left as they are: %s", record, update.collection, error)
                refused += 1
                continue
            if matched:
                done.counts["user-deletion-cleanup-hit"] += 1
        if refused:
            _log.warning("%s: %d of its updates were refused", record, refused)
        done.counts["success-message-count"] += 1
        return done
