"""The stores' twins in memory: the same interfaces and the same refusals, for tests without servers.

A twin is known by its name in the process: every copy of its recipe opens the same one. Beside what its interface
says, a twin tells what was asked of it (``operations``) and fails on demand.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from io_connectors import data_cache
from io_connectors.memory_tables import Key, MemoryTable
from io_connectors.one_per_process import one_per_process
from schemas.cassandra import tables, user_types
from transforms.stores import Delete, HashChange, Refused, Row, Select, StoreUnavailable, Update, Write

__all__ = [
    "Crashed",
    "MemoryCassandra",
    "MemoryCollectionStatuses",
    "MemoryKeyValues",
    "MemoryRedis",
    "MemoryStatuses",
    "MemoryTables",
    "Operation",
    "Twin",
]


@dataclass(frozen=True)
class MemoryCassandra:
    """The recipe of a Cassandra with the tables of ``schemas`` for the environment ``env``."""

    name: str
    env: str = "dev"

    def open(self) -> MemoryTables:
        """The twin of this name and environment."""
        return one_per_process(self, lambda: MemoryTables(self.env))


@dataclass(frozen=True)
class MemoryRedis:
    """The recipe of one database of a Redis."""

    name: str
    database: int

    def open(self) -> MemoryKeyValues:
        """The twin of this name and database."""
        return one_per_process(self, MemoryKeyValues)


@dataclass(frozen=True)
class MemoryCollectionStatuses:
    """The recipe of a search service."""

    name: str

    def open(self) -> MemoryStatuses:
        """The twin of this name."""
        return one_per_process(self, MemoryStatuses)


class Crashed(Exception):
    """The worker died here, as the test wanted it."""


class Operation(NamedTuple):
    """What was asked of a twin: the method, and its statement, batch of statements, or keys."""

    name: str
    subject: Any


class Twin:
    """What every twin can do beside its interface; those of documents and objects are in modules of their own.

    ``unavailable`` makes every call raise StoreUnavailable, ``fail_next`` the next few; ``crash_at`` raises Crashed
    instead of the n-th operation from now on, with the ones before done. One batch of statements is one operation,
    and so is one key that is written.
    """

    def __init__(self) -> None:
        self.unavailable = False
        self.operations: list[Operation] = []
        self._failures = 0
        self._until_crash = 0
        self._lock = threading.RLock()

    def fail_next(self, calls: int) -> None:
        """Let so many calls raise StoreUnavailable."""
        self._failures = calls

    def crash_at(self, operation: int) -> None:
        """Raise Crashed instead of this operation, counted from 1 for the next; 0 for never."""
        self._until_crash = operation

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._lock:
            if self.unavailable or self._failures:
                self._failures = max(0, self._failures - 1)
                raise StoreUnavailable(f"{type(self).__name__} in memory stays away")
            yield

    def _operate(self, name: str, subject: Any) -> None:
        if self._until_crash:
            self._until_crash -= 1
            if not self._until_crash:
                raise Crashed(f"instead of {name}")
        self.operations.append(Operation(name, subject))


class MemoryTables(Twin):
    """Tables (``transforms.stores.Tables``) that know their keys and types and refuse as the server does.

    Stricter in one thing: to write a cell twice in one batch is a ValueError, because to the server all of a batch
    happens at the same time, and it is not the later value that wins; so is to write and delete a row.
    """

    def __init__(self, env: str) -> None:
        super().__init__()
        types = user_types(env)
        self._tables = {name: MemoryTable(schema, types) for name, schema in tables(env).items()}

    def select(self, selects: Sequence[Select]) -> list[list[Row] | Refused]:
        """As the protocol says; rows of several partitions come in another order than asked for."""
        with self._call():
            return [self._select_one(select) for select in selects]

    def write(self, batches: Sequence[Sequence[Write]]) -> list[Refused | None]:
        """As the protocol says; all of a batch is written, or nothing."""
        with self._call():
            return [self._write_one(tuple(batch)) for batch in batches]

    def rows(self, table: str) -> list[Row]:
        """All rows with all columns, in the order of their keys."""
        found = self._table(table)
        with self._lock:
            return [
                {column: row.get(column) for column in found.schema.columns}
                for _, row in sorted(found.rows.items(), key=lambda item: repr(item[0]))
            ]

    def insert(self, table: str, *rows: Row) -> None:
        """What another service wrote with INSERT: a row that exists even if it holds nothing beside its key."""
        with self._lock:
            for row in rows:
                self._table(table).insert(row)

    def clear(self) -> None:
        """Remove all rows, and forget what was asked."""
        with self._lock:
            for table in self._tables.values():
                table.clear()
            self.operations.clear()

    def _table(self, name: str) -> MemoryTable:
        try:
            return self._tables[name.lower()]
        except KeyError:
            raise StoreUnavailable(f"Cassandra in memory: table {name} does not exist") from None

    def _select_one(self, select: Select) -> list[Row] | Refused:
        self._operate("select", select)
        try:
            return self._table(select.table).select(select)
        except Refused as refused:
            return refused

    def _write_one(self, batch: tuple[Write, ...]) -> Refused | None:
        self._operate("write", batch)
        updates = [write for write in batch if isinstance(write, Update)]
        _check_cells(updates)
        if len(batch) > 1 and any(update.if_exists for update in updates):
            raise ValueError(f"{batch[0].table}: an if_exists update is a batch of its own")
        changed: dict[str, dict[Key, Row]] = {}
        try:
            for update in updates:
                pending = changed.setdefault(update.table, {})
                key, row = self._table(update.table).updated(update, pending)
                if not update.if_exists or key in self._table(update.table).rows:
                    pending[key] = row
            gone = [
                (delete.table, key)
                for delete in batch
                if isinstance(delete, Delete)
                for key in self._table(delete.table).deleted(delete, changed.get(delete.table, {}))
            ]
        except Refused as refused:
            return refused
        if met := [name for name, key in gone if key in changed.get(name, ())]:
            raise ValueError(f"{met[0]}: a row is written and deleted in one batch")
        for name, key in gone:
            self._table(name).remove(key)
        for name, rows in changed.items():
            for key, row in rows.items():
                self._table(name).put(key, row)
        return None


def _check_cells(updates: Sequence[Update]) -> None:
    cells = Counter(
        (update.table, *map(repr, update.where.items()), *cell)
        for update in updates
        for cell in (
            *((column,) for column in update.assign),
            *((column, repr(entry)) for column, entries in update.add.items() for entry in entries),
        )
    )
    if twice := [cell for cell, times in cells.items() if times > 1]:
        raise ValueError(f"a cell is written twice in one batch: {twice[0]}")


Value = str | set[str] | dict[str, str]
T = TypeVar("T")


class MemoryKeyValues(Twin):
    """A database of Redis (``transforms.stores.KeyValues``). ``clock`` gives seconds; keys expire by it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: Callable[[], float] = time.monotonic
        self._values: dict[str, Value] = {}
        self._expire: dict[str, float] = {}

    def members(self, keys: Sequence[str]) -> list[frozenset[str]]:
        """As the protocol says."""
        with self._asked("members", *keys):
            return [frozenset(self._found(key, set) or ()) for key in keys]

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """As the protocol says."""
        with self._asked("exists", *keys):
            return [self._found(key) is not None for key in keys]

    def get(self, keys: Sequence[str]) -> list[str | None]:
        """As the protocol says."""
        with self._asked("get", *keys):
            return [self._found(key, str) for key in keys]

    def set(self, values: Mapping[str, str], expiry: int | None = None) -> None:
        """As the protocol says."""
        if expiry is not None and expiry < 1:
            raise ValueError(f"an expiry of {expiry} seconds")
        with self._asked(None, *values, *values.values()):
            for key, value in values.items():
                self._operate("set", key)
                self._put(key, value)
                if expiry is not None:
                    self._expire[key] = self.clock() + expiry

    def replace_sets(self, sets: Mapping[str, Collection[str]]) -> None:
        """As the protocol says."""
        if empty := [key for key, members in sets.items() if not members]:
            raise ValueError(f"a set without members: {empty[0]}")
        with self._asked(None, *sets, *chain.from_iterable(sets.values())):
            for key, members in sets.items():
                self._operate("replace_sets", key)
                self._put(key, set(members))

    def add_members(self, key: str, members: Collection[str]) -> None:
        """As the protocol says."""
        with self._asked("add_members", key, *members):
            if members:
                self._values[key] = (self._found(key, set) or set()) | set(members)

    def delete(self, keys: Sequence[str]) -> int:
        """As the protocol says."""
        with self._asked(None, *keys):
            deleted = 0
            for key in keys:
                self._operate("delete", key)
                deleted += self._found(key) is not None
                self._values.pop(key, None)
                self._expire.pop(key, None)
            return deleted

    def scan(self, prefix: str) -> list[str]:
        """As the protocol says."""
        with self._asked("scan", prefix):
            return sorted(key for key in list(self._values) if key.startswith(prefix) and self._found(key) is not None)

    def json_map(self, key: str, fields: Sequence[str] = ()) -> dict[str, Any]:
        """As the protocol says."""
        return data_cache.json_map(key, self.get([key])[0], fields)

    def hash_map(self, key: str, fields: Sequence[str] = (), all_fields: bool = False) -> dict[str, Any]:
        """As the protocol says."""
        with self._asked("hash_map", key):
            return data_cache.hash_map(self._found(key, dict) or {}, fields, all_fields)

    def set_hash(self, key: str, values: Mapping[str, str]) -> None:
        """As the protocol says."""
        with self._asked("set_hash", key, *values, *values.values()):
            if values:
                self._values[key] = {**(self._found(key, dict) or {}), **values}

    def delete_hash_fields(self, key: str, fields: Sequence[str]) -> None:
        """As the protocol says."""
        with self._asked("delete_hash_fields", key, *fields):
            left = {name: value for name, value in (self._found(key, dict) or {}).items() if name not in fields}
            if fields and left:
                self._values[key] = left
            elif fields:
                self._values.pop(key, None)
                self._expire.pop(key, None)

    def hash_fields(self, keys: Sequence[str]) -> list[frozenset[str] | Refused]:
        """As the protocol says."""
        with self._asked("hash_fields", *keys):
            return [_or_refused(partial(self._fields, key)) for key in keys]

    def change_hashes(self, changes: Mapping[str, HashChange]) -> list[Refused | None]:
        """As the protocol says."""
        texts = (text for change in changes.values() for text in (*change.put, *change.put.values(), *change.remove))
        with self._asked(None, *changes, *texts):
            return [_or_refused(partial(self._change_hash, key, change)) for key, change in changes.items()]

    def _fields(self, key: str) -> frozenset[str]:
        return frozenset(self._found(key, dict) or ())

    def _change_hash(self, key: str, change: HashChange) -> None:
        self._operate("change_hashes", key)
        there = self._found(key, dict) or {}
        changed = {name: value for name, value in there.items() if name not in change.remove} | dict(change.put)
        if changed:
            self._values[key] = changed
        else:
            self._values.pop(key, None)
            self._expire.pop(key, None)

    def time_to_live(self, key: str) -> float | None:
        """The seconds that a key has left; None when it has no end, or is not there."""
        with self._lock:
            return self._expire[key] - self.clock() if self._found(key) is not None and key in self._expire else None

    def type_of(self, key: str) -> str:
        """As Redis' TYPE: ``string``, ``set``, ``hash`` or ``none``."""
        with self._lock:
            return {str: "string", set: "set", dict: "hash", type(None): "none"}[type(self._found(key))]

    def clear(self) -> None:
        """Remove all keys, and forget what was asked."""
        with self._lock:
            self._values.clear()
            self._expire.clear()
            self.operations.clear()

    @contextmanager
    def _asked(self, name: str | None, *texts: str) -> Iterator[None]:
        """Like Redis' client: texts that can not be encoded are refused before anything is sent."""
        for text in texts:
            try:
                str.encode(text)
            except (TypeError, UnicodeEncodeError) as error:
                raise Refused(f"not a text that Redis can hold: {error}") from error
        with self._call():
            if name is not None:
                self._operate(name, texts)
            yield

    def _put(self, key: str, value: Value) -> None:
        self._values[key] = value
        self._expire.pop(key, None)

    def _found(self, key: str, kind: type | None = None) -> Any:
        if key in self._expire and self._expire[key] <= self.clock():
            del self._values[key], self._expire[key]
        value = self._values.get(key)
        if kind is not None and value is not None and not isinstance(value, kind):
            raise Refused(f"Redis in memory: {key}: WRONGTYPE Operation against a key holding the wrong kind of value")
        return value


def _or_refused(call: Callable[[], T]) -> T | Refused:
    try:
        return call()
    except Refused as refused:
        return refused


class MemoryStatuses(Twin):
    """A search service (``transforms.stores.CollectionStatuses``) that knows what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._statuses: dict[str, str] = {}

    def set_status(self, course_id: str, status: str | None) -> None:
        """Tell the status of a collection; None: that there is none."""
        with self._lock:
            self._statuses.pop(course_id, None)
            if status is not None:
                self._statuses[course_id] = status

    def status(self, course_id: str) -> str | None:
        """As the protocol says."""
        with self._call():
            self._operate("status", course_id)
            self.calls.append(course_id)
            return self._statuses.get(course_id)
