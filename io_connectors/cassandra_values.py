"""Values on their way to Cassandra and back (spec: core §7).

On this side they are plain: dict for a map and for a user defined type, set, list, ``datetime.date``, and for a
timestamp epoch milliseconds or a datetime in, a naive datetime in UTC out. The common types are encoded here and not
by the driver, which takes several times as long for a map.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from cassandra import DriverException
from cassandra.cqltypes import (
    BooleanType,
    DateType,
    DoubleType,
    Int32Type,
    ListType,
    MapType,
    SetType,
    SimpleDateType,
    UserType,
    UTF8Type,
)
from cassandra.protocol import ProtocolHandler, ResultMessage

__all__ = ["PROTOCOL_VERSION", "UNFIT", "AnswerHandler", "Convert", "decoder", "encoder"]

# Version 4 is spoken by every Cassandra since 2.2, and spares the checksums that version 5 puts on each frame.
PROTOCOL_VERSION = 4

Convert = Callable[[Any], Any]

UNFIT = (TypeError, ValueError, AttributeError, LookupError, OverflowError, struct.error)
"""What an encoder raises for a value that does not fit its type."""

_EPOCH = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)
# Beyond these the driver can not read a timestamp.
_FIRST = (datetime.min - _EPOCH) // _MILLISECOND
_LAST = (datetime.max - _EPOCH) // _MILLISECOND

_int = struct.Struct(">i").pack
_long = struct.Struct(">q").pack
_double = struct.Struct(">d").pack
_NULL = _int(-1)
# The driver would take more than is read back.
_PLAIN: dict[str, Any] = {"date": date, "decimal": Decimal, "blob": (bytes, bytearray)}


def encoder(cql_type: Any) -> Convert:
    """Takes a value that is not None and gives its bytes; raises one of UNFIT. ``cql_type`` is the driver's."""
    if issubclass(cql_type, UTF8Type):
        return str.encode
    for known, encode in ((Int32Type, _int), (DoubleType, _double), (DateType, _timestamp), (BooleanType, _boolean)):
        if issubclass(cql_type, known):
            return encode
    if issubclass(cql_type, MapType):
        return _map(*(encoder(part) for part in cql_type.subtypes))
    if issubclass(cql_type, ListType | SetType):
        return _collection(encoder(cql_type.subtypes[0]))
    if issubclass(cql_type, UserType):
        return _user_type(dict(zip(cql_type.fieldnames, map(encoder, cql_type.subtypes), strict=True)))
    return _as_the_driver(cql_type, _PLAIN.get(cql_type.typename, object))


def decoder(cql_type: Any) -> Convert | None:
    """Makes the driver's value plain; None when it is so already."""
    if issubclass(cql_type, SimpleDateType):
        return lambda value: value.date()
    if issubclass(cql_type, MapType):
        key, value = (decoder(part) or _same for part in cql_type.subtypes)
        return lambda entries: {key(k): None if v is None else value(v) for k, v in entries.items()}
    if issubclass(cql_type, ListType | SetType):
        item = decoder(cql_type.subtypes[0]) or _same
        made: Callable[[Any], Any] = set if issubclass(cql_type, SetType) else list
        return lambda items: made(item(i) for i in items)
    if issubclass(cql_type, UserType):
        fields = [
            (name, decoder(part) or _same) for name, part in zip(cql_type.fieldnames, cql_type.subtypes, strict=True)
        ]
        return lambda values: {n: None if v is None else f(v) for (n, f), v in zip(fields, values, strict=True)}
    return None


class _Answer(ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]):  # type: ignore[misc]
    def recv_results_rows(self, *arguments: Any) -> None:
        try:
            super().recv_results_rows(*arguments)
        except DriverException as error:
            self.parsed_rows = [error]


class AnswerHandler(ProtocolHandler):  # type: ignore[misc]
    """Gives an answer that can not be read, such as a timestamp after the year 9999, as its error in place of rows.

    The driver would give up the connection, with all that is under way on it, and log what was received.
    """

    message_types_by_opcode = {**ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _Answer}  # noqa: RUF012


def _same(value: Any) -> Any:
    return value


def _timestamp(value: Any) -> bytes:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        value = (value - _EPOCH) // _MILLISECOND
    elif type(value) is not int:
        raise TypeError(f"{type(value).__name__} is no timestamp")
    if not _FIRST <= value <= _LAST:
        raise OverflowError("a timestamp outside of the years 1 to 9999")
    return _long(value)


def _sized(encoded: bytes) -> bytes:
    return _int(len(encoded)) + encoded


def _map(key: Convert, value: Convert) -> Convert:
    def encode(entries: Mapping[Any, Any]) -> bytes:
        parts = [_int(len(entries))]
        for k, v in entries.items():
            encoded_key = key(k)
            encoded_value = value(v)
            parts += (_int(len(encoded_key)), encoded_key, _int(len(encoded_value)), encoded_value)
        return b"".join(parts)

    return encode


def _collection(item: Convert) -> Convert:
    def encode(items: Any) -> bytes:
        if isinstance(items, str | bytes | Mapping):
            raise TypeError(f"{type(items).__name__} is no list or set")
        return _int(len(items)) + b"".join(_sized(item(i)) for i in items)

    return encode


def _user_type(fields: dict[str, Convert]) -> Convert:
    def encode(values: Mapping[str, Any]) -> bytes:
        if unknown := values.keys() - fields.keys():
            raise LookupError(f"no such field: {', '.join(sorted(unknown))}")
        return b"".join(
            _NULL if values.get(name) is None else _sized(encode_field(values[name]))
            for name, encode_field in fields.items()
        )

    return encode


def _boolean(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} is no boolean")
    return b"\x01" if value else b"\x00"


def _as_the_driver(cql_type: Any, plain: Any) -> Convert:
    def encode(value: Any) -> bytes:
        if not isinstance(value, plain) or isinstance(value, datetime) or value is None:
            raise TypeError(f"{type(value).__name__} is no {cql_type.typename}")
        encoded: bytes = cql_type.serialize(value, PROTOCOL_VERSION)
        return encoded

    return encode
