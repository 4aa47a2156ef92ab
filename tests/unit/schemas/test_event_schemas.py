"""The events' schemas: the samples of the specs fit, what is wrong does not, and what the transforms write fits."""

from __future__ import annotations

import copy
from itertools import count
from typing import Any
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator

from schemas.event_schemas import event_schemas, validator
from transforms.aggregate import COMPLETE, START
from transforms.audit import certificate_request, content_audit, enrolment_audit
from transforms.consumption import Enrolment
from transforms.dead_letter import dead_letter

ENROLMENT = Enrolment("learner-1", "do_2140500100", "0140500100200300")
NOW = 1_718_000_001_000

CONSUMPTION: dict[str, Any] = {
    "eid": "BE_JOB_REQUEST",
    "ets": 1718000000123,
    "mid": "LP.1718000000123.8c1d2f7e-53c3-4c83-9d0f-6b9d9b0f2a11",
    "actor": {"type": "System", "id": "Course Batch Updater"},
    "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
    "object": {"type": "CourseBatchEnrolment", "id": "0140500100200300_learner-1"},
    "edata": {
        "action": "batch-enrolment-update",
        "iteration": 1,
        "userId": "learner-1",
        "courseId": "do_2140500100",
        "batchId": "0140500100200300",
        "contents": [{"contentId": "do_2140500111", "status": 2}, {"contentId": "do_2140500112", "status": 1}],
    },
}
PUBLISHED: dict[str, Any] = {
    "eid": "BE_JOB_REQUEST",
    "ets": "1.719000000456E12",
    "mid": "LP.1719000000456.5d3c9e10-2f54-4a43-8d0a-0d4f9f5b7c21",
    "actor": {"id": "Post Publish Processor", "type": "System"},
    "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}, "channel": "0126684405014528002", "env": "dev"},
    "object": {"ver": "1718999990000", "id": "do_2140600001"},
    "edata": {
        "action": "post-publish-process",
        "iteration": 1.0,
        "identifier": "do_2140600001",
        "mimeType": "application/vnd.ekstep.content-collection",
        "trackable": {"enabled": "Yes", "autoBatch": "No"},
    },
}
WITHOUT_LEAF_NODES: dict[str, Any] = {
    "userId": "learner-1",
    "batchId": "B",
    "courseId": "C",
    "contents": {
        "do_1": {
            "contentId": "do_1",
            "status": 2,
            "completedCount": 1,
            "viewCount": 1,
            "fromInput": True,
            "eventsFor": ["start", "complete"],
        },
        "do_0": {
            "contentId": "do_0",
            "status": 2,
            "completedCount": 1,
            "viewCount": 3,
            "fromInput": False,
            "eventsFor": [],
        },
    },
}


def new_id() -> str:
    return str(UUID(int=next(numbers), version=4))


numbers = count(1)


def with_edata(event: dict[str, Any], **edata: Any) -> dict[str, Any]:
    """The event with members of its edata replaced; ``...`` leaves one out."""
    changed = copy.deepcopy(event)
    changed["edata"].update(edata)
    changed["edata"] = {name: value for name, value in changed["edata"].items() if value is not ...}
    return changed


@pytest.mark.parametrize("name", sorted(event_schemas()))
def test_every_schema_is_one_and_has_its_file_s_name(name):
    schema = event_schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{name}.json"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("be-job-request", CONSUMPTION),
        ("be-job-request", PUBLISHED),
        ("batch-enrolment-update", CONSUMPTION),
        ("batch-enrolment-update", with_edata(CONSUMPTION, action="Batch-Enrolment-UPDATE")),
        ("batch-enrolment-update", with_edata(CONSUMPTION, contents=[{"contentId": "a", "status": 2.0}])),
        ("post-publish", PUBLISHED),
        ("post-publish", with_edata(PUBLISHED, action="relation-cache-update")),
        ("post-publish", with_edata(PUBLISHED, mimeType="Application/VND.EKSTEP.Content-Collection")),
        ("course-without-leaf-nodes", WITHOUT_LEAF_NODES),
    ],
)
def test_what_fits(name, event):
    validator(name).validate(event)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("be-job-request", []),
        ("be-job-request", {"eid": "BE_JOB_REQUEST"}),
        ("be-job-request", {"edata": {"action": " "}}),
        ("batch-enrolment-update", with_edata(CONSUMPTION, action="batch-enrolment-sync")),
        ("batch-enrolment-update", with_edata(CONSUMPTION, userId=...)),
        ("batch-enrolment-update", with_edata(CONSUMPTION, courseId="")),
        ("batch-enrolment-update", with_edata(CONSUMPTION, batchId=5)),
        ("batch-enrolment-update", with_edata(CONSUMPTION, contents=[])),
        ("batch-enrolment-update", with_edata(CONSUMPTION, contents=[{"contentId": "a", "status": "2"}])),
        ("batch-enrolment-update", with_edata(CONSUMPTION, contents={"a": 2})),
        ("post-publish", with_edata(PUBLISHED, action="publish")),
        ("post-publish", with_edata(PUBLISHED, mimeType="application/pdf")),
        ("post-publish", with_edata(PUBLISHED, mimeType="application/vndXekstep.content-collection")),
        ("post-publish", with_edata(PUBLISHED, identifier="  ")),
        ("dead-letter", {"jobName": "a-job"}),
        ("dead-letter", {"jobName": "a-job", "failInfo": {"error": ""}}),
        ("course-without-leaf-nodes", {**WITHOUT_LEAF_NODES, "contents": {"do_1": {}}}),
    ],
)
def test_what_does_not_fit(name, event):
    assert not validator(name).is_valid(event)


def test_what_the_progress_jobs_write():
    audit = validator("audit")
    audits = [
        orjson.loads(content_audit(ENROLMENT, "do_1", START, NOW, new_id)),
        orjson.loads(content_audit(ENROLMENT, "do_1", COMPLETE, NOW, new_id)),
        orjson.loads(enrolment_audit(ENROLMENT, NOW, new_id)),
    ]
    for event in audits:
        audit.validate(event)
        assert not audit.is_valid({**event, "more": 1})
        assert not audit.is_valid({**event, "ets": str(NOW)})
    start, _, enrolled = audits
    assert not audit.is_valid({**start, "edata": enrolled["edata"]})
    assert not audit.is_valid({**enrolled, "edata": start["edata"]})

    request = orjson.loads(certificate_request(ENROLMENT, NOW, new_id))
    validator("issue-certificate").validate(request)
    validator("be-job-request").validate(request)
    assert not validator("issue-certificate").is_valid(with_edata(request, userIds=[]))


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b"[1]", b'{"edata": {"a": 1}, "failInfo": 5}'])
def test_a_dead_letter(value):
    parsed = orjson.loads(value) if value and value.startswith(b'{"') else None
    validator("dead-letter").validate(orjson.loads(dead_letter("a-job", "no use", value, parsed)))


def test_a_dead_letter_that_was_cut():
    validator("dead-letter").validate(orjson.loads(dead_letter("a-job", "too big", b"x" * 6_000_000)))
