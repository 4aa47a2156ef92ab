"""The main acceptance cases of the certificate jobs (their specs' §9) on the real servers.

Two of the jobs run through Kafka and Flink, with Sunbird RC's stand-in; files of our own and the migration from a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from deploy.local.stack import Stack
from io_connectors.elasticsearch import Elasticsearch
from io_connectors.object_storage import ObjectStore
from tests.e2e.installation import CHECKER, GENERATOR, MIGRATOR, Installation, RunningJob, eventually, from_file

BATCHES, ENROLMENTS, REGISTRY = (
    "sunbird_courses.course_batch",
    "sunbird_courses.user_enrolments",
    "sunbird.cert_registry",
)
NAME = "Course Completion Certificate"
ENTITY = "TrainingCertificate"
ISSUER = {"name": "State Council", "url": "https://scert.example.in/"}
SIGNATORIES = [{"id": "DIR", "name": "R. Iyer", "designation": "Director", "image": "https://x/sig.png"}]
FINISHED = datetime(2024, 6, 12, 22, 10, tzinfo=UTC)
BATCH = "0140555"


@pytest.fixture(scope="module")
def site(stack_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a course, its batch and its templates; with all stores of certificates."""
    services = ("kafka", "cassandra", "redis", "stubs", "flink", "elasticsearch", "object-storage")
    stack: Stack = stack_of(*services)
    with Installation.on(stack, tmp_path_factory.mktemp("site")) as site:
        site.stub(f"contents/{site.name('course')}", {"name": "Foundations of Numeracy"})
        offer(site, t1={"criteria": {"enrollment": {"status": 2}}})
        site.stub("templates/blue", '<svg xmlns="http://www.w3.org/2000/svg"><text>${recipientName}</text></svg>')
        yield site


@pytest.fixture(scope="module")
def jobs(site: Installation) -> Iterator[tuple[RunningJob, RunningJob]]:
    """Both jobs, running."""
    with site.running(CHECKER, GENERATOR) as jobs:
        yield jobs[CHECKER], jobs[GENERATOR]


def offer(site: Installation, **templates: dict[str, Any]) -> None:
    texts = {}
    for key, changed in templates.items():
        members = {"identifier": key, "name": NAME, "url": "CLOUD_BASE_PATH/blue.svg", "issuer": ISSUER}
        members |= {"signatoryList": SIGNATORIES, "notifyTemplate": {"subject": "x"}, **changed}
        texts[key] = {name: value if isinstance(value, str) else json.dumps(value) for name, value in members.items()}
    site.insert(BATCHES, courseid=site.name("course"), batchid=BATCH, cert_templates=texts)


class Learner:
    """A learner of the course who has finished it, and whom the user service knows."""

    numbers = iter(range(1_000_000))

    def __init__(self, site: Installation, **columns: Any) -> None:
        self.site = site
        self.identifier = site.name(f"learner-{next(self.numbers)}")
        self.key = {"userid": self.identifier, "courseid": site.name("course"), "batchid": BATCH}
        site.insert(ENROLMENTS, **self.key, **{"active": True, "status": 2, "completedon": FINISHED, **columns})
        site.stub(f"users/{self.identifier}", {"firstName": "Learner", "rootOrgId": "A", "maskedPhone": "98******10"})

    @property
    def issued(self) -> list[dict[str, str]]:
        row = self.site.row(ENROLMENTS, **self.key)
        return [dict(entry) for entry in (row and row["issued_certificates"]) or []]

    @property
    def records(self) -> list[str]:
        """The osids of the records that RC has of the learner."""
        found = self.site.stub("credentials", method="GET")
        return [osid for osid, record in found.items() if record["recipient"]["id"] == self.identifier]

    def request(self, **edata: Any) -> bytes:
        return request(self.site, self.identifier, **edata)


def request(site: Installation, *learners: str, **edata: Any) -> bytes:
    body = {"userIds": learners, "action": "issue-certificate", "batchId": BATCH, "courseId": site.name("course")}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": {**body, **edata}})


def handle(site: Installation, *events: bytes) -> None:
    """Send issue events and wait until both jobs have handled what follows from them."""
    site.send(site.topics.certificates, *events)
    site.handled(CHECKER)
    site.handled(GENERATOR)


def test_from_a_finished_course_to_a_certificate(site: Installation, jobs: tuple[RunningJob, RunningJob]) -> None:
    """collection-cert-pre-processor §9 case 1, collection-certificate-generator §9 case 1"""
    learner = Learner(site)
    site.written()
    handle(site, learner.request())
    (osid,) = learner.records
    (entry,) = learner.issued
    assert {name: entry[name] for name in ("name", "identifier", "token", "type", "templateUrl")} == {
        "name": NAME,
        "identifier": osid,
        "token": "",
        "type": ENTITY,
        "templateUrl": f"{site.settings['cloud_storage_base_url']}/templates/blue.svg",
    }
    record = site.stub("credentials", method="GET")[osid]
    assert record["training"] == {
        "id": site.name("course"),
        "name": "Foundations of Numeracy",
        "type": "Course",
        "batchId": BATCH,
    }
    written = site.written()
    (generated,) = [found for found in written if found.topic == site.topics.generate]
    assert generated.key is None
    assert generated.event["edata"]["issuedDate"] == "2024-06-12"
    (audit,) = [found for found in written if found.topic == site.topics.audit]
    assert audit.event["object"] == {"id": osid, "type": "Certificate", "rollup": {"l1": site.name("course")}}

    def told() -> list[Any]:
        mails = site.stub("notifications", method="GET")
        feeds = site.stub("feeds", method="GET")
        return [
            *(found.get("mode") for found in mails if found["recipientUserIds"] == [learner.identifier]),
            *("feed" for found in feeds if found["userId"] == learner.identifier),
        ]

    eventually(lambda: sorted(map(str, told())) == ["None", "feed", "sms"], otherwise=told)


def test_asked_many_times_at_once_one_certificate_each(site: Installation, jobs: tuple[RunningJob, RunningJob]) -> None:
    learners = [Learner(site) for _ in range(30)]
    events = [learner.request() for learner in learners]
    handle(site, *events, request(site, *(learner.identifier for learner in learners)), *reversed(events))
    for learner in learners:
        assert [entry["identifier"] for entry in learner.issued] == learner.records
        assert len(learner.records) == 1


def test_a_reissue_replaces_a_legacy_certificate(site: Installation, jobs: tuple[RunningJob, RunningJob]) -> None:
    """collection-certificate-generator §9 cases 2 and 3, collection-cert-pre-processor §9 case 2"""
    old = site.name("old")
    documents = Elasticsearch(site.settings["es.basePath"]).open()
    documents.index("certs", {old: {"id": old}})
    site.insert(REGISTRY, id=old, isrevoked=False)
    merit = {"name": "Merit", "identifier": "1-m", "token": ""}
    learner = Learner(site, issued_certificates=[{"name": NAME.lower(), "identifier": old, "token": ""}, merit])
    handle(site, learner.request())
    assert len(learner.issued) == 2, "already issued"
    assert learner.records == []
    handle(site, learner.request(reIssue=True))
    assert [entry["identifier"] for entry in learner.issued] == ["1-m", *learner.records]
    assert len(learner.records) == 1
    assert site.row(REGISTRY, id=old) is None
    assert documents.get("certs", [old]) == [None]


def test_a_service_that_is_away_delays_and_loses_nothing(
    site: Installation, jobs: tuple[RunningJob, RunningJob]
) -> None:
    """§6 of both specs: the bundle fails, Flink begins again, one certificate each is the end."""
    learners = [Learner(site) for _ in range(5)]
    site.stub("faults", [{"path": "/registry-service", "status": 503, "times": 12}])
    handle(site, *(learner.request() for learner in learners))
    assert site.stub("faults", method="GET") == [], "the service was away"
    for learner in learners:
        assert [entry["identifier"] for entry in learner.issued] == learner.records
        assert len(learner.records) == 1
    eventually(lambda: all(job.all_tasks_run for job in jobs))


def test_what_can_not_be_handled_is_a_dead_letter(site: Installation, jobs: tuple[RunningJob, RunningJob]) -> None:
    """collection-cert-pre-processor §9 cases 8, 11, 14; collection-certificate-generator §9 cases 7, 15"""
    learner, blocked, refused = Learner(site), Learner(site), Learner(site)
    site.stub(f"users/{blocked.identifier}", "blocked")
    failures = [job.failures for job in jobs]
    site.written()
    offer(site, t1={"criteria": {"enrollment": {"status": 2}}}, bad={"criteria": "{", "name": "Bad"})
    handle(site, b'{"edata":', blocked.request(), learner.request())
    offer(site, t1={"criteria": {"enrollment": {"status": 2}}})
    site.send(site.topics.generate, b"no JSON")
    site.stub("faults", [{"path": f"/registry-service/api/v1/{ENTITY}", "method": "POST", "status": 400, "times": 1}])
    handle(site, refused.request())
    letters = [found for found in site.written() if found.topic.endswith(".failed")]
    of_checker = [found.event for found in letters if found.topic == site.topics.failed_of(CHECKER)]
    of_generator = [found.event for found in letters if found.topic == site.topics.failed_of(GENERATOR)]
    assert [letter.get("rawEvent") for letter in of_checker].count('{"edata":') == 1
    assert sorted(letter["failInfo"]["error"] for letter in of_checker if "edata" in letter) == sorted(
        f"user {user} template bad: Invalid template for batch : {BATCH}"
        for user in (learner.identifier, blocked.identifier)
    )
    assert [letter.get("rawEvent") for letter in of_generator].count("no JSON") == 1
    (of_refused,) = [letter for letter in of_generator if "edata" in letter]
    assert of_refused["edata"]["userId"] == refused.identifier
    assert (len(learner.issued), len(blocked.issued), len(refused.issued)) == (1, 0, 0)
    assert [job.failures for job in jobs] == failures, "no record stops a job"


# --- from files, without Kafka and Flink


def test_files_of_our_own(site: Installation, tmp_path: Path) -> None:
    """collection-certificate-generator §9 cases 9 and 10, with an object store and a signing service"""
    learner = Learner(site)
    edata = {
        "userId": learner.identifier,
        "data": [{"recipientName": "Meera Nair", "recipientId": learner.identifier}],
        "name": NAME,
        "courseName": "Foundations of Numeracy",
        "templateId": "t1",
        "svgTemplate": "CLOUD_BASE_PATH/blue.svg",
        "issuer": ISSUER,
        "signatoryList": SIGNATORIES,
        "criteria": {"narrative": NAME},
        "tag": BATCH,
        "keys": {"id": "12"},
        "related": {"batchId": BATCH, "courseId": site.name("course"), "type": NAME},
    }
    configuration = site.configuration(GENERATOR, enable__rc__certificate=False)
    counted, _ = from_file(GENERATOR, configuration, tmp_path, *[orjson.dumps({"edata": edata})] * 2)
    assert (counted["success-events-count"], counted["skipped-event-count"]) == (1, 1)
    (entry,) = learner.issued
    found = site.settings
    store = ObjectStore(
        found["cert_cloud_storage_type"],
        found["cert_container_name"],
        found["cert_cloud_storage_key"],
        found["cert_cloud_storage_secret"],
        found["cert_cloud_storage_endpoint"],
    ).open()
    stored = store.get(f"{BATCH}/{entry['identifier']}.json")
    assert stored is not None
    document = orjson.loads(stored)
    registered = site.stub("registry", method="GET")[entry["identifier"]]
    assert registered["accessCode"] == entry["token"]
    assert registered["jsonData"] == {name: value for name, value in document.items() if name != "printUri"}
    claim = {name: value for name, value in registered["jsonData"].items() if name != "signature"}
    proof = {"claim": claim, "signatureValue": document["signature"]["signatureValue"], "keyId": 12}
    verify = f"{found['service.enc.basePath']}/verify"
    assert requests.post(verify, json={"entity": proof}, timeout=30).json() is True
    assert "Meera%20Nair" in document["printUri"]


def test_a_migration(site: Installation, tmp_path: Path) -> None:
    """legacy-certificate-migrator §9 cases 1, 2, 6"""
    old, name = site.name("migrated"), "Course Merit Certificate"
    documents = Elasticsearch(site.settings["es.basePath"]).open()
    documents.index("certs", {old: {"id": old}})
    site.insert(REGISTRY, id=old, isrevoked=False, recipient="{}")
    learner = Learner(site, issued_certificates=[{"name": name, "identifier": old, "token": "A1B2C3"}])
    edata = {
        "identifier": old,
        "userId": learner.identifier,
        "data": [{"recipientName": "Joseph M", "recipientId": learner.identifier}],
        "name": name,
        "issuedDate": "2021-03-02T00:00:00Z",
        "svgTemplate": "CLOUD_BASE_PATH/blue.svg",
        "issuer": {**ISSUER, "publicKey": ["7"]},
        "signatoryList": SIGNATORIES,
        "criteria": {"narrative": name},
        "related": {"batchId": BATCH, "courseId": site.name("course"), "type": "x"},
    }
    event = orjson.dumps({"edata": edata})
    orphan = orjson.dumps({"edata": {**edata, "userId": "nobody"}})
    configuration = site.configuration(MIGRATOR, kafka__output__failed__topic="failed")
    counted, _ = from_file(MIGRATOR, configuration, tmp_path, orphan, event, event)
    assert {name: counted[name] for name in sorted(counted) if name.endswith(("events-count", "event-count"))} == {
        "failed-events-count": 1,
        "skipped-event-count": 1,
        "success-events-count": 1,
        "total-events-count": 3,
    }
    (entry,) = learner.issued
    assert [entry["identifier"]] == learner.records
    assert entry["lastIssuedOn"] == "2021-03-02T00:00:00Z"
    row = site.row(REGISTRY, id=old)
    assert row is not None
    assert (row["reason"], row["isrevoked"]) == ("revoked", True)
    assert documents.get("certs", [old]) == [None]
    (letter,) = (tmp_path / "out" / "failed.jsonl").read_bytes().splitlines()
    assert orjson.loads(letter)["failInfo"]["error"].startswith("no enrolment for nobody")
