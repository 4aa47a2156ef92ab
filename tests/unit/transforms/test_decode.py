"""Reading records: core §1.1, §2.1 and its acceptance cases 2 and 3."""

import pytest

from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at


def test_core_case_03_a_backslash_may_stand_before_any_character():
    assert parse_object(rb'{"name": "Teacher\'s \day"}') == {"name": "Teacher's day"}


def test_known_escapes_survive_the_repair_of_unknown_ones():
    raw = rb'{"a": "\" \\ \/ \b \f \n \r \t \u00e9 \q \u12"}'
    assert parse_object(raw) == {"a": '" \\ / \b \f \n \r \t é q u12'}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "empty"),
        (b" \t\r\n", "empty"),
        (b'{"eid":', "not JSON"),
        (b"[1,2]", "a list"),
        (b"null", "null"),
        (b"true", "a boolean"),
        (b'"text"', "a string"),
        (b"12", "a number"),
        (b"\xff\xfe", "not JSON"),
        (rb'{"a": "\ud800"}', "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "not JSON"),
        (b'{"a": "' + b"\\q" * 10 + b'"', "not JSON"),
    ],
)
def test_what_is_not_an_object_says_why(value, reason):
    with pytest.raises(NotAnObject, match=reason) as raised:
        parse_object(value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["a.b.c.d", "x", "a.x", "a.n.x", "a.list.x", ""])
def test_a_missing_level_reads_as_absent(path):
    assert value_at({"a": {"b": {"c": "deep"}, "n": None, "list": [1]}}, path) is None


def test_a_path_reads_what_is_there():
    assert value_at({"a": {"b": {"c": "deep"}}}, "a.b.c") == "deep"


@pytest.mark.parametrize("value", ["", " ", "\t\n", None, 7, True, ["a"], {"a": 1}])
def test_an_id_is_a_string_that_is_not_blank(value):
    assert id_at({"id": value}, "id") is None


def test_an_id_is_kept_as_it_came():
    assert id_at({"id": " do_1 "}, "id") == " do_1 "


def test_a_records_name_tells_where_it_stands():
    assert Record(b"{}", "dev.topic", 1, 42, 1_700_000_000_000, True).name == "dev.topic:1:42:1700000000000"
