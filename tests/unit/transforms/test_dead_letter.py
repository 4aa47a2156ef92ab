"""Dead letters: core §4.3."""

import gzip
from random import Random

import orjson
import pytest

from transforms.dead_letter import LARGEST_DEAD_LETTER, LONGEST_REASON, dead_letter


def test_an_object_keeps_all_its_members():
    letter = orjson.loads(dead_letter("some-job", "no userId", b"", {"eid": "X", "edata": None, "jobName": "other"}))
    assert letter == {"eid": "X", "edata": None, "jobName": "some-job", "failInfo": {"error": "no userId"}}


def test_what_does_not_parse_goes_into_raw_event_with_bad_bytes_replaced():
    letter = orjson.loads(dead_letter("some-job", "not JSON", b'{"eid": \xff'))
    assert letter == {"jobName": "some-job", "failInfo": {"error": "not JSON"}, "rawEvent": '{"eid": �'}


def test_a_tombstone_has_an_empty_raw_event():
    assert orjson.loads(dead_letter("some-job", "no value", None))["rawEvent"] == ""


def test_an_object_nested_too_deep_to_be_written_goes_as_text():
    value = b'{"a":' * 900 + b"1" + b"}" * 900
    letter = orjson.loads(dead_letter("some-job", "why", value, orjson.loads(value)))
    assert letter["rawEvent"] == value.decode()


def test_a_dead_letter_fits_the_topic_and_says_what_was_cut():
    value = b"\x00" * 2_000_000
    letter = dead_letter("some-job", "not JSON", value)
    assert len(letter) <= LARGEST_DEAD_LETTER
    assert orjson.loads(letter)["failInfo"]["cut"] == 2_000_000


@pytest.mark.parametrize(
    "value",
    [gzip.compress(Random(1).randbytes(1_000_000)), ("x" * 500_000).encode("utf-16"), b"\x01" * 1_000_000],
    ids=["compressed", "utf-16", "control characters"],
)
def test_bytes_that_are_no_text_fit_a_topic_of_the_input_s_size(value: bytes):
    """They more than double as text, which Kafka's limit of a MiB by default would refuse, and so stop the job."""
    letter = dead_letter("some-job", "not JSON", value)
    assert len(letter) <= 1_000_000
    assert orjson.loads(letter)["failInfo"]["cut"] == len(value)
    assert orjson.loads(letter)["rawEvent"].startswith(value[:100].decode("utf-8", "replace")[:90])


def test_text_in_quotes_is_kept_whole():
    value = b'{"name": "\\n"' * 100_000
    assert orjson.loads(dead_letter("some-job", "not JSON", value))["rawEvent"] == value.decode()


def test_two_megabytes_of_text_are_kept_whole():
    value = b"x" * 2_000_000
    assert orjson.loads(dead_letter("some-job", "not JSON", value))["rawEvent"] == value.decode()


def test_a_reason_without_end_is_cut_and_the_event_is_kept():
    letter = dead_letter("some-job", "user 1: no; " * 500_000, b"", {"eid": "X"})
    assert len(letter) <= LARGEST_DEAD_LETTER
    read = orjson.loads(letter)
    assert read["eid"] == "X"
    assert len(read["failInfo"]["error"]) == LONGEST_REASON + 1
    assert read["failInfo"]["error"].startswith("user 1: no; ")
    assert read["failInfo"]["error"].endswith("…")


def test_the_largest_original_with_the_longest_reason_fits_the_topic():
    letter = dead_letter("some-job", "\x00" * 1_000_000, b"\x00" * 5_000_000)
    assert len(letter) <= LARGEST_DEAD_LETTER
