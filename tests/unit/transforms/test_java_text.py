"""Numbers and JSON as Java programs write them (user-cache-updater §3.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.java_text import json_text, number_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1.0"),
        (0, "0.0"),
        (-0.0, "-0.0"),
        (-1.5, "-1.5"),
        (0.001, "0.001"),
        (0.00012, "1.2E-4"),
        (9999999, "9999999.0"),
        (10_000_000, "1.0E7"),
        (-12345678, "-1.2345678E7"),
        (350100401, "3.50100401E8"),
        (1e22, "1.0E22"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
    ],
)
def test_numbers(number: float, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_as_it_was(number: float) -> None:
    assert float(number_text(number)) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "[]"),
        (["Class 5", "Class 6"], '["Class 5","Class 6"]'),
        (["<a href='x'>b&c=d</a>"], r'["\u003ca href\u003d\u0027x\u0027\u003eb\u0026c\u003dd\u003c/a\u003e"]'),
        (["ಕನ್ನಡ 🦜 [x]"], '["ಕನ್ನಡ 🦜 [x]"]'),
        (['"\\/\n\t\x01\x7f\u2028\u2029'], '["\\"\\\\/\\n\\t\\u0001\x7f\\u2028\\u2029"]'),
        ([1, 2.5, True, None], "[1.0,2.5,true,null]"),
        ([{"a": None, "b": {"c": [None]}}], '[{"b":{"c":[null]}}]'),
        ({"<": "="}, r'{"\u003c":"\u003d"}'),
    ],
)
def test_json(value: object, text: str) -> None:
    assert json_text(value) == text
