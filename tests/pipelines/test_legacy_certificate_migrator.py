"""The acceptance cases of legacy-certificate-migrator §9, and its failures of §6, on DirectRunner."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from io_connectors.memory_documents import MemoryElasticsearch
from io_connectors.sunbird_rc import SunbirdRC
from pipelines import legacy_certificate_migrator as job
from pipelines.stores import cloud_paths
from tests.pipelines.certificate_site import (
    BATCH,
    COURSE,
    ENROLMENTS,
    NOW,
    SERVICES,
    USER,
    CertificateSite,
    Death,
    Died,
)
from transforms.certificate.credential import unwanted_texts
from transforms.dead_letter import FAILED as FAILED_TAG
from transforms.migrate_certificates import MigrateCertificates, MigrationStores

AUDIT, FAILED = "dev.telemetry.raw", "dev.migration.failed"
RC = "/registry-service/api/v1"
ENTITY = "TrainingCertificate"
REGISTRY = "sunbird.cert_registry"
OLD = "7c0d2a55-0b7e-4a43-93a4-2f5f6a7b8c90"
NAME = "Course Merit Certificate"
ISSUED_ON = "2021-03-02T00:00:00Z"
OTHER = {"name": "Other", "identifier": "1-o", "token": ""}
LEGACY = {"name": NAME.upper(), "identifier": OLD, "token": "A1B2C3"}


def event(**edata: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "identifier": OLD,
        "oldId": OLD,
        "userId": USER,
        "data": [{"recipientName": "Joseph M", "recipientId": USER}],
        "name": NAME,
        "courseName": "Water Testing",
        "issuedDate": ISSUED_ON,
        "templateId": "t1",
        "svgTemplate": "CLOUD_BASE_PATH/merit.svg",
        "issuer": {"name": "State Council", "url": "https://scert.example.in/", "publicKey": ["7", 8]},
        "signatoryList": [{"id": "DIR", "name": "R. Iyer", "designation": "Director", "image": "https://x/sig.png"}],
        "criteria": {"narrative": NAME},
        "basePath": "https://dev.example.org/certs",
        "tag": "0132",
        "related": {"batchId": BATCH, "courseId": COURSE, "type": "course-completion", "introUrl": "x"},
    }
    return {"edata": {name: value for name, value in {**body, **edata}.items() if value is not None}}


class Site(CertificateSite):
    """With one certificate of the old kind, and another one."""

    def __init__(self) -> None:
        super().__init__()
        self.documents = MemoryElasticsearch(self.name).open()
        self.documents.index("certs", {OLD: {"id": OLD}})
        self.register()
        self.enrol(issued_certificates=[LEGACY, OTHER])
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "kafka.output.failed.topic": FAILED,
            "service.rc.basePath": SERVICES + RC,
            "cloud_storage_base_url": "https://obj.dev.example.org",
            "content_cloud_storage_container": "contents",
        }

    def register(self, reason: str | None = None) -> None:
        self.put(REGISTRY, {"id": OLD}, {"reason": reason, "isrevoked": False, "recipient": "{}"})

    @property
    def stores(self) -> MigrationStores:
        return MigrationStores(
            tables=self.cassandra,
            enrolments=ENROLMENTS,
            registry=REGISTRY,
            credentials=SunbirdRC(SERVICES + RC, ENTITY, "stub-rc-key", self.http),
            entity=ENTITY,
            documents=MemoryElasticsearch(self.name),
            calls=self.calls,
        )

    def migrate(self, *values: Any) -> Site:
        self.run(job, job.Settings(**self.settings), self.stores, *values, clock=lambda: NOW)
        return self

    def step(self) -> MigrateCertificates:
        """The step by itself, open."""
        settings = job.Settings(**self.settings)
        step = MigrateCertificates(
            job.NAME,
            self.stores,
            size=10,
            suppress_signatories=False,
            paths=cloud_paths(settings),
            unwanted=unwanted_texts(settings.unwanted),
            clock=lambda: NOW,
            new_id=lambda: "id",
        )
        step.setup()
        return step

    @property
    def state(self) -> tuple[str | None, bool | None]:
        """reason, isrevoked"""
        (row,) = self.tables.rows(REGISTRY)
        return row["reason"], row["isrevoked"]

    @property
    def has_document(self) -> bool:
        return self.documents.get("certs", [OLD]) != [None]

    @property
    def reasons(self) -> list[str]:
        return [letter["failInfo"]["error"] for letter in self.events(FAILED)]

    @property
    def creates(self) -> list[dict[str, Any]]:
        path = f"{RC}/{ENTITY}"
        return [orjson.loads(call.body) for call in self.web.calls if call.path == path and call.method == "POST"]

    def counted(self, **expected: int) -> bool:
        outcomes = {
            "success": "success-events-count",
            "skipped": "skipped-event-count",
            "failed": "failed-events-count",
        }
        found = {name: self.counts.get(counter, 0) for name, counter in outcomes.items()}
        return found == {**dict.fromkeys(outcomes, 0), **expected}

    def is_migrated(self, osid: str) -> bool:
        entry = {
            "name": NAME,
            "identifier": osid,
            "token": "",
            "lastIssuedOn": ISSUED_ON,
            "templateUrl": "CLOUD_BASE_PATH/merit.svg",
            "type": ENTITY,
        }
        return self.issued() == [OTHER, entry] and self.state == ("revoked", True) and not self.has_document


@pytest.fixture
def site() -> Site:
    return Site()


def test_new(site: Site):
    """§9 case 1"""
    site.services.public_keys = ["1-k"]
    site.migrate(event())
    (osid,) = site.services.credentials
    assert site.is_migrated(osid)
    assert site.creates == [
        {
            "certificateLabel": NAME,
            "status": "ACTIVE",
            "templateUrl": "https://obj.dev.example.org/contents/merit.svg",
            "training": {"id": COURSE, "name": "Water Testing", "type": "Course", "batchId": BATCH},
            "recipient": {"id": USER, "name": "Joseph M", "type": "user"},
            "issuer": {"url": "https://scert.example.in/", "name": "State Council", "kid": "1-k"},
            "signatory": event()["edata"]["signatoryList"],
            "issuedOn": ISSUED_ON,
            "oldId": OLD,
        }
    ]
    (audit,) = site.events(AUDIT)
    assert audit["edata"] == {"props": ["certificates"], "type": "certificate-migrated-svg"}
    assert audit["object"] == {"id": osid, "type": "Certificate", "rollup": {"l1": COURSE}}
    assert audit["actor"] == {"id": USER, "type": "User"}
    assert site.counts == {
        "total-events-count": 1,
        "success-events-count": 1,
        "enrollment-db-read-count": 2,
        "db-update-user-enrollment-count": 1,
    }


@pytest.mark.parametrize("ids", [{"identifier": None}, {"oldId": None}, {"oldId": " "}])
def test_one_of_the_ids_is_enough(site: Site, ids: dict[str, Any]):
    """spec §2"""
    assert site.migrate(event(**ids)).counted(success=1)


def test_without_a_date_of_issue_there_is_none(site: Site):
    """spec §8.10"""
    site.migrate(event(issuedDate=""))
    assert "issuedOn" not in site.creates[0]
    assert "lastIssuedOn" not in site.issued()[1]


def test_sent_again(site: Site):
    """§9 case 2"""
    site.migrate(event())
    site.web.clear()
    assert site.migrate(event()).counted(skipped=1)
    assert site.web.calls == []


@pytest.mark.parametrize("form", ["list", "object"])
def test_resume_when_the_record_exists(site: Site, form: str):
    """§9 case 3"""
    site.register("migration_started")
    site.services.search_form = form
    site.services.credentials["1-m2"] = {"osid": "1-m2", "oldId": OLD}
    site.services.entity_of["1-m2"] = ENTITY
    assert site.migrate(event()).counted(success=1)
    assert site.creates == []
    assert site.is_migrated("1-m2")


@pytest.mark.parametrize("answer", [(404, ""), (200, "[]"), (200, '{"data":[]}')])
def test_resume_when_the_record_does_not_exist(site: Site, answer: tuple[int, str]):
    """§9 case 4"""
    site.register("migration_started")
    before = site.web.handler
    assert before is not None
    site.http.serve(lambda *call: answer if call[1] == f"{RC}/{ENTITY}/search" else before(*call))
    assert site.migrate(event()).counted(success=1)
    assert len(site.creates) == 1
    assert site.is_migrated(*site.services.credentials)


def test_resume_at_the_end(site: Site):
    """§9 case 5"""
    site.register("enrolment_updated")
    before = site.enrolment()
    assert site.migrate(event()).counted(success=1)
    assert site.web.calls == []
    assert site.enrolment() == before
    assert site.events(AUDIT) == []
    assert site.state == ("revoked", True)
    assert not site.has_document


def test_no_enrolment(site: Site):
    """§9 case 6"""
    assert site.migrate(event(userId="learner-2")).counted(failed=1)
    assert site.reasons == [f"no enrolment for learner-2 {COURSE} {BATCH}"]
    assert site.state == (None, False)
    assert site.web.calls == []


def test_a_newer_certificate_is_present(site: Site):
    """§9 case 7"""
    site.enrol(issued_certificates=[{"name": NAME, "identifier": "1-new", "type": ENTITY}])
    assert site.migrate(event()).counted(skipped=1)
    assert site.state == (None, False)
    assert site.web.calls == []


def test_unknown_id_and_a_reason_of_somebody_else(site: Site):
    """§9 case 8"""
    assert site.migrate(event(identifier="other", oldId="other")).counted(skipped=1)
    assert len(site.tables.rows(REGISTRY)) == 1
    site.register("issued by mistake")
    assert site.migrate(event()).counted(skipped=1)
    assert site.state == ("issued by mistake", False)


def test_rc_refuses_and_is_repaired(site: Site):
    """§9 case 9"""
    services = site.web.handler
    assert services is not None
    site.http.serve(lambda *call: (400, "") if call[1] == f"{RC}/{ENTITY}" else services(*call))
    before = site.enrolment()
    assert site.migrate(event()).counted(failed=1)
    assert site.state == ("migration_started", False)
    assert site.enrolment() == before
    site.http.serve(services)
    (letter,) = site.events(FAILED)
    assert site.migrate(letter).counted(success=1)
    assert site.is_migrated(*site.services.credentials)


def test_ids_that_differ(site: Site):
    """§9 case 10"""
    assert site.migrate(event(identifier="other")).counted(failed=1)
    assert site.state == (None, False)


def test_bad_input(site: Site):
    """§9 case 11"""
    site.migrate(b"no JSON", event(svgTemplate=None), event(issuedDate="soon"), event())
    assert site.events(FAILED)[0]["rawEvent"] == "no JSON"
    assert site.reasons[1:] == [
        "Mandatory parameter edata.svgTemplate is missing.",
        "issued date is not in valid format",
    ]
    assert site.counted(success=1, failed=3)


@pytest.mark.parametrize("missing", [{"userId": " "}, {"related": {"batchId": BATCH}}, {"data": []}])
def test_what_a_migration_needs(site: Site, missing: dict[str, Any]):
    """spec §2"""
    assert site.migrate(event(**missing)).counted(failed=1)
    assert site.state == (None, False)


def test_without_a_failed_topic_dead_letters_are_counted(site: Site, caplog: pytest.LogCaptureFixture):
    """spec §5"""
    del site.settings["kafka.output.failed.topic"]
    assert site.migrate(event(svgTemplate=None), event(userId="learner-2"), event()).counted(success=1, failed=2)
    assert FAILED not in site.written
    assert "edata.svgTemplate" in caplog.text
    assert "no enrolment" in caplog.text


def test_elasticsearch_away(site: Site):
    """spec §6: the repetition goes on where it was."""
    site.documents.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.migrate(event())
    assert site.state == ("enrolment_updated", True)
    site.documents.unavailable = False
    assert site.migrate(event()).counted(success=1)
    assert len(site.creates) == 1
    assert site.is_migrated(*site.services.credentials)


def test_a_create_whose_outcome_is_unknown_is_looked_for(site: Site):
    site.web.hang(1, f"{RC}/{ENTITY}")
    assert site.migrate(event()).counted(success=1)
    assert len(site.services.credentials) == 1


def test_killed_between_any_two_steps_and_sent_again():
    """At whatever step the worker dies, the same event completes the migration, with one record."""
    payload = orjson.dumps(event())
    for die_at in range(1, 40):
        site = Site()
        death = Death(die_at).among(site.tables, site.documents).behind(site.http)
        try:
            outputs = site.step().handle([payload])
        except Died:
            death.is_over()
            outputs = site.step().handle([payload])
            assert [output for output in outputs if output.tag == FAILED_TAG] == []
            assert site.state == ("revoked", True), f"died at step {die_at}"
            assert len(site.services.credentials) == 1, f"died at step {die_at}"
            assert site.is_migrated(*site.services.credentials), f"died at step {die_at}"
            continue
        assert outputs
        assert die_at > 10, "all steps were tried"
        return
    raise AssertionError("the migration never came to its end")
