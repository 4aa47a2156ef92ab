"""How a learner is told: e-mail, SMS and the user's feed (spec: collection-certificate-generator §3.9, §3.10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.certificate_templates import Template
from transforms.cloud_paths import CloudPaths
from transforms.decode import parse_object

__all__ = ["email_request", "feed_request", "notify_template", "sms_request"]


def notify_template(
    cert_templates: Mapping[str, Mapping[str, str]] | None, template_id: str, paths: CloudPaths
) -> dict[str, Any] | None:
    """The notify template of a batch's certificate template, its picture's address resolved; None when there is none.

    ``cert_templates`` is the column of ``course_batch``, whose empty texts and ``null`` count as absent (pre-processor
    §3.1). Raises NotAnObject for a text that is no JSON object.
    spec: §3.9, 2 and 3
    """
    if not template_id.strip():
        return None
    text = Template(template_id, (cert_templates or {}).get(template_id) or {}).text("notifyTemplate")
    if not text.strip():
        return None
    template = parse_object(text)
    for member in ("stateImgUrl", "stateImageUrl"):
        if isinstance(template.get(member), str):
            template[member] = paths.resolve(template[member])
    return template


def email_request(
    template: Mapping[str, Any], *, recipient: str, first_name: str, course_name: str, held_on: str
) -> dict[str, Any]:
    """The ``request`` of an e-mail: all members of the notify template, and these. ``held_on``: dates.held_date.

    spec: §3.9, 4
    """
    return {
        **template,
        "firstName": first_name,
        "TrainingName": course_name,
        "heldDate": held_on,
        "recipientUserIds": [recipient],
        "body": "email body",
    }


def sms_request(email: Mapping[str, Any], instance_name: str) -> dict[str, Any]:
    """The ``request`` of an SMS, made of the e-mail's. spec: §3.9, 5"""
    return {
        **email,
        "mode": "sms",
        "body": (
            "Congratulations! Download your course certificate from your profile page. "
            f"If you have a problem downloading it on the mobile, update your {instance_name} app"
        ),
    }


def feed_request(*, recipient: str, course_id: str, course_name: str) -> dict[str, Any]:
    """The ``request`` of a feed entry. spec: §3.10"""
    return {
        "userId": recipient,
        "category": "Notification",
        "priority": 1,
        "data": {
            "type": 1,
            "actionData": {
                "actionType": "certificateUpdate",
                "title": course_name,
                "description": "You have earned a certificate! Download it from your profile page.",
                "identifier": course_id,
            },
        },
    }
