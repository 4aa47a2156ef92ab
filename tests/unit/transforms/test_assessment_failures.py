"""The events of the failed topic (assessment-aggregator §6)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.event_schemas import validator
from transforms.assessment_failures import failed_event, unchanged_event


@pytest.mark.parametrize(
    ("parsed", "metadata", "flags"),
    [
        ({"a": 1}, {}, {}),
        ({"a": 1, "metadata": {"checksum": "c", "src": "x"}, "flags": {"f": True}}, {"checksum": "c"}, {"f": True}),
        ({"a": 1, "metadata": None, "flags": None}, {}, {}),
        ({"a": 1, "metadata": "text"}, {}, {}),
    ],
)
def test_the_reason_is_added(parsed: dict[str, Any], metadata: dict[str, Any], flags: dict[str, Any]):
    """§6, §8.1"""
    key, value = failed_event("why", orjson.dumps(parsed), parsed)
    assert key is None
    expected = {"validation_error": "why", "src": "AssessmentAggregator"}
    assert orjson.loads(value) == {"a": 1, "flags": flags, "metadata": {**metadata, **expected}}
    validator("assessment-failed").validate(orjson.loads(value))


@pytest.mark.parametrize(("value", "text"), [(b'{"a":', '{"a":'), (None, ""), (b"\xff", "\ufffd"), (b"[]", "[]")])
def test_what_is_no_event_is_kept_as_text(value: bytes | None, text: str):
    """§8.2"""
    key, written = failed_event("why", value)
    assert key is None
    assert orjson.loads(written) == {
        "flags": {},
        "metadata": {"validation_error": "why", "src": "AssessmentAggregator"},
        "rawEvent": text,
    }


@pytest.mark.parametrize(("mid", "key"), [("LP.1", b"LP.1"), ("é", "é".encode()), (" ", None), (5, None), (None, None)])
def test_the_key_is_the_event_s_id(mid: Any, key: bytes | None):
    parsed = {"mid": mid}
    assert failed_event("why", b"", parsed)[0] == key
    assert unchanged_event(b"", parsed) == (key, orjson.dumps(parsed))


def test_what_is_larger_than_a_topic_takes_is_cut():
    parsed = {"text": "é" * 3_000_000}
    original = orjson.dumps(parsed)
    for value in (failed_event("why", original, parsed)[1], failed_event("why", original[1:])[1]):
        assert len(value) <= 5_000_000
        letter = orjson.loads(value)
        assert letter["metadata"]["cut"] >= len(original) - 1
        assert letter["rawEvent"].startswith(('{"text":"é', '"text":"é'))
        validator("assessment-failed").validate(letter)


def test_bytes_that_are_no_text_fit_a_topic_of_the_input_s_size():
    value = failed_event("why", b"\xff" * 1_000_000)[1]
    assert len(value) <= 1_000_000
    assert orjson.loads(value)["metadata"]["cut"] == 1_000_000
    validator("assessment-failed").validate(orjson.loads(value))


def test_what_can_be_read_but_not_written():
    original = b'{"a":\n' + b"[" * 500 + b"]" * 500 + b"}"
    parsed = orjson.loads(original)
    assert orjson.loads(failed_event("why", original, parsed)[1])["rawEvent"] == original.decode()
    _, value = unchanged_event(original, parsed)
    assert b"\n" not in value
    assert orjson.loads(value) == parsed


def test_a_record_with_its_key_is_not_larger_than_a_topic_takes():
    """A key may be as long as the event, and a number grows when it is written again."""
    long_id = {"mid": "m" * 3_000_000}
    numbers = b'{"a":[' + b",".join([b"1e15"] * 400_000) + b"]}"
    for key, value in (
        failed_event("why", orjson.dumps(long_id), long_id),
        unchanged_event(orjson.dumps(long_id), long_id),
        unchanged_event(numbers, orjson.loads(numbers)),
    ):
        assert len(key or b"") + len(value) <= 5_000_000
        assert "metadata" in orjson.loads(value) or orjson.loads(value) in (long_id, orjson.loads(numbers))
