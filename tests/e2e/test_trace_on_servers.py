"""`sunbird-pipelines trace` on the real servers: what it reads there, and that it leaves them as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from confluent_kafka.admin import AdminClient

from deploy.local.stack import Stack
from tests.e2e.installation import PROGRESS, SECONDS, Installation
from tests.e2e.learner import BATCH, Learner

TEMPLATE = {
    "identifier": "do_tpl",
    "name": "Completion",
    "url": "CLOUD_BASE_PATH/a.svg",
    "criteria": '{"enrollment":{"status":2}}',
    "issuer": '{"name":"State Council","url":"https://scert.example.in/"}',
    "signatoryList": '[{"id":"DIR","name":"X","designation":"Director","image":"https://x/sig.png"}]',
}


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without jobs, and without Flink."""
    with Installation.on(stack, tmp_path_factory.mktemp("trace")) as site:
        yield site


@pytest.fixture
def kafka(site: Installation) -> AdminClient:
    return AdminClient({"bootstrap.servers": site.settings["kafka.broker-servers"]})


def trace(site: Installation, learner: Learner, *more: str | Path, code: int = 0) -> dict[str, Any]:
    who = ("--user", learner.user, "--course", learner.course, "--batch", BATCH)
    ran = site.command("trace", *who, "--config", site.configuration(PROGRESS), "--json", *more)
    assert ran.returncode == code, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    found["by"] = {step["name"]: step for step in found["steps"]}
    return found


def complete(site: Installation) -> Learner:
    """A learner who has done all, in a batch with a certificate."""
    learner = Learner(site, enrolled=False)
    learner.enrol(2, active=True, progress=4)
    for content in "abcd":
        learner.consumed(content)
    site.insert(
        "sunbird_courses.course_batch",
        **{"courseid": learner.course, "batchid": BATCH, "cert_templates": {"t1": TEMPLATE}},
    )
    stubs = site.settings["service.learner.basePath"]
    for kind, name, what in (
        ("users", learner.user, {"firstName": "First", "lastName": "Last"}),
        ("contents", learner.course, {"name": "Numeracy"}),
    ):
        requests.put(f"{stubs}/stub/{kind}/{name}", json=what, timeout=SECONDS).raise_for_status()
    return learner


def request(learner: Learner) -> bytes:
    edata = {"action": "issue-certificate", "userIds": [learner.user], "courseId": learner.course, "batchId": BATCH}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": edata})


def test_half_of_the_course(site: Installation) -> None:
    learner = Learner(site, enrolled=False)
    learner.enrol(1, active=True, progress=2)
    learner.consumed("a")
    learner.consumed("c")
    found = trace(site, learner)
    assert found["verdict"]["step"] == "progress"
    assert found["by"]["progress"]["details"]["missing"] == ["b", "d"]
    assert [unit["done"] for unit in found["by"]["progress"]["details"]["units"]] == [1, 1]
    assert found["by"]["relation cache"]["verdict"] == "ok"


def test_a_course_without_leaf_nodes(site: Installation) -> None:
    learner = Learner(site, cached=False, enrolled=False)
    learner.enrol(1, active=True)
    learner.consumed("a")
    site.set_status(learner.course, "Live")
    found = trace(site, learner)
    assert found["verdict"]["step"] == "relation cache"
    assert found["by"]["relation cache"]["details"]["courseStatus"] == "Live"


def test_a_request_that_waits_and_one_that_failed(site: Installation, kafka: AdminClient) -> None:
    asked, failed, forgotten = complete(site), complete(site), complete(site)
    letter = orjson.loads(request(failed)) | {"failInfo": {"error": "the user service answers 404"}}
    failed_topic = f"{site.environment}.issue.certificate.failed"
    site.send(site.topics.certificates, *[b"{}"] * 3_000, request(asked))
    site.send(failed_topic, b"[]", None, orjson.dumps(letter), b"\xff")
    groups = {group.group_id for group in kafka.list_consumer_groups().result(SECONDS).valid}
    topics = set(kafka.list_topics(timeout=SECONDS).topics)

    found = trace(site, asked)
    assert [step["verdict"] for step in found["steps"][:6]] == ["ok"] * 6
    assert found["verdict"]["step"] == "backlog"
    assert f"waits for {site.environment}-collection-cert-pre-processor-group" in found["verdict"]["text"]
    (seen,) = found["by"]["requests"]["details"]["issue"]
    assert seen["topic"] == site.topics.certificates

    found = trace(site, failed)
    assert found["verdict"]["step"] == "dead letters"
    assert "the user service answers 404" in found["verdict"]["text"]

    found = trace(site, forgotten, "--kafka-records", "1000")
    assert found["verdict"]["step"] == "requests"
    assert found["by"]["requests"]["details"]["read"][site.topics.certificates] == 1_000

    # nothing was made, nothing committed
    absent = site.name("no-such-topic")
    own = site.configuration(PROGRESS, kafka__output__failed__topic=absent)
    found = trace(site, failed, "--config", f"collection-certificate-generator={own}")
    assert f"there is no topic {absent}" in found["by"]["dead letters"]["found"]
    assert set(kafka.list_topics(timeout=SECONDS).topics) == topics
    left = {group.group_id for group in kafka.list_consumer_groups().result(SECONDS).valid} - groups
    assert not [group for group in left if group.startswith(site.environment) or "trace" in group]


def test_a_certificate_in_rc(site: Installation) -> None:
    learner = complete(site)
    body = {
        "certificateLabel": "Completion",
        "status": "ACTIVE",
        "recipient": {"id": learner.user, "name": "First Last"},
        "training": {"id": learner.course, "type": "Course", "batchId": BATCH},
    }
    address = f"{site.settings['service.rc.basePath']}/{site.settings['service.rc.entity']}"
    headers = {"Authorization": site.settings["service.rc.rcApiKey"]}
    made = requests.post(address, json=body, headers=headers, timeout=SECONDS).json()
    osid = made["result"][site.settings["service.rc.entity"]]["osid"]
    assert trace(site, learner)["by"]["certificate"]["details"]["standing"] == "unreferenced"

    entry = {"name": "completion", "identifier": osid, "lastIssuedOn": "2024-06-12T10:00:00Z"}
    learner.enrol(2, active=True, progress=4, issued_certificates=[entry])
    found = trace(site, learner)
    assert found["verdict"] == {
        "text": f"The learner has the certificate: {osid}.",
        "toDo": "",
        "step": None,
        "template": None,
        "also": [],
    }
    learner.enrol(2, active=True, progress=4, issued_certificates=[{**entry, "identifier": "nowhere"}])
    assert trace(site, learner)["by"]["certificate"]["details"]["standing"] == "lost"


def test_the_table(site: Installation) -> None:
    learner = complete(site)
    who = ("--user", learner.user, "--course", learner.course, "--batch", BATCH)
    ran = site.command("trace", *who, "--config", site.configuration(PROGRESS))
    assert ran.returncode == 0, ran.stderr
    assert max(map(len, ran.stdout.splitlines())) <= 100
    assert "Verdict: The criteria of the certificate 'Completion' are met" in ran.stdout
    assert "First" not in ran.stdout
    assert ran.stderr == ""


def test_servers_that_are_not_there(site: Installation, nobody: int) -> None:
    learner = complete(site)
    found = trace(site, learner, "--set", f"kafka.broker-servers=127.0.0.1:{nobody}")
    assert found["by"]["backlog"]["verdict"] == "unknown"
    assert found["by"]["certificate"]["details"]["standing"] == "due"

    away = ("--set", f"lms-cassandra.port={nobody}", "--kafka-records", "0")
    found = trace(site, learner, *away, code=1)
    assert found["by"]["enrolment"]["verdict"] == "unknown"
    assert found["by"]["relation cache"]["verdict"] == "ok"
    assert str(nobody) in found["storesAway"][0]
