"""user-deletion-cleanup and user-ownership-transfer on the real servers, through Kafka and Flink, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest

from deploy.local.stack import Stack
from io_connectors.elasticsearch import Elasticsearch
from schemas.event_schemas import validator
from tests.e2e import everywhere
from tests.e2e.installation import Installation, RunningJob
from tests.e2e.person import ORGANISATION, STAYS, Person

DELETION, TRANSFER = "user-deletion-cleanup", "user-ownership-transfer"
BATCHES = "sunbird_courses.course_batch"


@pytest.fixture(scope="module")
def site(stack_of: Callable[..., Stack], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    stack = stack_of("kafka", "cassandra", "redis", "elasticsearch", "stubs", "flink")
    directory = tmp_path_factory.mktemp("site")
    with Installation.on(stack, directory, (DELETION, TRANSFER), ("telemetry.raw",)) as site:
        yield site


@pytest.fixture(scope="module", autouse=True)
def jobs(site: Installation) -> Iterator[dict[str, RunningJob]]:
    """Both jobs, running."""
    audit = {"kafka__output__audit__topic": site.topics.audit}
    with site.running(DELETION, TRANSFER, settings={DELETION: audit}) as jobs:
        yield jobs


@pytest.fixture
def people(site: Installation) -> Iterator[list[Person]]:
    people = [Person(site.settings, site.session).move_in() for _ in range(5)]
    yield people
    for person in people:
        person.move_out()


def tokens(*people: Person) -> dict[str, str]:
    return {f"{kind} of {person.id}": token for person in people for kind, token in person.tokens.items()}


def test_personal_data_is_gone_and_the_topic_and_the_logs_never_had_it(
    site: Installation, people: list[Person], jobs: dict[str, RunningJob]
) -> None:
    """§9 cases 1, 4 and 10, while one of them is deleted already"""
    *active, deleted = people
    site.stub(f"users/{deleted.id}", "blocked")
    failures = jobs[DELETION].failures
    site.written()
    poison = b'{"edata": {"userName": "%s"' % active[0].tokens["name"].encode()
    site.send(site.topics.read_by(DELETION), poison, *(person.event() for person in people), None, b"[]")
    site.handled(DELETION)

    for person in people:
        assert person.is_blank(person.child)
        assert person.membership()[0] is True
        assert person.is_blank(person.id) is (person is not deleted)
    written = [record for record in site.written() if record.topic == site.topics.audit]
    assert {record.key for record in written} == {None}
    assert sorted(record.event["actor"]["id"] for record in written) == sorted(person.id for person in active)
    for record in written:
        validator("delete-user-audit").validate(record.event)
        assert "false" not in record.event["edata"]["props"][0]
    texts = [("written", record.value.decode()) for record in written]
    assert everywhere.places([*texts, *everywhere.logs(site.stack.directory)], tokens(*people)) == set()
    stored = list(everywhere.stores(site.settings))
    for person in active:
        assert {where for where, _ in everywhere.places(stored, person.tokens)} == STAYS.keys()
    # the rest is what the userorg service has deleted itself, before it says so
    assert "redis 12" not in {where for where, _ in everywhere.places(stored, deleted.tokens)}
    assert jobs[DELETION].failures == failures


def test_a_user_service_that_stays_away_loses_no_deletion(site: Installation, people: list[Person]) -> None:
    """spec §6: bundles fail until it answers"""
    site.written()
    site.stub("faults", [{"path": "/private/user/v1/read/", "status": 503, "times": 12}])
    site.send(site.topics.read_by(DELETION), *(person.event() for person in people), key=b"one")
    site.handled(DELETION)
    assert site.stub("faults", method="GET") == []
    assert all(person.is_blank(person.id) and person.is_blank(person.child) for person in people)
    told = {record.event["actor"]["id"] for record in site.written() if record.topic == site.topics.audit}
    assert told == {person.id for person in people}


def test_batches_change_hands(site: Installation, jobs: dict[str, RunningJob]) -> None:
    """user-ownership-transfer §9 cases 1, 3 and 10"""
    old, new = site.name("old"), site.name("new")
    failures = jobs[TRANSFER].failures
    documents = Elasticsearch(site.settings["es.basePath"]).open()
    batches = {site.name(f"batch-{number}"): [old] if number % 2 else [] for number in range(30)}
    for user in (old, new):
        site.stub(f"users/{user}", {"rootOrgId": ORGANISATION})
    abouts = {}
    for batch, mentors in batches.items():
        site.insert(BATCHES, courseid="C", batchid=batch, createdby=old, mentors=mentors, status=1)
        about = {"batchId": batch, "courseId": "C", "createdBy": old, "mentors": mentors, "status": 1}
        abouts[batch] = about
    documents.index("course-batch", abouts)
    site.stub("batches", abouts)
    site.stub("settings", {"batch_page": 20})
    profiles = {"fromUserProfile": {"userId": old}, "toUserProfile": {"userId": new}}
    event = orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": {"organisationId": ORGANISATION, **profiles}})
    site.send(site.topics.read_by(TRANSFER), b"{", None, event)
    site.handled(TRANSFER)
    for (batch, mentors), document in zip(batches.items(), documents.get("course-batch", [*batches]), strict=True):
        row = site.row(BATCHES, courseid="C", batchid=batch)
        assert row
        assert (row["createdby"], row["mentors"] or []) == (new, [new] if mentors else [])
        assert document == {**abouts[batch], "createdBy": new, "mentors": [new] if mentors else []}
    assert jobs[TRANSFER].failures == failures
    documents.delete("course-batch", [*batches])
