"""From a dead letter back to the record (spec: core §4)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.assessment_failures import unchanged_event
from transforms.consumption import consumption_of
from transforms.dead_letter import dead_letter
from transforms.merge_user_courses import failed_event
from transforms.replayed import letter_of

JOB = "activity-aggregate-updater"
MEMBERS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name not in ("jobName", "failInfo", "metadata", "contents")),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    min_size=1,
)


@given(MEMBERS)
def test_an_object_comes_back_with_all_of_its_members(parsed: dict[str, Any]):
    value = orjson.dumps(parsed)
    letter = letter_of(dead_letter(JOB, "because", value, parsed), JOB)
    if set(parsed) == {"rawEvent"}:
        return  # nobody can tell it from a record that was no object
    assert letter.original is not None
    assert (letter.reason, orjson.loads(letter.original)) == ("because", parsed)


@given(st.text().filter(lambda text: "\N{REPLACEMENT CHARACTER}" not in text))
def test_a_text_comes_back_as_it_was(text: str):
    letter = letter_of(dead_letter(JOB, "not JSON", text.encode()), JOB)
    assert letter == ("not JSON", text.encode(), "")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "no value (a tombstone)"),
        (b"x", "not JSON: unexpected character: line 1 column 1 (char 0)"),
        (b"{}", "of no form that a job writes"),
        (dead_letter(JOB, "r", b"\xff"), "its bytes were no text, and are not known any more"),
        (dead_letter(JOB, "r", b"x" * 6_000_000), "only the beginning was kept"),
        (dead_letter("another-job", "r", b"{}", {"a": 1}), "a letter of another-job"),
        (b'{"metadata":{"validation_error":"r","src":"another-job"}}', "a letter of another-job"),
    ],
)
def test_what_can_not_come_back_says_why(value: bytes | None, fault: str):
    letter = letter_of(value, JOB)
    assert letter.original is None
    assert letter.fault.split(":")[0] == fault.split(":")[0]


def test_an_assessment_comes_back_without_what_was_added():
    event = {"eid": "ASSESS", "metadata": {"checksum": "c", "validation_error": "bad", "src": "AssessmentAggregator"}}
    letter = letter_of(orjson.dumps(event), "assessment-aggregator")
    assert letter.original is not None
    assert (letter.reason, orjson.loads(letter.original)) == ("bad", {"eid": "ASSESS", "metadata": {"checksum": "c"}})
    del event["metadata"]["checksum"]  # type: ignore[attr-defined]
    assert letter_of(orjson.dumps(event), "assessment-aggregator").original == b'{"eid":"ASSESS"}'


def test_what_was_no_assessment_comes_back_as_it_was():
    metadata = {"validation_error": "bad", "src": "AssessmentAggregator"}
    letter = {"flags": {}, "metadata": metadata, "rawEvent": "no JSON"}
    assert letter_of(orjson.dumps(letter), "assessment-aggregator") == ("bad", b"no JSON", "")
    letter["metadata"] = {**metadata, "cut": 6_000_000}
    assert letter_of(orjson.dumps(letter), "assessment-aggregator").original is None


def test_an_assessment_that_was_turned_away_comes_back_as_it_came():
    """assessment-aggregator §3.2, §3.4: nothing is added to it"""
    event = {"userId": "u", "courseId": "c", "batchId": "b", "contentId": "d", "events": [{"ets": 1}], "contents": {}}
    _, value = unchanged_event(orjson.dumps(event), event)
    letter = letter_of(value, "assessment-aggregator")
    assert letter.original is not None
    assert orjson.loads(letter.original) == event
    assert letter.reason == "a content of another course, or more questions than it has"
    assert letter_of(value, JOB).original is None


def test_a_merge_comes_back_by_the_name_that_it_is_signed_with():
    """merge-user-courses §6"""
    event = {"edata": {"fromAccountId": "a", "toAccountId": "a"}}
    value = failed_event(orjson.dumps(event), "ERR").value
    letter = letter_of(value, "merge-user-courses")
    assert letter.original is not None
    assert (letter.reason, orjson.loads(letter.original)) == ("ERR", event)
    assert letter_of(value, JOB).fault == "a letter of MergeUserCourses"


def test_a_course_without_leaf_nodes_becomes_its_event_again():
    """activity-aggregate-updater §3.5.1"""
    contents = {
        "do_1": {"contentId": "do_1", "status": 2, "fromInput": True},
        "do_2": {"contentId": "do_2", "status": 2, "fromInput": False},
    }
    value = orjson.dumps({"userId": "learner-1", "batchId": "b", "courseId": "c", "contents": contents})
    letter = letter_of(value, JOB)
    assert letter.reason == "no leaf nodes in the relation cache"
    assert letter.original is not None
    consumption = consumption_of(orjson.loads(letter.original))
    assert consumption == (("learner-1", "c", "b"), ("do_1",))


def test_a_stack_trace_is_no_part_of_the_reason():
    """core §4.1"""
    value = dead_letter(JOB, "broken : : List(frame, frame)", b"{}", {"a": 1})
    assert letter_of(value, JOB).reason == "broken"
