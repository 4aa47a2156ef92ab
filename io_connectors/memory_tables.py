"""A Cassandra table in memory: keys, types and refusals as the server has them (spec: tables-lern)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

from schemas.cassandra import Table
from transforms.stores import Delete, Refused, Row, Select, Update

__all__ = ["Key", "MemoryTable"]

Key = tuple[Any, ...]
Fit = Callable[[Any], Any]

LONGEST_KEY = 65_535
_EPOCH = datetime(1970, 1, 1)


class MemoryTable:
    """The rows of one table by their keys. Every method that takes values raises Refused where the server refuses."""

    def __init__(self, schema: Table, types: Mapping[str, Mapping[str, str]]) -> None:
        self.schema = schema
        self.rows: dict[Key, Row] = {}
        self._partitions: dict[Key, dict[Key, Row]] = {}
        self._inserted: set[Key] = set()
        self._key = (*schema.partition_key, *schema.clustering_key)
        self._fits = {column: _fit(cql_type, schema.keyspace, types) for column, cql_type in schema.columns.items()}

    def select(self, select: Select) -> list[Row]:
        """The rows, by clustering key; partitions come in another order than asked for."""
        for column in select.columns:
            self._check_column(column)
        wanted = self._wanted(select.where)
        found = [row for row in self._in_partitions(wanted) if all(row[column] in wanted[column] for column in wanted)]
        found.sort(key=lambda row: [_order(row[column]) for column in self.schema.clustering_key])
        found.sort(key=lambda row: [_order(row[column]) for column in self.schema.partition_key], reverse=True)
        columns = [column.lower() for column in select.columns or self.schema.columns]
        return [{column: _given(row.get(column)) for column in columns} for row in found]

    def updated(self, update: Update, pending: Mapping[Key, Row]) -> tuple[Key, Row]:
        """The key and the row that an update gives, on top of ``pending`` rows; nothing is changed yet."""
        key = self._full_key(update.where)
        if not update.assign and not update.add:
            raise Refused("nothing to set")
        for column in (*update.assign, *update.add):
            self._check_column(column)
            if column.lower() in self._key:
                raise Refused(f"PRIMARY KEY part {column} found in SET part")
        if update.assign.keys() & update.add.keys():
            raise Refused("Multiple incompatible setting of column")
        row = dict(pending.get(key) or self.rows.get(key) or zip(self._key, key, strict=True))
        for column, value in update.assign.items():
            fitting = self._fitting(column, value)
            row[column.lower()] = None if fitting in ({}, [], set()) else fitting
        for column, value in update.add.items():
            row[column.lower()] = self._added(column, row.get(column.lower()), value) or None
        return key, row

    def deleted(self, delete: Delete, pending: Mapping[Key, Row]) -> list[Key]:
        """The keys that a deletion removes of the rows that there are and the ``pending``; nothing is changed yet."""
        wanted = self._wanted({name: [value] for name, value in delete.where.items()})
        _check_length([wanted[column][0] for column in self.schema.clustering_key if column in wanted])
        rows = {**self.rows, **pending}
        return [key for key, row in rows.items() if all(row[column] in wanted[column] for column in wanted)]

    def remove(self, key: Key) -> None:
        """Forget a row, with its having been inserted."""
        self._forget(key)
        self._inserted.discard(key)

    def put(self, key: Key, row: Row) -> None:
        """Keep the row; one that holds nothing beside its key exists only when it was inserted."""
        if key in self._inserted or any(value is not None for column, value in row.items() if column not in self._key):
            self._keep(key, row)
        else:
            self._forget(key)

    def insert(self, row: Row) -> None:
        """Put a row as INSERT does: its key alone makes it exist."""
        keys = {column: value for column, value in row.items() if column.lower() in self._key}
        others = {column: value for column, value in row.items() if column.lower() not in self._key}
        key = self._full_key(keys)
        self._inserted.add(key)
        if others:
            _, found = self.updated(Update("", keys, others), {})
            self.put(key, found)
        elif key not in self.rows:
            self._keep(key, dict(zip(self._key, key, strict=True)))

    def clear(self) -> None:
        """Remove all rows."""
        self.rows.clear()
        self._partitions.clear()
        self._inserted.clear()

    # --- rows by partition

    def _keep(self, key: Key, row: Row) -> None:
        self.rows[key] = row
        self._partitions.setdefault(key[: len(self.schema.partition_key)], {})[key] = row

    def _forget(self, key: Key) -> None:
        if self.rows.pop(key, None) is not None:
            del self._partitions[key[: len(self.schema.partition_key)]][key]

    def _in_partitions(self, wanted: Mapping[str, list[Any]]) -> Iterator[Row]:
        for partition in product(*(dict.fromkeys(wanted[column]) for column in self.schema.partition_key)):
            yield from self._partitions.get(partition, {}).values()

    # --- keys

    def _full_key(self, where: Mapping[str, Any]) -> Key:
        given = {name.lower(): value for name, value in where.items()}
        if missing := [column for column in self._key if column not in given]:
            raise Refused(f"Some key parts are missing: {', '.join(missing)}")
        for column in given:
            self._check_column(column)
            if column not in self._key:
                raise Refused(f"Non PRIMARY KEY columns found in where clause: {column}")
        key = tuple(self._fitting_key(column, given[column]) for column in self._key)
        parts = len(self.schema.partition_key)
        _check_partition_key(key[:parts])
        _check_length(key[parts:])
        return key

    def _wanted(self, where: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The values to find for each column that is restricted; a list of them stands for IN."""
        wanted: dict[str, list[Any]] = {}
        for name, value in where.items():
            self._check_column(name)
            values = value if isinstance(value, list | tuple) else [value]
            wanted[name.lower()] = [self._fitting_key(name, one) for one in values]
        partition_key, clustering_key = self.schema.partition_key, self.schema.clustering_key
        if not set(partition_key) <= wanted.keys() <= set(self._key):
            raise Refused("Cannot execute this query as it might involve data filtering")
        restricted = [column in wanted for column in clustering_key]
        if restricted != sorted(restricted, reverse=True):
            raise Refused("PRIMARY KEY column cannot be restricted as a preceding column is not restricted")
        if len(partition_key) == 1:
            for value in wanted[partition_key[0]]:
                _check_partition_key((value,))
        else:
            _check_length([max(wanted[column], key=len, default="") for column in partition_key])
        return wanted

    # --- columns and values

    def _check_column(self, name: str) -> None:
        if name.lower() not in self._fits:
            raise Refused(f"Undefined column name {name} in table {self.schema.keyspace}.{self.schema.name}")

    def _fitting(self, column: str, value: Any) -> Any:
        """The value as it is read back."""
        if value is None:
            return None
        try:
            return self._fits[column.lower()](value)
        except (TypeError, ValueError, OverflowError, ArithmeticError, struct.error) as error:
            raise Refused(
                f"{self.schema.keyspace}.{self.schema.name}: a value does not fit {column}: {error}"
            ) from error

    def _fitting_key(self, column: str, value: Any) -> Any:
        if value is None:
            raise Refused(f"Invalid null value in condition for column {column}")
        return self._fitting(column, value)

    def _added(self, column: str, before: Any, entries: Any) -> Any:
        cql_type = self.schema.columns[column.lower()]
        if not cql_type.startswith(("map<", "list<", "set<")):
            raise Refused(f"Invalid operation ({column} = {column} + ?) for non counter column {column}")
        fitting = self._fitting(column, entries)
        if before is None or fitting is None:
            return before or fitting
        return before + fitting if isinstance(fitting, list) else before | fitting


def _check_partition_key(parts: Key) -> None:
    if parts == ("",):
        raise Refused("Key may not be empty")
    _check_length(parts)


def _check_length(parts: Any) -> None:
    length = sum(len(part.encode()) for part in parts if isinstance(part, str))
    if length > LONGEST_KEY:
        raise Refused(f"Key length of {length} is longer than maximum of {LONGEST_KEY}")


def _given(value: Any) -> Any:
    return deepcopy(value) if isinstance(value, dict | list | set) else value


def _order(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


# --- types


def _fit(cql_type: str, keyspace: str, types: Mapping[str, Mapping[str, str]]) -> Fit:
    """What makes of a value that which is read back of it, or raises."""
    outer, _, inner = cql_type.removesuffix(">").partition("<")
    if outer == "frozen":
        return _fit(inner, keyspace, types)
    if outer == "map":
        key, value = (_fit(part, keyspace, types) for part in inner.split(",", 1))
        return lambda entries: {key(k): value(v) for k, v in _of(Mapping, entries).items()}
    if outer in ("list", "set"):
        item = _fit(inner, keyspace, types)
        made: Callable[[Any], Any] = set if outer == "set" else list
        return lambda items: made(item(i) for i in _of((list, tuple, set, frozenset), items))
    if (fields := types.get(f"{keyspace}.{outer}")) is not None:
        fits = {name: _fit(field, keyspace, types) for name, field in fields.items()}
        return lambda values: _user_type(fits, values)
    return _FITS[outer]


def _of(kinds: Any, value: Any) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"{type(value).__name__} is of another type")
    return value


def _user_type(fits: Mapping[str, Fit], values: Any) -> dict[str, Any]:
    if unknown := _of(Mapping, values).keys() - fits.keys():
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    return {name: None if values.get(name) is None else fit(values[name]) for name, fit in fits.items()}


def _text(value: Any) -> str:
    return str.encode(value).decode()


def _number(form: str) -> Fit:
    return lambda value: struct.unpack(form, struct.pack(form, value))[0]


def _timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        moment: datetime = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} is no timestamp")
    return _EPOCH + timedelta(milliseconds=value)


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        raise TypeError("a datetime is no date")
    found: date = _of(date, value)
    return found


_FITS: dict[str, Fit] = {
    "text": _text,
    "int": _number(">i"),
    "double": _number(">d"),
    "float": _number(">f"),
    "boolean": lambda value: _of(bool, value),
    "timestamp": _timestamp,
    "date": _date,
    "decimal": lambda value: _of(Decimal, value),
    "blob": lambda value: bytes(_of((bytes, bytearray), value)),
}
