"""A made-up end of a demo: everything as the scenario implies, the certificates with small pictures."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from deploy.local.demo_certificates import (
    ASSESSMENT,
    GENERATOR,
    Certification,
    Offer,
    certification,
    expected_certificates,
)
from deploy.local.demo_outcome import Outcome
from deploy.local.demo_people import Happened
from deploy.local.end_state import PICTURE, Stored, StoredCertificate, StoredCertificates
from deploy.local.scenario import COMPLETED, Enrolment, expected, journeys
from deploy.local.stage import ACTIVITY, RELATION

STARTED = datetime(2024, 6, 12, 8, 0, tzinfo=UTC)
COMPLETED_ON = STARTED + timedelta(seconds=2)
SERVICES = "http://127.0.0.1:8099"
PEOPLE = (
    Happened("notification-job", "tell learner-1 of a certificate", "Your certificate is ready: Dear [b]", right=True),
    Happened("user-deletion-cleanup", "delete the account learner-19", "left: the cached profile", right=False),
)


def issued(certified: Certification, enrolment: Enrolment, offer: Offer, at: datetime) -> StoredCertificate:
    """A certificate as the job would have made it, noted at ``at`` (UTC)."""
    identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{enrolment.user_id} {offer.name}"))
    name = certified.learners[enrolment].name
    address = f"{SERVICES}/certs/{certified.batch_id}/{identifier}"
    document: dict[str, Any] = {
        "id": address,
        "recipient": {"identity": enrolment.user_id, "name": name},
        "badge": {"name": certified.course.tree.name, "criteria": {"narrative": offer.name}},
        "issuedOn": "2024-06-12T00:00:00Z",
    }
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><text>{escape(name)}</text></svg>'
    registered = {
        "accessCode": "B2U4Z5",
        "recipientId": enrolment.user_id,
        "jsonUrl": f"{address}.json",
        "jsonData": document,
    }
    noted = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}+0000"
    entry = {"name": offer.name, "identifier": identifier, "token": "B2U4Z5", "lastIssuedOn": noted}
    return StoredCertificate(entry, {**document, "printUri": PICTURE + quote(svg)}, registered)


def made_up(learners: int = 20, problems: Sequence[str] = ()) -> Outcome:
    """The end of a run whose last certificate was noted 3.3 s after the first event, its last course after 2 s."""
    scenario = journeys(Random(1), "run1", round(STARTED.timestamp() * 1000), learners)
    certified = certification(scenario, "run1")
    progress = expected(scenario)
    wanted = expected_certificates(scenario, certified, progress)
    certificates = {
        enrolment: [
            *(StoredCertificate(entry) for entry in certified.held(enrolment)),
            *(issued(certified, enrolment, offer, STARTED + timedelta(seconds=3.3)) for offer in offers),
        ]
        for enrolment, offers in wanted.issued.items()
    }
    ids = frozenset(each.identifier for found in certificates.values() for each in found if each.document)
    stored = {
        enrolment: Stored(
            status=state.status,
            progress=state.progress,
            completed_on=COMPLETED_ON if state.status == COMPLETED else None,
        )
        for enrolment, state in progress.end_states.items()
        if enrolment in scenario.enrolments
    }
    letters = [
        (ACTIVITY, {"failInfo": {"error": "not JSON: <i>"}, "rawEvent": "<script>alert(1)</script>"}),
        (ASSESSMENT, {"contentId": "do_of_another_course"}),
        (ACTIVITY, {"courseId": "do_run1_without_tree", "contents": []}),
        (
            GENERATOR,
            {"failInfo": {"error": "Mandatory parameter edata.svgTemplate is missing."}, "edata": {"name": "C"}},
        ),
    ]
    return Outcome(
        scenario,
        certified,
        progress,
        wanted,
        STARTED,
        stored,
        StoredCertificates(certificates, ids, ids, wanted.told),
        {RELATION: {"total-events-count": 1}, ACTIVITY: progress.counters, **wanted.counters},
        letters,
        problems,
        {"stack": 30.0, "jobs": 20.0},
        PEOPLE,
    )
