"""The generate event of the spec, and certificates made of it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from transforms.certificate.badge import Certificate
from transforms.certificate.request import CertificateRequest

BASE = "https://dev.example.org/certs"
ID = "7c0d2a55-0b7e-4a43-93a4-2f5f6a7b8c90"
NOW = datetime(2024, 6, 12, 8, 0, 6, 123_456, UTC)
LEARNER = "3c1f0e7e-2b53-4f0a-8a35-1d4a8c0b9e21"
BATCH, COURSE = "0140555000111222333", "do_2140555000111222444"

EVENT: dict[str, Any] = {
    "eid": "BE_JOB_REQUEST",
    "ets": 1718179206001,
    "mid": "LMS.9d1f9f0b-8f1a-4b1e-b7f5-7f4f3c1e8b77",
    "actor": {"id": "Certificate Generator", "type": "System"},
    "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
    "object": {"id": LEARNER, "type": "GenerateCertificate"},
    "edata": {
        "userId": LEARNER,
        "data": [{"recipientName": "Meera Nair", "recipientId": LEARNER}],
        "name": "Course Completion Certificate",
        "courseName": "Foundations of Numeracy",
        "issuedDate": "2024-06-12",
        "templateId": "do_2140_tpl",
        "svgTemplate": "https://obj.dev.example.org/sunbird-content-dev/content/do_2140_tpl/artifact/blue.svg",
        "issuer": {"name": "State Council", "url": "https://scert.example.in/"},
        "signatoryList": [
            {
                "id": "DIR",
                "name": "R. Iyer",
                "designation": "Director",
                "image": "https://obj.dev.example.org/sig/dir.png",
            }
        ],
        "criteria": {"narrative": "Course Completion Certificate"},
        "basePath": "https://dev.example.org/certs",
        "oldId": "",
        "orgId": "0126684405014528002",
        "tag": BATCH,
        "related": {"batchId": BATCH, "courseId": COURSE, "type": "Course Completion Certificate"},
    },
}


def edata(**members: Any) -> dict[str, Any]:
    """The event's edata with members replaced; ``...`` leaves one out."""
    changed = copy.deepcopy(EVENT["edata"]) | members
    return {name: value for name, value in changed.items() if value is not ...}


def request(**members: Any) -> CertificateRequest:
    return CertificateRequest.of(edata(**members), suppress_signatories=False)


def certificate(**members: Any) -> Certificate:
    asked = request(**members)
    return Certificate.of(asked, asked.recipients[0], base=BASE, certificate_id=ID, now=NOW)
