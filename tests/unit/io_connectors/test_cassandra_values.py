"""Our encoding against the driver's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from cassandra.cqltypes import (
    BooleanType,
    BytesType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    Int32Type,
    ListType,
    LongType,
    MapType,
    SetType,
    SimpleDateType,
    UserType,
    UTF8Type,
    VarcharType,
)
from hypothesis import given
from hypothesis import strategies as st

from io_connectors.cassandra_values import PROTOCOL_VERSION, UNFIT, decoder, encoder

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INT = st.integers(-(2**31), 2**31 - 1)
MILLISECONDS = st.integers(-62_135_596_800_000, 253_402_300_799_999)
TEXT_MAP = MapType.apply_parameters([VarcharType, VarcharType])
QUESTION = UserType.make_udt_class("ks", "question", ("id", "score"), (VarcharType, DoubleType))


def of(kind: Any, *parts: Any) -> Any:
    return kind.apply_parameters(list(parts))


@pytest.mark.parametrize(
    ("cql_type", "values"),
    [
        (VarcharType, TEXT),
        (UTF8Type, TEXT),
        (Int32Type, INT),
        (LongType, st.integers(-(2**63), 2**63 - 1)),
        (DoubleType, st.floats()),
        (FloatType, st.floats(width=32)),
        (BooleanType, st.booleans()),
        (DateType, MILLISECONDS),
        (DecimalType, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
        (BytesType, st.binary()),
        (SimpleDateType, st.dates()),
        (of(MapType, VarcharType, Int32Type), st.dictionaries(TEXT, INT)),
        (of(MapType, VarcharType, DateType), st.dictionaries(TEXT, MILLISECONDS)),
        (of(MapType, VarcharType, TEXT_MAP), st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT))),
        (of(ListType, VarcharType), st.lists(TEXT)),
        (of(ListType, TEXT_MAP), st.lists(st.dictionaries(TEXT, TEXT))),
        (of(SetType, VarcharType), st.sets(TEXT)),
    ],
)
@given(data=st.data())
def test_the_bytes_are_the_driver_s(cql_type, values, data):
    value = data.draw(values)
    assert encoder(cql_type)(value) == cql_type.serialize(value, PROTOCOL_VERSION)


@given(st.fixed_dictionaries({}, optional={"id": TEXT, "score": st.floats(allow_nan=False)}))
def test_a_user_type_as_dict(values):
    encoded = encoder(of(ListType, QUESTION))([values])
    decoded = decoder(of(ListType, QUESTION))(of(ListType, QUESTION).deserialize(encoded, PROTOCOL_VERSION))
    assert decoded == [{"id": None, "score": None, **values}]


@given(st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=30)))))
def test_a_datetime_is_cut_to_milliseconds(moment):
    naive = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    expected = (naive - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    assert encoder(DateType)(moment) == encoder(DateType)(expected)


@pytest.mark.parametrize(
    ("cql_type", "value"),
    [
        (VarcharType, 1),
        (VarcharType, b"x"),
        (VarcharType, "\ud800"),
        (Int32Type, 2**31),
        (Int32Type, "1"),
        (Int32Type, 1.0),
        (DoubleType, "1"),
        (DoubleType, 10**400),
        (BooleanType, 1),
        (DateType, "2024-01-01"),
        (DateType, True),
        (DateType, 1.0),
        (DateType, date(2024, 1, 1)),
        (DateType, 253_402_300_800_000),
        (SimpleDateType, "2024-01-01"),
        (SimpleDateType, datetime(2024, 1, 1)),
        (DecimalType, 1.5),
        (BytesType, "x"),
        (LongType, "1"),
        (TEXT_MAP, {"a": None}),
        (TEXT_MAP, {None: "a"}),
        (TEXT_MAP, ["a"]),
        (of(ListType, VarcharType), "ab"),
        (of(ListType, VarcharType), {"a": "b"}),
        (of(ListType, VarcharType), [None]),
        (of(ListType, BytesType), [None]),
        (of(ListType, VarcharType), 5),
        (QUESTION, {"nope": 1}),
        (QUESTION, {"score": "x"}),
        (QUESTION, ["a", 1.0]),
    ],
)
def test_what_does_not_fit(cql_type, value):
    with pytest.raises(UNFIT):
        encoder(cql_type)(value)


def test_what_is_plain_already_is_left():
    assert decoder(VarcharType) is None
    assert decoder(Int32Type) is None
    assert decoder(DateType) is None
    found = SimpleDateType.deserialize(SimpleDateType.serialize(date(2024, 2, 29), 4), 4)
    assert decoder(SimpleDateType)(found) == date(2024, 2, 29)
    assert decoder(of(SetType, VarcharType))(["b", "a"]) == {"a", "b"}
    assert decoder(of(MapType, VarcharType, DecimalType))({"a": None}) == {"a": None}
