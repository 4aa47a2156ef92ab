"""The steps that store who joined a program; ``transforms.program_users`` has the rules of what is stored."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date
from typing import Any

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.decode import NotAnObject, Record, id_at, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.program_users import DATES, columns, program_and_user
from transforms.stores import Opens, Tables, Update

__all__ = ["SelectProgramUsers", "StoreProgramUsers"]

_log = logging.getLogger(__name__)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectProgramUsers(beam.DoFn):
    """Takes Records and gives ``(shard, row)``, all bytes, for those that name a program and a user.

    The others are counted, as failed when they are no JSON objects, else as skipped. spec: program-user-info §3, §6
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterable[tuple[bytes, bytes]]:
        count(self._job, "total-events-count")
        try:
            event = parse_object(record.value)
        except NotAnObject as error:
            _log.error("%s is not stored: %s", record.name, error)
            count(self._job, "failed-events-count")
            return []
        key = program_and_user(event)
        if key is None:
            _log.info("Skipped %s: document %.200s names no program or no user", record.name, id_at(event, "_id"))
            count(self._job, "skipped-events-count")
            return []
        row = columns(event)
        for column, member in DATES.items():
            if column not in row and event.get(member) is not None:
                _log.warning("%s of document %.200s is no date and is left out", member, id_at(event, "_id"))
        return [(shard_of("\n".join(key), self._shards), orjson.dumps((*key, row)))]


class StoreProgramUsers(KeyedBatch):
    """Takes ``(shard, row)`` and writes the rows of ``table`` (``keyspace.name``); nothing comes out.

    Rows of one user in one program become one, as if written one after the other. A row that the store refuses is
    logged and counted. Raises StoreUnavailable, so that the bundle fails and is repeated.

    spec: program-user-info §3, §6, §7
    """

    def __init__(self, job: str, tables: Opens[Tables], table: str, *, size: int) -> None:
        super().__init__(size)
        self._job = job
        self._opens = tables
        self._table = table

    def setup(self) -> None:
        self._tables = self._opens.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        events: dict[tuple[str, str], int] = {}
        for payload in payloads:
            program, user, row = orjson.loads(payload)
            rows[program, user] = {**rows.get((program, user), {}), **row}
            events[program, user] = events.get((program, user), 0) + 1
        keys = sorted(rows)  # rows of one program travel together
        for key, refused in zip(
            keys, self._tables.write([[self._update(key, rows[key])] for key in keys]), strict=True
        ):
            if refused:
                _log.error("The row of %.200r in program %.200r is not stored: %s", key[1], key[0], refused)
            count(self._job, "failed-events-count" if refused else "success-events-count", events[key])
        return []

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        """This job has no failed topic: the service sends the document again when the user joins again."""
        _log.error("A row could not be stored: %s", type(error).__name__)
        count(self._job, "failed-events-count")
        return []

    def _update(self, key: tuple[str, str], row: dict[str, Any]) -> Update:
        """One statement for a row; it makes the row too, since a column is always set."""
        dates = {column: date.fromisoformat(row[column]) for column in DATES if column in row}
        return Update(self._table, {"program_id": key[0], "user_id": key[1]}, {**row, **dates})
