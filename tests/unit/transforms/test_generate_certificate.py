"""The generate event (spec: collection-cert-pre-processor §3.1, §3.7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from transforms.certificate_templates import BrokenTemplate, Template, svg_templates
from transforms.cloud_paths import CloudPaths
from transforms.generate_certificate import clean_course_name, issue_date, recipient_name, related_data


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ({"firstName": "Meera", "lastName": "Nair"}, "Meera Nair"),
        ({"firstName": "Meera", "lastName": None}, "Meera"),
        ({"firstName": "Meera", "lastName": ""}, "Meera"),
        ({"firstName": "Meera", "lastName": "NULL"}, "Meera"),
        ({"lastName": "Nair"}, "Nair"),
        ({"firstName": 7}, ""),
        ({}, ""),
    ],
)
def test_recipient_name(user: dict[str, Any], name: str):
    """§9 case 9"""
    assert recipient_name(user) == name


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ('Intro\\tto \\"X\\"\n', 'Introto "X"'),
        ("C:\\Users", "C:\\Users"),
        ("a\\\\nb", "a\\nb"),
        ("\\'x\\'", "'x'"),
        ("", ""),
    ],
)
def test_course_name(stored: str, shown: str):
    """§9 case 9"""
    assert clean_course_name(stored) == shown


def test_issue_date():
    assert issue_date(datetime(2024, 6, 12, 22, 10), 0) == "2024-06-12"
    assert issue_date(None, 1_718_236_799_999) == "2024-06-12"


def related(wanted: dict[str, Any], **given: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"user": {}, "enrolment": {}, "percentages": None, "course_name": "Numeracy"}
    return related_data("b", "c", "Merit", wanted, **{**defaults, **given})


PLAIN = {"batchId": "b", "courseId": "c", "type": "Merit"}


def test_everything_that_a_template_may_ask_for():
    """§9 case 10"""
    assert related(
        {
            "location": ["state", "block"],
            "enrollment": ["completedOn", "status", "contentStatus", "addedBy", "noColumn"],
            "assessment": ["score"],
            "user": ["rootOrgId", "absent"],
            "course": ["name"],
        },
        user={
            "rootOrgId": "A",
            "userLocations": [{"type": "district", "name": "D"}, {"type": "state", "name": "S"}, None, {"name": "x"}],
        },
        enrolment={
            "completedon": datetime(2024, 6, 12, 22, 10, 0, 123_000),
            "status": 2,
            "contentstatus": {"do_1": 2},
            "addedby": None,
        },
        percentages={"do_A": 80.0},
    ) == {
        **PLAIN,
        "location": {"state": "S"},
        "enrollment": {"completedOn": 1_718_230_200_123, "status": 2, "contentStatus": {"do_1": 2}, "addedBy": None},
        "assessment": {"score": {"do_A": 80.0}},
        "rootOrgId": "A",
        "course": {"name": "Numeracy"},
    }


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"location": ["state"]},
        {"location": "state", "user": {"rootOrgId": 1}, "course": "name"},
        {"assessment": ["score"]},
        {"course": []},
    ],
)
def test_what_is_not_there_adds_nothing(wanted: dict[str, Any]):
    assert related(wanted, user={"userLocations": None, "rootOrgId": "A"}) == PLAIN


def test_a_user_attribute_may_override():
    assert related({"user": ["type"]}, user={"type": "teacher"})["type"] == "teacher"


def test_only_svg_templates_are_kept():
    found = svg_templates(
        {
            "t1": {"url": "CLOUD_BASE_PATH/content/t1/a.svg?x", "name": "null", "criteria": ""},
            "t2": {"url": "x.png"},
            "t3": {"url": "x.SVG"},
            "t4": {},
        }
    )
    assert [template.key for template in found] == ["t1"]
    assert (found[0].identifier, found[0].name, found[0].json_object("criteria")) == ("t1", "", {})
    assert found[0].json_array("signatoryList") == []
    assert svg_templates(None) == []


@pytest.mark.parametrize(("text", "reader"), [("[]", "json_object"), ("{", "json_object"), ("{}", "json_array")])
def test_a_member_that_holds_something_else_is_named(text: str, reader: str):
    """spec §8.11"""
    with pytest.raises(BrokenTemplate, match="issuer"):
        getattr(Template("t", {"issuer": text}), reader)("issuer")


def test_placeholders_become_the_store():
    paths = CloudPaths("CLOUD_BASE_PATH", "https://base", "", "contents")
    assert paths.resolve("CLOUD_BASE_PATH/a/CLOUD_BASE_PATH") == "https://base/contents/a/https://base/contents"
    assert CloudPaths("CLOUD_BASE_PATH", "https://base", "https://cname", "c").resolve("CLOUD_BASE_PATH/a") == (
        "https://cname/c/a"
    )
    assert paths.resolve("https://x/a.svg") == "https://x/a.svg"
