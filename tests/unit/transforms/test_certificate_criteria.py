"""Who gets a certificate (spec: collection-cert-pre-processor §3.3-§3.6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.certificate_criteria import (
    InvalidCriteria,
    check_enrolment,
    check_score,
    check_user,
    issued_entry,
    json_equal,
    number_of,
    score_percentages,
    valid_criteria,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("criteria", [None, {}, [], "x", {"other": {}}, {"user": []}, {"enrollment": "2"}])
def test_criteria_that_nobody_can_have_meant(criteria: Any):
    with pytest.raises(InvalidCriteria):
        valid_criteria(criteria)


@pytest.mark.parametrize("name", ["enrollment", "assessment", "user", "users"])
def test_one_of_the_members_is_enough(name: str):
    assert valid_criteria({name: {}}) == {name: {}}


def row(**columns: Any) -> dict[str, Any]:
    return {"active": True, "status": 2, "issued_certificates": None, **columns}


@pytest.mark.parametrize(
    ("criteria", "enrolment", "eligible"),
    [
        ({}, None, False),
        ({}, row(active=False), False),
        ({}, row(active=None), False),
        ({}, {"status": 2}, False),
        ({}, row(status=0), True),
        ({"enrollment": {}}, row(status=0), True),
        ({"enrollment": {"status": 2}}, row(), True),
        ({"enrollment": {"status": 2.0}}, row(), True),
        ({"enrollment": {"status": "2"}}, row(), True),
        ({"enrollment": {"status": "two"}}, row(), False),
        ({"enrollment": {"status": True}}, row(status=1), False),
        ({"enrollment": {"other": 1}}, row(), True),
        ({"enrollment": {"other": 1}}, row(status=1), False),
        ({"enrollment": {"status": 0}}, row(status=None), True),
        ({"enrollment": {"status": 2}}, row(status=1), False),
    ],
)
def test_enrolment(criteria: dict[str, Any], enrolment: dict[str, Any] | None, eligible: bool):
    assert (check_enrolment(criteria, enrolment, "Merit", reissue=False) is None) == eligible


def test_who_has_the_certificate_gets_it_only_when_it_is_issued_again():
    """§9 case 2"""
    issued = [{"identifier": "1-a"}, {"name": "course completion CERTIFICATE", "identifier": "1-b"}]
    enrolment = row(issued_certificates=issued)
    assert check_enrolment({}, enrolment, "Course Completion Certificate", reissue=False) == "already issued"
    assert check_enrolment({}, enrolment, "Course Completion Certificate", reissue=True) is None
    assert check_enrolment({}, enrolment, "Merit", reissue=False) is None
    assert issued_entry(issued, "Course Completion Certificate") == issued[1]


def test_the_newer_aggregates_win():
    """§9 case 4"""
    assert score_percentages({"score:do_A": 2, "max_score:do_A": 10}, {"score:do_A": 9.0}) == {"do_A": 90.0}


@pytest.mark.parametrize(
    ("known", "percentage"),
    [
        ({"score:a": 1.0}, 100.0),
        ({"score:a": 8.0, "max_score:a": 10.0}, 80.0),
        ({"score:a": 8.0, "max_score:a": 0.0}, 0.0),
        ({"score:a": 8.0, "max_score:a": -1.0}, 0.0),
        ({"score:a": float("nan"), "max_score:a": 1.0}, 0.0),
        ({"score:a": 8.0, "max_score:a": float("nan")}, 0.0),
    ],
)
def test_percentages(known: dict[str, float], percentage: float):
    assert score_percentages(None, known) == {"a": percentage}


def test_no_score_no_percentage():
    assert score_percentages(None, None) == {}
    assert score_percentages({}, {"completedCount": 3.0, "max_score:a": 2.0}) == {}


@pytest.mark.parametrize(
    ("score", "best", "fulfilled"),
    [
        ({"<": 40}, 0.0, True),
        ({">=": 40, "<": 60}, 70.0, False),
        ({">=": 40, "<": 60}, 40.0, True),
        ({">=": 40, "<": 60}, 39.9, False),
        (75.5, 75.5, True),
        (75, 75.0, True),
        ("75", 75.0, True),
        (75, 75.5, False),
        ({">=": "60"}, 60.0, True),
        ({">": "60.0"}, 60.0, False),
        ({"EQ": 1}, 1.0, True),
        ({"eq": 1}, 1.0, True),
        ({"=": 1}, 2.0, False),
        ({"ne": 1}, 2.0, True),
        ({"!=": 1}, 1.0, False),
        ({"<=": 1}, 1.0, True),
        ({"~": 1}, 1.0, False),
        ({">=": 0, "~": 1}, 1.0, False),
        ({}, 1.0, False),
        (None, 1.0, False),
    ],
)
def test_score(score: Any, best: float, fulfilled: bool):
    """§9 case 6"""
    assert (check_score({"assessment": {"score": score, "x": 1}}, best) is None) == fulfilled


@pytest.mark.parametrize("score", [[60], True, "sixty", {">=": None}, {">=": [1]}, {">=": False}, {">=": "1_0"}])
def test_a_score_that_is_no_number(score: Any):
    with pytest.raises(InvalidCriteria):
        check_score({"assessment": {"score": score}}, 60.0)


def test_user_criteria_by_both_names():
    """§9 case 7"""
    learner = {"rootOrgId": "A", "grade": 5, "tags": ["x"]}
    assert check_user({}, learner) is None
    assert check_user({"user": {"rootOrgId": "A"}, "users": {"grade": 5.0, "tags": ["x"]}}, learner) is None
    for members in ("user", "users"):
        assert check_user({members: {"rootOrgId": "B"}}, learner) is not None
        assert check_user({members: {"absent": None}}, learner) is not None
        assert check_user({members: {"grade": True}}, {**learner, "grade": 1}) is not None


@given(JSON)
def test_json_equals_itself(value: Any):
    assert json_equal(value, value)


@given(JSON, JSON)
def test_json_equality_goes_both_ways_and_is_never_wider_than_pythons(one: Any, other: Any):
    assert json_equal(one, other) == json_equal(other, one)
    assert not json_equal(one, other) or one == other


@given(st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_and_its_text_are_the_same_number(value: float):
    assert number_of(value) == number_of(str(value)) == float(value)
