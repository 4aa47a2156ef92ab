"""Reading one attempt: what is needed, what is kept of the answers, and how (assessment-aggregator §2, §3.1-§3.5)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event_schemas import validator
from transforms.assessment import (
    Assessment,
    InvalidAssessment,
    assessment_of,
    double_text,
    last_answers,
    number_of,
    question_of,
)
from transforms.enrolments import Enrolment

SAMPLE: dict[str, Any] = {
    "assessmentTs": 1714623600000,
    "batchId": "0140021234567890121",
    "courseId": "do_2140019876543210111",
    "userId": "learner-1",
    "attemptId": "c0ffee5d41402abc4b2a76b9719d9111",
    "contentId": "do_2140018888777766655",
    "events": [
        {
            "eid": "ASSESS",
            "ets": 1714623615200,
            "ver": "3.1",
            "mid": "ASSESS:1b2c3d",
            "actor": {"id": "learner-1", "type": "User"},
            "object": {"id": "do_2140018888777766655", "type": "Content", "ver": "1"},
            "tags": [],
            "edata": {
                "item": {
                    "id": "q-photosynthesis-1",
                    "maxscore": 2,
                    "type": "mcq",
                    "exlength": 0,
                    "params": [
                        {"1": '{"text":"Chlorophyll\\n"}'},
                        {"2": '{"text":"Haemoglobin\\n"}'},
                        {"answer": '{"correct":["1"]}'},
                    ],
                    "title": "Which pigment absorbs light?\n",
                    "desc": "",
                    "mmc": [],
                    "mc": [],
                    "uri": "",
                },
                "index": 1,
                "pass": "Yes",
                "score": 2,
                "resvalues": [{"1": '{"text":"Chlorophyll\\n"}'}],
                "duration": 11,
            },
        }
    ],
}
RECOMPUTE = {name: SAMPLE[name] for name in ("assessmentTs", "batchId", "courseId", "userId", "contentId")}


def answer(question: Any = "q1", ets: Any = 1, item: dict[str, Any] | None = None, **edata: Any) -> dict[str, Any]:
    return {"ets": ets, "edata": {"item": {"id": question, **(item or {})}, **edata}}


def test_the_sample_of_the_spec():
    assessment = assessment_of(SAMPLE)
    enrolment = Enrolment("learner-1", "do_2140019876543210111", "0140021234567890121")
    assert assessment[:4] == (
        enrolment,
        "do_2140018888777766655",
        "c0ffee5d41402abc4b2a76b9719d9111",
        1714623600000,
    )
    (only,) = last_answers(assessment.answers)
    assert question_of(only) == {
        "id": "q-photosynthesis-1",
        "assess_ts": 1714623615200,
        "max_score": 2.0,
        "score": 2.0,
        "type": "mcq",
        "title": "Which pigment absorbs light?\n",
        "resvalues": [{"1": '{"text":"Chlorophyll\\n"}'}],
        "params": SAMPLE["events"][0]["edata"]["item"]["params"],
        "description": "",
        "duration": Decimal("11.0"),
    }


@pytest.mark.parametrize(
    "more", [{}, {"events": None}, {"events": []}, {"events": [], "attemptId": 5, "assessmentTs": None}]
)
def test_without_answers_it_is_a_request_to_recompute(more: dict[str, Any]):
    assessment = assessment_of({**RECOMPUTE, **more})
    assert assessment == Assessment(
        Enrolment("learner-1", SAMPLE["courseId"], SAMPLE["batchId"]), SAMPLE["contentId"], "", 0, ()
    )


@pytest.mark.parametrize("event", [SAMPLE, RECOMPUTE, {**RECOMPUTE, "events": []}])
def test_the_schema_takes_what_the_job_takes(event: dict[str, Any]):
    validator("assessment").validate(event)


@pytest.mark.parametrize(
    "changed",
    [
        {"userId": None},
        {"courseId": " "},
        {"batchId": 5},
        {"contentId": ""},
        {"attemptId": None},
        {"assessmentTs": "1714623600000"},
        {"assessmentTs": 1.5},
        {"events": "x"},
        {"events": [None]},
        {"events": [{"edata": {"item": {}}}]},
        {"events": [{"ets": 1}]},
        {"events": [{"ets": 1, "edata": {"item": []}}]},
    ],
)
def test_what_neither_schema_nor_job_takes(changed: dict[str, Any]):
    event = {**SAMPLE, **changed}
    assert not validator("assessment").is_valid(event)
    with pytest.raises(InvalidAssessment) as caught:
        assessment_of(event)
    assert next(iter(changed)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("millis", [-62_135_596_800_001, 253_402_300_800_000, 2**70, True])
def test_a_time_that_no_table_can_hold(millis: int):
    with pytest.raises(InvalidAssessment, match="assessmentTs"):
        assessment_of({**SAMPLE, "assessmentTs": millis})


def test_a_time_as_a_double_is_one():
    assert assessment_of({**SAMPLE, "assessmentTs": 1714623600000.0}).attempted_on == 1714623600000


def test_an_id_that_no_key_can_hold():
    assert assessment_of({**SAMPLE, "attemptId": "é" * 8_000}).attempt_id
    with pytest.raises(InvalidAssessment, match="attemptId is longer"):
        assessment_of({**SAMPLE, "attemptId": "é" * 8_001})


def test_the_latest_answer_to_each_question_by_first_appearance():
    """§3.3"""
    given_answers = [
        answer("b", 2, score=0),
        answer("a", 5, score=1),
        answer(None, 1, score=2),
        answer("b", 9, score=3),
        answer("b", 9, score=4),
        {"ets": 3, "edata": {"item": {}, "score": 5}},
        answer("a", 5, score=6),
    ]
    found = last_answers(given_answers)
    assert [(question_of(one)["id"], one["edata"]["score"]) for one in found] == [("b", 3), ("a", 1), (None, 5)]


def test_what_is_missing_has_its_default():
    assert question_of({"ets": 1, "edata": {"item": {}}}) == {
        "id": None,
        "assess_ts": 1,
        "max_score": 0.0,
        "score": 0.0,
        "type": None,
        "title": None,
        "resvalues": [],
        "params": [],
        "description": None,
        "duration": Decimal("0.0"),
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (4, "4.0"),
        (True, "true"),
        (False, "false"),
        ({"x": True}, '{"x":true}'),
        ([1, {"a": None, "b": [None, 2]}, "é"], '[1.0,{"b":[null,2.0]},"é"]'),
        (2.5, "2.5"),
        (12_345_678, "1.2345678E7"),
        ([], "[]"),
    ],
)
def test_values_of_answers_and_options_become_text(value: Any, text: str):
    """§3.5, §9 case 13"""
    entries = [{"1": value, "2": None}, None, "x", 5]
    question = question_of(answer(resvalues=entries, item={"params": entries}))
    assert question["resvalues"] == question["params"] == [{"1": text}]


@pytest.mark.parametrize("entries", [None, {}, "x", 5])
def test_answers_that_are_no_list_are_none(entries: Any):
    """§8.7"""
    assert question_of(answer(resvalues=entries, item={"params": entries}))["params"] == []


def test_texts_of_other_types_are_kept_as_text():
    question = question_of(answer(7, item={"title": {"en": 1}, "type": True, "desc": 2}))
    assert [question[name] for name in ("id", "title", "type", "description")] == ["7.0", '{"en":1.0}', "true", "2.0"]


@pytest.mark.parametrize("levels", [300, 1000])
def test_an_answer_that_is_nested_too_deeply(levels: int):
    value = orjson.loads("[" * levels + "]" * levels)
    with pytest.raises(InvalidAssessment, match="too deeply"):
        question_of(answer(resvalues=[{"1": value}]))


@pytest.mark.parametrize("name", ["score", "duration"])
@pytest.mark.parametrize(
    ("value", "number"), [(None, 0.0), ("1", 1.0), (" 2.5 ", 2.5), (".5", 0.5), ("1e2", 100.0), (-1, -1.0)]
)
def test_numbers_may_be_texts(name: str, value: Any, number: float):
    question = question_of(answer(item={"maxscore": value}, **{name: value}))
    assert (question["max_score"], float(question[name])) == (number, number)


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "1e999", "1_000", "٣", True, [], {}, "0x1"])
def test_what_is_no_number(value: Any):
    assert number_of(value) is None
    with pytest.raises(InvalidAssessment, match="score is not a number"):
        question_of(answer(score=value))


@pytest.mark.parametrize(
    ("duration", "unscaled", "exponent"), [(11, 110, -1), (2.5, 25, -1), (0.001, 1, -3), (1e7, 10, 6), (1e-4, 10, -5)]
)
def test_durations_are_the_decimals_that_java_makes(duration: float, unscaled: int, exponent: int):
    """§3.5; of 1.0E7 Java's decimal has an unscaled value of 10"""
    decimal = question_of(answer(duration=duration))["duration"]
    assert decimal.as_tuple()[1:] == (tuple(map(int, str(unscaled))), exponent)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (0.00099, "9.9E-4"),
        (9_999_999.5, "9999999.5"),
        (1e7, "1.0E7"),
        (-1.25e10, "-1.25E10"),
        (1e16, "1.0E16"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
        (5e-324, "5.0E-324"),
    ],
)
def test_doubles_as_java_writes_them(value: float, text: str):
    assert double_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_double_is_that_double(value: float):
    assert float(double_text(value)) == value
