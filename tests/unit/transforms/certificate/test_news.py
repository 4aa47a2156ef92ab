"""What telemetry and the learner are told."""

from __future__ import annotations

from itertools import count
from uuid import UUID

import orjson
import pytest

from schemas.event_schemas import validator
from tests.unit.transforms.certificate.samples import BATCH, COURSE, LEARNER
from transforms.certificate.audit import ISSUED, MIGRATED, certificate_audit
from transforms.certificate.notification import email_request, feed_request, notify_template, sms_request
from transforms.cloud_paths import CloudPaths
from transforms.decode import NotAnObject

NOW = 1_718_179_206_500
PATHS = CloudPaths("CLOUD_BASE_PATH", "https://obj.dev.example.org", "", "content-dev")


@pytest.mark.parametrize("kind", [ISSUED, MIGRATED])
def test_the_audit_event(kind):
    """§9 case 1, legacy-certificate-migrator §9 case 1"""
    numbers = count(1)
    event = orjson.loads(
        certificate_audit(
            user_id=LEARNER,
            course_id=COURSE,
            batch_id=BATCH,
            certificate_id="1-abc",
            kind=kind,
            now=NOW,
            new_id=lambda: str(UUID(int=next(numbers), version=4)),
        )
    )
    context = event["context"]
    assert len({event["mid"].rpartition(".")[2], context["sid"], context["did"]}) == 3
    assert event == {
        "eid": "AUDIT",
        "ets": NOW,
        "mid": event["mid"],
        "ver": "3.0",
        "actor": {"id": LEARNER, "type": "User"},
        "context": {
            "channel": "in.ekstep",
            "env": "Course",
            "sid": context["sid"],
            "did": context["did"],
            "pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform", "pid": "course-certificate-generator"},
            "cdata": [{"type": "CourseBatch", "id": BATCH}],
        },
        "object": {"id": "1-abc", "type": "Certificate", "rollup": {"l1": COURSE}},
        "edata": {"props": ["certificates"], "type": kind},
    }
    assert event["mid"].startswith(f"LP.AUDIT.{NOW}.")
    schema = validator("certificate-audit")
    schema.validate(event)
    assert not schema.is_valid(event | {"syncts": NOW})
    assert not schema.is_valid(event | {"object": event["object"] | {"id": ""}})


def template(**members: str) -> dict[str, dict[str, str]]:
    text = orjson.dumps({"subject": "Completion certificate", "regards": "Minister", **members}).decode()
    return {"do_2140_tpl": {"name": "a", "notifyTemplate": text}}


@pytest.mark.parametrize("member", ["stateImgUrl", "stateImageUrl"])
def test_the_notify_template(member):
    kept = notify_template(template(**{member: "CLOUD_BASE_PATH/orgemail/a.png"}), "do_2140_tpl", PATHS)
    assert kept == {
        "subject": "Completion certificate",
        "regards": "Minister",
        member: "https://obj.dev.example.org/content-dev/orgemail/a.png",
    }


@pytest.mark.parametrize(
    ("templates", "template_id"),
    [
        (None, "do_2140_tpl"),
        ({}, "do_2140_tpl"),
        (template(), "other"),
        (template(), " "),
        (template(), ""),
        ({"do_2140_tpl": {"name": "a"}}, "do_2140_tpl"),
        ({"do_2140_tpl": {"notifyTemplate": " "}}, "do_2140_tpl"),
        ({"do_2140_tpl": {"notifyTemplate": "null"}}, "do_2140_tpl"),
        ({"do_2140_tpl": None}, "do_2140_tpl"),
    ],
)
def test_without_a_notify_template(templates, template_id):
    """§9 case 13"""
    assert notify_template(templates, template_id, PATHS) is None


@pytest.mark.parametrize("text", ["x", "[]", '"a"'])
def test_a_notify_template_that_can_not_be_read(text):
    with pytest.raises(NotAnObject):
        notify_template({"do_2140_tpl": {"notifyTemplate": text}}, "do_2140_tpl", PATHS)


def test_the_e_mail_and_the_sms():
    """§9 case 1"""
    email = email_request(
        {"subject": "Done", "body": "replaced", "stateImgUrl": "https://x/a.png"},
        recipient="learner-1",
        first_name="Meera",
        course_name='Numbers "1"',
        held_on="2024-06-12",
    )
    assert email == {
        "subject": "Done",
        "stateImgUrl": "https://x/a.png",
        "firstName": "Meera",
        "TrainingName": 'Numbers "1"',
        "heldDate": "2024-06-12",
        "recipientUserIds": ["learner-1"],
        "body": "email body",
    }
    assert sms_request(email, "Sunbird") == email | {
        "mode": "sms",
        "body": "Congratulations! Download your course certificate from your profile page. If you have a problem "
        "downloading it on the mobile, update your Sunbird app",
    }


def test_the_feed_entry():
    """§9 case 1"""
    assert feed_request(recipient="learner-1", course_id="do_1", course_name='Numbers "1"') == {
        "userId": "learner-1",
        "category": "Notification",
        "priority": 1,
        "data": {
            "type": 1,
            "actionData": {
                "actionType": "certificateUpdate",
                "title": 'Numbers "1"',
                "description": "You have earned a certificate! Download it from your profile page.",
                "identifier": "do_1",
            },
        },
    }


@pytest.mark.parametrize(
    ("paths", "address"),
    [
        (PATHS, "https://obj.dev.example.org/content-dev/a.svg"),
        (CloudPaths("CLOUD_BASE_PATH", "https://b", "https://cdn", "c"), "https://cdn/c/a.svg"),
        (CloudPaths("", "https://b", "", "c"), "CLOUD_BASE_PATH/a.svg"),
    ],
)
def test_the_placeholder_of_the_cloud(paths, address):
    assert paths.resolve("CLOUD_BASE_PATH/a.svg") == address
