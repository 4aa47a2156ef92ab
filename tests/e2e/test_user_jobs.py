"""user-deletion-cleanup and user-ownership-transfer through the real command, on the real servers, without Flink."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
import yaml
from cassandra.cluster import Cluster, Session

from deploy.local.stack import Stack
from io_connectors.elasticsearch import Elasticsearch
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from tests.e2e import everywhere
from tests.e2e.installation import Installation, from_file, sunbird_pipelines
from tests.e2e.person import ORGANISATION, SECONDS, STAYS, Person

DELETION, TRANSFER = "user-deletion-cleanup", "user-ownership-transfer"
AUDIT = "dev.telemetry.raw"


class Place:
    """The servers, and the jobs on them."""

    def __init__(self, stack: Stack, session: Session, directory: Path) -> None:
        self.stack = stack
        self.session = session
        self.settings = stack.environment()
        self.directory = directory
        self.documents = Elasticsearch(self.settings["es.basePath"]).open()
        self.said = ""

    def run(self, job: str, *events: bytes, **more: Any) -> dict[str, int]:
        """Run a job over these events to its end: what it counted. What it said and wrote is kept."""
        configuration = self.directory / "site.yaml"
        configuration.write_text(yaml.safe_dump({**self.settings, "kafka.output.audit.topic": AUDIT, **more}))
        counted, self.said = from_file(job, configuration, self.directory, *events)
        assert counted.keys() <= set(COUNTERS[job])
        return counted

    def audits(self) -> list[dict[str, Any]]:
        written = self.directory / "out" / f"{AUDIT}.jsonl"
        return [orjson.loads(line) for line in written.read_bytes().splitlines()] if written.exists() else []

    def put_stub(self, what: str, value: Any) -> None:
        address = f"{self.settings['service.userorg.basePath']}/stub/{what}"
        requests.put(address, json=value, timeout=SECONDS).raise_for_status()


@pytest.fixture(scope="module")
def session(stack_of: Callable[..., Stack]) -> Iterator[Session]:
    settings = stack_of("cassandra", "redis", "elasticsearch", "stubs").environment()
    cluster = Cluster(
        [settings["lms-cassandra.host"]],
        port=settings["lms-cassandra.port"],
        connect_timeout=SECONDS,
        control_connection_timeout=SECONDS,
    )
    yield cluster.connect()
    cluster.shutdown()


@pytest.fixture
def place(stack_of: Callable[..., Stack], session: Session, tmp_path: Path) -> Place:
    return Place(stack_of("cassandra", "redis", "elasticsearch", "stubs"), session, tmp_path)


@pytest.fixture
def person(place: Place) -> Iterator[Person]:
    person = Person(place.settings, place.session).move_in()
    yield person
    person.move_out()


@pytest.fixture
def kafka(stack_of: Callable[..., Stack], place: Place, tmp_path: Path) -> Iterator[Installation]:
    """The topics of an environment of its own."""
    with Installation.on(stack_of("kafka"), tmp_path, (DELETION,), ("telemetry.raw",)) as site:
        yield site


def test_personal_data_is_gone_after_a_deletion(place: Place, person: Person, kafka: Installation) -> None:
    """Every table, Redis key, index, topic that is written, and log, searched for the learner's tokens."""
    before = everywhere.places(everywhere.stores(place.settings), person.tokens)
    name = person.tokens["name"]
    tables = {where.rpartition(".")[0] for where, _ in before if where.startswith("sunbird.")}
    assert tables == {f"sunbird.{t}" for t in ("user", "user_lookup", "usr_external_identity", "cert_registry")}
    assert {where for where, _ in before} >= {"redis 12", "keycloak", *STAYS}

    kafka.send(kafka.topics.read_by(DELETION), person.event(), b'{"edata": {"userName": "%s"' % name.encode())
    configuration = kafka.configuration(DELETION, kafka__output__audit__topic=kafka.topics.audit)
    metrics = place.directory / "until-end.json"
    ran = sunbird_pipelines("run", DELETION, "--config", configuration, "--until-end", "--metrics", metrics)
    assert ran.returncode == 0, ran.stderr
    said, counted = ran.stdout + ran.stderr, json.loads(metrics.read_text())

    assert (counted["success-message-count"], counted["skipped-message-count"]) == (1, 1)
    assert counted["db-update-success-count"] == 2
    assert person.is_blank(person.id)
    assert person.is_blank(person.child)
    assert person.membership()[0] is True
    after = everywhere.places(everywhere.stores(place.settings), person.tokens)
    assert {where for where, _ in after} == STAYS.keys()
    assert ("sunbird.user_lookup.value", "phone") in after
    assert ("sunbird.user_lookup.value", "mail") not in after
    [audit] = kafka.written()
    texts = [("written", audit.value.decode()), ("said", said), *everywhere.logs(place.stack.directory)]
    assert everywhere.places(texts, person.tokens) == set()
    assert audit.key is None
    validator("delete-user-audit").validate(audit.event)
    assert "false" not in audit.event["edata"]["props"][0]
    told = (
        "membership 1 of 1, keycloak 1 of 1, user-lookup 7 of 8, external-id 1 of 1, profile-cache 2 of 2, "
        "user-row 2 of 2"
    )
    assert f"The deletion of {person.id} (LP.1.{person.mark}): active; changed: {told}" in said

    # the userorg service says so now, and the event comes again
    place.put_stub(f"users/{person.id}", "blocked")
    assert place.run(DELETION, person.event())["success-message-count"] == 1
    assert everywhere.places([("said", place.said)], person.tokens) == set()
    assert {where for where, _ in everywhere.places(everywhere.stores(place.settings), person.tokens)} == STAYS.keys()


def test_a_dry_run_leaves_every_byte_as_it_is(place: Place, person: Person) -> None:
    batch = f"b-{person.mark}"
    place.session.execute(
        "INSERT INTO sunbird_courses.course_batch (courseid, batchid, createdby, mentors) VALUES ('C', %s, %s, %s)",
        [batch, person.id, [person.id]],
    )
    about = {"batchId": batch, "courseId": "C", "createdBy": person.id, "mentors": [person.id], "status": 1}
    place.documents.index("course-batch", {batch: about})
    place.put_stub(f"batches/{batch}", about)
    place.put_stub(f"users/{person.other}", {"rootOrgId": ORGANISATION})

    def everything() -> list[tuple[str, str]]:
        written = place.session.execute("SELECT id, WRITETIME(status) AS at FROM sunbird.user")
        return sorted([*everywhere.stores(place.settings), *((row.id, str(row.at)) for row in written)])

    before = everything()
    counted = place.run(DELETION, person.event(), dry_run=True)
    assert everything() == before
    assert {name: n for name, n in counted.items() if "found" in name} == {
        "keycloak-found-count": 1,
        "user-lookup-found-count": 8,
        "external-id-found-count": 1,
        "membership-found-count": 1,
        "profile-cache-found-count": 2,
        "user-row-found-count": 2,
    }
    assert not [name for name in counted if "changed" in name or "success-message" in name]
    assert "(dry run: nothing is changed)" in place.said
    assert place.audits() == []
    counted = place.run(TRANSFER, transfer(person.id, person.other), dry_run=True)
    assert everything() == before
    assert (counted["batch-row-found-count"], counted["batch-document-found-count"]) == (2, 1)
    place.documents.delete("course-batch", [batch])


def transfer(old: str, new: str) -> bytes:
    profiles = {"fromUserProfile": {"userId": old}, "toUserProfile": {"userId": new}}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": {"organisationId": ORGANISATION, **profiles}})


def test_batches_change_hands(place: Place) -> None:
    """user-ownership-transfer §9 cases 1 to 4, 6 and 9"""
    mark = uuid.uuid4().hex[:8]
    old, new, third = (f"{kind}-{mark}" for kind in ("old", "new", "third"))
    place.session.execute("INSERT INTO sunbird.user (id, rootorgid) VALUES (%s, %s)", [old, ORGANISATION])
    place.put_stub(f"users/{old}", "blocked")
    place.put_stub(f"users/{new}", {"rootOrgId": ORGANISATION})
    batches: dict[str, tuple[str, list[str]]] = {
        "created": (old, []),
        "mentored": (third, [old, third, old]),
        "both": (old, [old]),
        "already": (third, [new, old]),
        "without-document": (old, []),
    }
    names = {name: f"{name}-{mark}" for name in batches}
    for name, (creator, mentors) in batches.items():
        columns = ["C", names[name], creator, mentors, "June batch", 1]
        place.session.execute(
            "INSERT INTO sunbird_courses.course_batch (courseid, batchid, createdby, mentors, name, status) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            columns,
        )
        about = {"batchId": names[name], "courseId": "C", "createdBy": creator, "mentors": mentors, "status": 1}
        place.put_stub(f"batches/{names[name]}", about)
        if name != "without-document":
            place.documents.index("course-batch", {names[name]: {**about, "startDate": "2024-05-01"}})
    counted = place.run(TRANSFER, transfer(old, new), b"{")
    assert counted == {
        "total-transfer-events-count": 2,
        "skipped-message-count": 1,
        "api-read-success-count": 1,
        "db-update-success-count": 2,
        "success-message-count": 1,
        "batch-row-found-count": 6,
        "batch-row-changed-count": 6,
        "batch-document-found-count": 4,
        "batch-document-changed-count": 4,
    }
    expected = {
        "created": (new, []),
        "mentored": (third, [third, new]),
        "both": (new, [new]),
        "already": (third, [new]),
        "without-document": (new, []),
    }
    for name, (creator, mentors) in expected.items():
        query = "SELECT * FROM sunbird_courses.course_batch WHERE courseid = 'C' AND batchid = %s"
        row = place.session.execute(query, [names[name]]).one()
        assert (row.createdby, row.mentors or [], row.name, row.updateddate) == (creator, mentors, "June batch", None)
        [document] = place.documents.get("course-batch", [names[name]])
        if name == "without-document":
            assert document is None
            continue
        assert document == {
            "batchId": names[name],
            "courseId": "C",
            "createdBy": creator,
            "mentors": mentors,
            "status": 1,
            "startDate": "2024-05-01",
        }
        place.put_stub(f"batches/{names[name]}", document)
    place.put_stub(f"batches/{names['without-document']}", None)
    again = place.run(TRANSFER, transfer(old, new))
    assert (again["success-message-count"], again.get("db-update-success-count")) == (1, None)
    place.documents.delete("course-batch", list(names.values()))
