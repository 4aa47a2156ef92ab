"""The acceptance cases of collection-certificate-generator §9, and its failures of §6, on DirectRunner."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
import zxingcpp
from lxml import etree
from PIL import Image

from io_connectors.memory_documents import MemoryElasticsearch
from io_connectors.memory_objects import MemoryObjectStore
from io_connectors.services import CertificateRegistryService, SigningService, TemplateStore, UserService
from io_connectors.sunbird_rc import SunbirdRC
from pipelines import collection_certificate_generator as job
from pipelines.clock import any_character, new_uuid
from pipelines.stores import cloud_paths
from tests.pipelines.certificate_site import (
    BATCH,
    BATCHES,
    CERTIFICATE,
    COURSE,
    NOW,
    SERVICES,
    USER,
    CertificateSite,
    Death,
    Died,
    dumps,
)
from transforms.certificate.credential import unwanted_texts
from transforms.dead_letter import FAILED as FAILED_TAG
from transforms.issue_certificates import IssueCertificates, IssueStores, Work
from transforms.issuers import BadgeIssuer, CredentialIssuer
from transforms.stores import StoreUnavailable
from transforms.tell_learners import TellStores

AUDIT, FAILED = "dev.telemetry.raw", "dev.generate.certificate.failed"
RC = "/registry-service/api/v1"
ENTITY = "TrainingCertificate"
REGISTRY = "sunbird.cert_registry"
ISSUER = {"name": "State Council", "url": "https://scert.example.in/"}
SIGNATORIES = [{"id": "DIR", "name": "R. Iyer", "designation": "Director", "image": "https://x/sig.png"}]
NOTIFY = {"subject": "Completion certificate", "stateImgUrl": "CLOUD_BASE_PATH/orgemail/a.png"}
TEMPLATE = f"{SERVICES}/templates/blue.svg"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="100%"
 font-family="'Noto Sans'"><text>${recipientName}</text><text>${courseName}</text><text>${unknown}</text>
<text>${a:-b}</text><text>${issuedDate}</text><image href="${qrCodeImage}"/></svg>"""


def event(**edata: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "userId": USER,
        "data": [{"recipientName": "Meera Nair", "recipientId": USER}],
        "name": CERTIFICATE,
        "courseName": "Foundations of Numeracy",
        "issuedDate": "2024-06-12",
        "templateId": "t1",
        "svgTemplate": TEMPLATE,
        "issuer": ISSUER,
        "signatoryList": SIGNATORIES,
        "criteria": {"narrative": CERTIFICATE},
        "basePath": "https://dev.example.org/certs",
        "oldId": "",
        "orgId": "A",
        "tag": "0140555",
        "related": {"batchId": BATCH, "courseId": COURSE, "type": CERTIFICATE},
    }
    edata = {**body, **edata}
    return {"eid": "BE_JOB_REQUEST", "edata": {name: value for name, value in edata.items() if value is not None}}


class Site(CertificateSite):
    """With one learner who finished."""

    def __init__(self, with_rc: bool = True) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "enable.rc.certificate": with_rc,
            "service.rc.basePath": SERVICES + RC,
            "service.certreg.basePath": SERVICES,
            "cert_domain_url": "https://dev.example.org",
            "cert_cloud_storage_type": "local",
            "cert_container_name": "certificates",
            "cloud_storage_base_url": "https://obj.dev.example.org",
            "content_cloud_storage_container": "contents",
            "sunbird_instance_name": "Diksha",
        }
        self.documents = MemoryElasticsearch(self.name).open()
        self.objects = MemoryObjectStore(self.name, "certificates").open()
        self.services.users[USER] = {"firstName": "Meera", "maskedPhone": "98******10"}
        self.services.templates["blue"] = SVG
        self.enrol(completedon=datetime(2024, 6, 12, 22, 10))
        self.offer(t1={"name": CERTIFICATE, "notifyTemplate": NOTIFY})

    def stores(self) -> job.Stores:
        settings = job.Settings(**self.settings)
        paths = cloud_paths(settings)
        rc = CredentialIssuer(
            credentials=SunbirdRC(SERVICES + RC, ENTITY, "stub-rc-key", self.http),
            entity=ENTITY,
            paths=paths,
            unwanted=unwanted_texts(settings.unwanted),
            search_first=settings.rc_search_first,
            tables=self.cassandra,
            registry_table=REGISTRY,
            documents=MemoryElasticsearch(self.name),
        )
        badges = BadgeIssuer(
            base="https://dev.example.org/certs",
            paths=paths,
            templates=TemplateStore(self.http),
            signing=SigningService(SERVICES, self.http),
            objects=MemoryObjectStore(self.name, "certificates"),
            registry=CertificateRegistryService(SERVICES, self.http),
            choose=any_character,
        )
        return job.Stores(
            issue=IssueStores(self.cassandra, "sunbird_courses.user_enrolments", rc, self.calls)
            if settings.with_rc
            else IssueStores(self.cassandra, "sunbird_courses.user_enrolments", badges, self.calls),
            tell=TellStores(
                self.cassandra, BATCHES, UserService(SERVICES, "/private/user/v1/read", self.http), self.calls
            ),
        )

    def issue(self, *values: Any, **options: Any) -> Site:
        self.run(job, job.Settings(**self.settings), self.stores(), *values, clock=lambda: NOW, **options)
        return self

    def answer(self, path: str, status: int, body: str = "", method: str = "") -> None:
        """Let a service answer so from now on."""
        before = self.web.handler
        assert before is not None

        def handler(*call: Any) -> tuple[int, str | bytes]:
            fits = call[1].startswith(path) and method in ("", call[0])
            return (status, body) if fits else before(*call)

        self.http.serve(handler)

    @property
    def reasons(self) -> list[str]:
        return [letter["failInfo"]["error"] for letter in self.events(FAILED)]

    def bodies(self, path: str, method: str = "POST") -> list[Any]:
        calls = (call for call in self.web.calls if call.path == path and call.method == method)
        return [orjson.loads(call.body) for call in calls]

    def counted(self, **expected: int) -> bool:
        outcomes = {
            "success": "success-events-count",
            "skipped": "skipped-event-count",
            "failed": "failed-events-count",
        }
        found = {name: self.counts.get(counter, 0) for name, counter in outcomes.items()}
        return found == {**dict.fromkeys(outcomes, 0), **expected}

    def documents_stored(self) -> list[dict[str, Any]]:
        return [orjson.loads(found.content) for found in self.objects.objects().values()]


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def legacy() -> Site:
    return Site(with_rc=False)


# --- Sunbird RC


def test_first_issue(site: Site):
    """§9 case 1"""
    site.services.public_keys = ["1-k"]
    site.issue(event(svgTemplate="CLOUD_BASE_PATH/blue.svg"))
    (osid,) = site.services.credentials
    assert site.issued() == [
        {
            "name": CERTIFICATE,
            "identifier": osid,
            "token": "",
            "lastIssuedOn": "2024-06-12T08:00:06.001+0000",
            "templateUrl": "CLOUD_BASE_PATH/blue.svg",
            "type": ENTITY,
        }
    ]
    assert site.bodies(f"{RC}/{ENTITY}") == [
        {
            "certificateLabel": CERTIFICATE,
            "status": "ACTIVE",
            "templateUrl": "https://obj.dev.example.org/contents/blue.svg",
            "training": {"id": COURSE, "name": "Foundations of Numeracy", "type": "Course", "batchId": BATCH},
            "recipient": {"id": USER, "name": "Meera Nair"},
            "issuer": {**ISSUER, "kid": "1-k"},
            "signatory": SIGNATORIES,
        }
    ]
    (audit,) = site.events(AUDIT)
    assert audit["object"] == {"id": osid, "type": "Certificate", "rollup": {"l1": COURSE}}
    assert audit["edata"] == {"props": ["certificates"], "type": "certificate-issued-svg"}
    assert audit["context"]["cdata"] == [{"type": "CourseBatch", "id": BATCH}]
    mail = {
        "subject": "Completion certificate",
        "stateImgUrl": "https://obj.dev.example.org/contents/orgemail/a.png",
        "firstName": "Meera",
        "TrainingName": "Foundations of Numeracy",
        "heldDate": "2024-06-12",
        "recipientUserIds": [USER],
        "body": "email body",
    }
    text = (
        "Congratulations! Download your course certificate from your profile page. If you have a problem "
        "downloading it on the mobile, update your Diksha app"
    )
    assert site.services.notifications == [mail, {**mail, "mode": "sms", "body": text}]
    (feed,) = site.services.feeds
    assert feed["userId"] == USER
    assert feed["data"]["actionData"]["identifier"] == COURSE
    assert site.counts == {
        "total-events-count": 1,
        "success-events-count": 1,
        "enrollment-db-read-count": 2,
        "db-update-user-enrollment-count": 1,
        "db-course-batch-read-count": 1,
        "notified-user-count": 1,
        "user-feed-count": 1,
    }


def test_a_reissue_keeps_the_others(site: Site):
    """§9 case 2"""
    merit = {"name": "Merit", "identifier": "1-m", "token": ""}
    site.issue(event())
    (old,) = site.services.credentials
    site.enrol(issued_certificates=[{"name": "course completion certificate", "identifier": old}, merit])
    site.web.clear()
    site.issue(event(oldId=old))
    (new,) = site.services.credentials
    assert new != old
    assert [entry["identifier"] for entry in site.issued()] == ["1-m", new]
    assert site.bodies(f"{RC}/{ENTITY}")[0]["oldId"] == old
    writes = [(call.method, call.path) for call in site.web.calls if call.path.startswith(f"{RC}/{ENTITY}")]
    assert writes == [("POST", f"{RC}/{ENTITY}"), ("DELETE", f"{RC}/{ENTITY}/{old}")]


def old_legacy_certificate(site: Site) -> None:
    site.put(REGISTRY, {"id": "old"}, {"recipient": "{}"})
    site.documents.index("certs", {"old": {"id": "old"}})
    site.enrol(issued_certificates=[{"name": CERTIFICATE, "identifier": "old"}])


@pytest.mark.parametrize("status", [404, 500, 400])
def test_the_old_one_is_a_legacy_certificate(site: Site, status: int):
    """§9 case 3"""
    old_legacy_certificate(site)
    site.answer(f"{RC}/{ENTITY}/old", status)
    site.issue(event(oldId="old"))
    assert site.tables.rows(REGISTRY) == []
    assert site.documents.get("certs", ["old"]) == [None]
    assert [entry["identifier"] for entry in site.issued()] == list(site.services.credentials)
    assert site.counted(success=1)


def test_an_old_certificate_that_can_not_be_revoked(site: Site):
    """spec §3.7, §6"""
    old_legacy_certificate(site)
    site.documents.unavailable = True
    asked = event(oldId="old")
    site.issue(asked)
    assert site.reasons == ["old certificate old could not be revoked"]
    assert site.tables.rows(REGISTRY) == [], "both are tried"
    assert site.counted(success=1, failed=1)
    assert len(site.events(AUDIT)) == 1
    site.documents.unavailable = False
    (letter,) = site.events(FAILED)
    assert site.issue(letter).counted(skipped=1)
    assert site.documents.get("certs", ["old"]) == [None]
    assert len(site.services.credentials) == 1


def test_rc_away_while_revoking(site: Site):
    site.issue(event())
    (old,) = site.services.credentials
    site.answer(f"{RC}/{ENTITY}/{old}", 503, method="DELETE")
    site.issue(event(oldId=old))
    assert site.reasons == [f"old certificate {old} could not be revoked"]
    assert site.counted(success=1, failed=1)


def test_already_issued_and_not_enrolled(site: Site):
    """§9 case 4"""
    site.enrol(issued_certificates=[{"name": CERTIFICATE.upper(), "identifier": "1-a"}])
    before = site.enrolment()
    site.issue(event(), event(data=[{"recipientName": "Asha", "recipientId": "learner-2"}]))
    assert site.counted(skipped=2)
    assert site.web.calls == []
    assert site.enrolment() == before
    assert site.enrolment("learner-2") is None


@pytest.mark.parametrize(
    "edata",
    [{"related": {}}, {"related": None}, {"userId": "", "data": [{"recipientName": "x"}]}],
)
def test_without_the_ids_of_an_enrolment_there_is_none(site: Site, edata: dict[str, Any]):
    """spec §2"""
    site.issue(event(**edata), event(**edata))
    assert site.counted(skipped=2)
    assert site.web.calls == []


def test_the_same_reissue_twice(site: Site):
    """§9 case 5"""
    site.issue(event())
    (old,) = site.services.credentials
    site.web.clear()
    site.issue(event(oldId=old), event(oldId=old))
    assert site.counted(success=1, skipped=1)
    assert site.web.count(f"{RC}/{ENTITY}", "POST") == 1
    assert site.web.count(f"{RC}/{ENTITY}/{old}", "DELETE") == 2
    assert len(site.services.credentials) == 1


def test_validation(site: Site):
    """§9 case 6"""
    gaps = [{"name": "", "id": "", "designation": "", "image": ""}]
    asked = [event(svgTemplate=None), event(tag="a-b"), event(signatoryList=gaps)]
    site.issue(*asked)
    assert site.reasons == [
        "Mandatory parameter edata.svgTemplate is missing.",
        "Invalid value a-b for parameter tag.",
    ]
    assert site.counted(success=1, failed=2)
    site.enrol(issued_certificates=None)
    site.settings["enable.suppress.exception"] = False
    site.issue(event(signatoryList=gaps), event())
    assert site.reasons == ["Mandatory parameter edata.signatoryList.name is missing."]
    assert site.counted(success=1, failed=1)


def test_rc_refuses(site: Site):
    """§9 case 7"""
    site.issue(event())
    (old,) = site.services.credentials
    before = site.enrolment()
    site.answer(f"{RC}/{ENTITY}", 400, method="POST")
    asked = event(oldId=old)
    site.issue(asked)
    (letter,) = site.events(FAILED)
    assert {name: letter[name] for name in asked} == asked
    assert letter["jobName"] == job.NAME
    assert site.enrolment() == before
    assert list(site.services.credentials) == [old]
    assert site.counted(failed=1)


def test_characters(site: Site):
    """§9 case 8"""
    site.issue(event(data=[{"recipientName": 'Øyvind "Ý" \\aaa K\0', "recipientId": USER}]))
    assert site.bodies(f"{RC}/{ENTITY}")[0]["recipient"]["name"] == 'yvind ""  K'


@pytest.mark.parametrize("form", ["list", "object"])
def test_both_forms_of_rcs_answers(site: Site, form: str):
    """spec §8.20"""
    site.services.search_form = form
    assert site.issue(event()).counted(success=1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{RC}/PublicKey/search", "[]"),
        (f"{RC}/PublicKey/search", "<html>"),
        (f"{RC}/{ENTITY}", "{}"),
        (f"{RC}/{ENTITY}", '{"result":{"TrainingCertificate":{"osid":""}}}'),
        (f"{RC}/{ENTITY}", "<html>"),
        (f"{RC}/{ENTITY}", ""),
    ],
)
def test_a_success_that_is_none(site: Site, path: str, body: str):
    """spec §8.18"""
    site.answer(path, 200, body)
    assert site.issue(event()).counted(failed=1)
    assert site.issued() == []


@pytest.mark.parametrize("status", [401, 404, 500])
@pytest.mark.parametrize("path", [f"{RC}/PublicKey/search", f"{RC}/{ENTITY}"])
def test_a_final_answer_is_a_dead_letter(site: Site, path: str, status: int):
    site.answer(path, status, method="POST")
    assert site.issue(event()).counted(failed=1)
    assert site.issued() == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_create_that_was_surely_not_done_is_tried_again_in_the_bundle(site: Site, status: int):
    site.answer(f"{RC}/{ENTITY}", status, method="POST")
    with pytest.raises(Exception, match=r"services"):
        site.issue(event())
    assert site.web.count(f"{RC}/{ENTITY}", "POST") % 3 == 0
    assert site.issued() == []


@pytest.mark.parametrize("processed", [True, False])
def test_a_create_whose_outcome_is_unknown_is_looked_for_and_not_repeated(site: Site, processed: bool):
    """spec §6: found, the work goes on with it; not found, the bundle fails."""
    site.web.hang(1, f"{RC}/{ENTITY}", processed=processed)
    if not processed:
        with pytest.raises(Exception, match="read time-out"):
            site.issue(event())
        assert site.web.count(f"{RC}/{ENTITY}", "POST") == 2, "one create, one search"
    # a runner repeats a bundle that failed
    assert site.issue(event()).counted(success=1)
    assert len(site.services.credentials) == 1
    assert [entry["identifier"] for entry in site.issued()] == list(site.services.credentials)


@pytest.mark.parametrize("status", [502, 504])
def test_an_unknown_outcome_by_status(site: Site, status: int):
    tries = []
    before = site.web.handler
    assert before is not None

    def once(*call: Any) -> tuple[int, str | bytes]:
        answer = before(*call)
        if call[0] == "POST" and call[1] == f"{RC}/{ENTITY}" and not tries:
            tries.append(call)
            return status, ""
        return answer

    site.http.serve(once)
    assert site.issue(event()).counted(success=1)
    assert len(site.services.credentials) == 1
    assert site.web.count(f"{RC}/{ENTITY}", "POST") == 2, "one create, one search"


def test_search_before_create_takes_what_a_crash_left_behind(site: Site):
    """spec §3.11"""
    site.settings["rc.search.before.create"] = True
    site.issue(event())
    (made,) = site.services.credentials
    site.enrol(issued_certificates=None)
    site.issue(event())
    assert list(site.services.credentials) == [made]
    assert [entry["identifier"] for entry in site.issued()] == [made]
    # a re-issue does not take the one that it replaces
    site.issue(event(oldId=made))
    (new,) = site.services.credentials
    assert new != made


def test_a_record_is_found_whose_name_rc_did_not_get_as_it_is(site: Site):
    """spec §3.4 c, §3.11"""
    asked = event(name="Øl \\aaa", data=[{"recipientName": "x", "recipientId": USER}])
    site.web.hang(1, f"{RC}/{ENTITY}", processed=True)
    site.issue(asked)
    (made,) = site.services.credentials
    assert site.services.credentials[made]["certificateLabel"] == "l "
    assert [(entry["name"], entry["identifier"]) for entry in site.issued()] == [("Øl \\aaa", made)]
    site.settings["rc.search.before.create"] = True
    site.enrol(issued_certificates=None)
    assert site.issue(asked).counted(success=1)
    assert list(site.services.credentials) == [made]


def test_an_rc_that_refuses_duplicates(site: Site):
    """A record that a crash left behind is refused as a duplicate, and found when it is looked for."""
    site.services.rc_unique = True
    site.issue(event())
    (made,) = site.services.credentials
    site.enrol(issued_certificates=None)
    assert site.issue(event()).counted(failed=1)
    site.settings["rc.search.before.create"] = True
    assert site.issue(*site.events(FAILED)).counted(success=1)
    assert [entry["identifier"] for entry in site.issued()] == [made]
    site.issue(event(oldId=made))
    assert len(site.services.credentials) == 1, "the one that it replaces is no duplicate"


def test_a_certificate_that_can_not_be_noted_is_taken_back(site: Site):
    """spec §3.6"""
    before = site.web.handler
    assert before is not None

    def then_cassandra_stops(*call: Any) -> tuple[int, str | bytes]:
        answer = before(*call)
        if call[0] == "POST" and call[1] == f"{RC}/{ENTITY}":
            site.tables.fail_next(1)
        return answer

    site.http.serve(then_cassandra_stops)
    with pytest.raises(Exception, match="stays away"):
        site.issue(event())
    assert site.services.credentials == {}
    site.http.serve(before)
    assert site.issue(event()).counted(success=1)
    assert len(site.services.credentials) == 1


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("answers_later", [True, False])
@pytest.mark.parametrize("reissue", [True, False])
def test_a_write_without_an_answer_leaves_no_enrolment_with_a_certificate_that_is_gone(
    site: Site, is_done: bool, answers_later: bool, reissue: bool
):
    """spec §3.6: a certificate is taken back when it was not noted, and not when it perhaps was."""
    asked = event()
    if reissue:
        site.issue(event())
        asked = event(oldId=site.issued()[0]["identifier"])
    write = site.tables.write

    def without_an_answer(batches: Any) -> Any:
        if is_done:
            write(batches)
        site.tables.write = write  # type: ignore[method-assign]
        site.tables.unavailable = not answers_later
        raise StoreUnavailable("no answer")

    site.tables.write = without_an_answer  # type: ignore[method-assign]
    if is_done and answers_later:
        site.issue(asked)
        assert site.counted(success=1)
        assert len(site.events(AUDIT)) == 1
    else:
        with pytest.raises(Exception, match="no answer"):
            site.issue(asked)
    site.tables.unavailable = False
    site.issue(asked)
    (entry,) = site.issued()
    assert entry["identifier"] in site.services.credentials
    assert len(site.services.credentials) == (2 if not is_done and not answers_later else 1)


def test_two_events_at_the_same_time_give_one_certificate(site: Site):
    site.issue(*[event()] * 5)
    assert site.counted(success=1, skipped=4)
    assert len(site.services.credentials) == 1


def test_two_certificates_of_one_enrolment(site: Site):
    """§9 case 14"""
    site.issue(event(), event(name="Merit"))
    assert [entry["name"] for entry in site.issued()] == [CERTIFICATE, "Merit"]


def test_several_recipients_one_of_them_fails(site: Site):
    """spec §6"""
    for learner in ("learner-2", "learner-3"):
        site.enrol(learner)
        site.services.users[learner] = {"firstName": "x"}
    before = site.web.handler
    assert before is not None
    site.http.serve(lambda *call: (400, "") if b"learner-2" in call[3] and call[1].endswith(ENTITY) else before(*call))
    data = [{"recipientName": "x", "recipientId": f"learner-{number}"} for number in (1, 2, 3)]
    site.issue(event(data=data))
    assert site.counted(success=2, failed=1)
    assert site.reasons[0].startswith("recipient learner-2: ")
    assert [bool(site.issued(f"learner-{number}")) for number in (1, 2, 3)] == [True, False, True]


def test_bad_input(site: Site):
    """§9 case 15"""
    site.issue(b"no JSON", None, b"[]", {}, {"edata": []}, event())
    letters = site.events(FAILED)
    assert [letter.get("rawEvent") for letter in letters] == ["no JSON", "", "[]", None, None]
    assert site.counted(success=1, failed=5)


# --- telling the learner


def test_a_blocked_user(site: Site):
    """§9 case 13"""
    site.services.users[USER] = "blocked"
    site.issue(event())
    assert site.services.notifications == []
    assert len(site.services.feeds) == 1
    assert (site.counts["skipped-notify-user-count"], site.counts.get("notified-user-count")) == (1, None)


@pytest.mark.parametrize(
    "templates", [{}, {"t1": {"name": "x"}}, {"t1": {"notifyTemplate": ""}}, {"t1": {"notifyTemplate": "null"}}]
)
def test_no_notify_template(site: Site, templates: dict[str, Any]):
    """§9 case 13"""
    site.put(BATCHES, {"courseid": COURSE, "batchid": BATCH}, {"cert_templates": None})
    site.offer(**templates)
    site.issue(event())
    assert site.counts["skipped-notify-user-count"] == 1
    assert site.counts["user-feed-count"] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda site: site.answer("/v2/notification", 500),
        lambda site: site.answer("/private/user/v1/read", 500),
        lambda site: site.answer("/private/user/feed", 500),
        lambda site: site.web.hang(1, "/private/user/feed"),
        lambda site: site.offer(t1={"notifyTemplate": "{"}),
    ],
)
def test_what_goes_wrong_while_telling_is_counted_and_touches_nothing_else(site: Site, make: Any):
    """§9 case 13"""
    site.services.users[USER] = {"firstName": "Meera"}
    make(site)
    site.issue(event())
    assert site.counted(success=1, failed=1)
    assert len(site.issued()) == 1
    assert site.reasons == []


def test_a_failed_sms_is_counted_and_the_mail_is_sent(site: Site):
    before = site.web.handler
    assert before is not None
    site.http.serve(lambda *call: (500, "") if b'"mode":"sms"' in call[3] else before(*call))
    site.issue(event())
    assert (site.counts["notified-user-count"], site.counts["failed-events-count"]) == (1, 1)


def test_a_user_without_phone_gets_no_sms(site: Site):
    site.services.users[USER] = {"firstName": None, "maskedPhone": " "}
    site.issue(event())
    (mail,) = site.services.notifications
    assert mail["firstName"] == ""


def test_without_a_date_of_completion_it_was_held_today(site: Site):
    site.enrol(completedon=None)
    site.issue(event())
    assert site.services.notifications[0]["heldDate"] == "2024-06-12"


def test_no_personal_data_in_the_log(site: Site, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("DEBUG"):
        site.issue(event(), event(svgTemplate=""))
    text = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("apache_beam"))
    for private in ("Meera", "98******10", "stub-rc-key"):
        assert private not in text


# --- legacy mode


def test_legacy_hosted(legacy: Site):
    """§9 case 9"""
    legacy.issue(event())
    ((key, stored),) = legacy.objects.objects().items()
    document = orjson.loads(stored.content)
    uuid = key.removeprefix("0140555/").removesuffix(".json")
    assert re.fullmatch(r"[0-9a-f-]{36}", uuid)
    assert stored.content_type == "application/json"
    assert document["verification"] == {"type": ["hosted"]}
    assert "signature" not in document
    assert document["badge"]["id"] == "https://dev.example.org/certs/0140555/Badge.json"
    (body,) = legacy.bodies("/certs/v2/registry/add")
    (entry,) = legacy.issued()
    assert body["request"] == {
        "id": uuid,
        "jsonUrl": f"https://dev.example.org/certs/{key}",
        "jsonData": document,
        "accessCode": entry["token"],
        "recipientName": "Meera Nair",
        "recipientId": USER,
        "related": {"batchId": BATCH, "courseId": COURSE, "type": CERTIFICATE},
    }
    assert entry == {
        "name": CERTIFICATE,
        "identifier": uuid,
        "token": entry["token"],
        "lastIssuedOn": "2024-06-12T08:00:06.001+0000",
    }
    assert re.fullmatch(r"([A-HJ-NP-Z][1-9]){3}", entry["token"])
    assert legacy.counted(success=1)
    assert legacy.web.count(RC) == 0


def test_legacy_signed(legacy: Site):
    """§9 case 10"""
    keys = {"id": "12"}
    issuer = {**ISSUER, "publicKey": ["https://x/keys/12_publicKey.json", 7]}
    legacy.issue(event(keys=keys, issuer=issuer))
    (document,) = legacy.documents_stored()
    assert document["badge"]["issuer"]["publicKey"] == [
        "https://x/keys/12_publicKey.json",
        "https://dev.example.org/certs/keys/7_publicKey.json",
    ]
    creator = "https://dev.example.org/certs/keys/12_publicKey.json"
    assert document["verification"] == {"type": ["SignedBadge"], "creator": creator}
    (signed,) = legacy.bodies("/sign/12")
    claim = {name: value for name, value in document.items() if name not in ("printUri", "signature")}
    assert signed == {"entity": claim}
    proof = {"claim": claim, "signatureValue": document["signature"]["signatureValue"], "keyId": 12}
    verified = legacy.services.answer("POST", "/verify", {}, dumps({"entity": proof}).encode())
    assert verified.text == "true"
    legacy.enrol(issued_certificates=None)
    legacy.issue(event(keys={"id": "1"}, issuer=issuer))
    assert legacy.counted(failed=1)
    assert legacy.reasons[0].endswith("public key attribute must contain keys.id value")


def test_legacy_picture(legacy: Site):
    """§9 case 11"""
    legacy.issue(event(courseName="Q&A <1>"))
    (document,) = legacy.documents_stored()
    picture = unquote(document["printUri"].removeprefix("data:image/svg+xml,"))
    svg = etree.fromstring(picture)
    texts = [element.text for element in svg.iter("{*}text")]
    assert texts == ["Meera Nair", "Q&A <1>", "${unknown}", "b", "12 June 2024"]
    (image,) = svg.iter("{*}image")
    png = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
    (code,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(png)))
    (entry,) = legacy.issued()
    assert code.text == f"https://dev.example.org/certs/{entry['identifier']}"
    assert code.ec_level == "H"


def test_legacy_dates(legacy: Site):
    """§9 case 12"""
    legacy.issue(event(issuedDate="2024-01-31", expiry="1m 1y"))
    (document,) = legacy.documents_stored()
    assert (document["issuedOn"], document["expires"]) == ("2024-01-31T00:00:00Z", "2025-02-28T00:00:00Z")
    legacy.enrol(issued_certificates=None)
    assert legacy.issue(event(expiry="3w")).counted(failed=1)
    assert legacy.reasons == ["Given expiry date is invalid3w"]


@pytest.mark.parametrize(
    "svg",
    [
        "",
        "<svg",
        "x" * 5_000_000,
        '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    ],
)
def test_a_template_that_is_not_used(legacy: Site, svg: str):
    legacy.services.templates["blue"] = svg
    assert legacy.issue(event()).counted(failed=1)
    assert legacy.issued() == []
    assert legacy.objects.objects() == {}


@pytest.mark.parametrize("url", ["", "ftp://x/a.svg", "file:///etc/passwd", f"{SERVICES}/templates/none.svg", "blue"])
def test_a_template_that_is_not_there(legacy: Site, url: str):
    assert legacy.issue(event(svgTemplate=url)).counted(failed=1)


def test_a_template_is_fetched_once(legacy: Site):
    for number in range(2, 12):
        legacy.enrol(f"learner-{number}")
        legacy.services.users[f"learner-{number}"] = {"firstName": "x"}
    data = [{"recipientName": "x", "recipientId": f"learner-{number}"} for number in range(2, 12)]
    assert legacy.issue(event(data=data)).counted(success=10)
    assert legacy.web.count("/templates") == 1


def test_a_registry_that_refuses_leaves_no_object_behind(legacy: Site):
    """spec §3.5.7"""
    assert legacy.issue(event(related={"batchId": BATCH, "courseId": COURSE})).counted(failed=1)
    assert legacy.objects.objects() == {}
    assert legacy.issued() == []


def test_legacy_reissue(legacy: Site):
    """spec §3.5.7: the registry removes the old one."""
    legacy.issue(event())
    (old,) = legacy.services.registry
    legacy.issue(event(oldId=old))
    (new,) = legacy.services.registry
    assert new != old
    assert [entry["identifier"] for entry in legacy.issued()] == [new]


@pytest.mark.parametrize("name", ["<b>&\"'", "مرحبا", "x" * 300, "a\x00\x0bb", "${courseName}", "%3Cscript%3E"])
def test_names_of_all_kinds(legacy: Site, name: str):
    legacy.issue(event(data=[{"recipientName": name, "recipientId": USER}]))
    (document,) = legacy.documents_stored()
    svg = etree.fromstring(unquote(document["printUri"].removeprefix("data:image/svg+xml,")))
    assert next(svg.iter("{*}text")).text == re.sub("[\x00\x0b]", "", name)
    assert legacy.counted(success=1)


@pytest.mark.parametrize(
    ("with_rc", "key"),
    [
        (True, "service.rc.basePath"),
        (False, "service.certreg.basePath"),
        (False, "cert_domain_url"),
        (False, "cert_cloud_storage_type"),
        (False, "cert_container_name"),
    ],
)
def test_a_missing_key_of_the_mode_is_named(with_rc: bool, key: str):
    site = Site(with_rc)
    del site.settings[key]
    with pytest.raises(ValueError, match=re.escape(key)):
        job.Settings(**site.settings)


def test_learners_are_waited_for_side_by_side(site: Site):
    learners = [f"learner-{number}" for number in range(2, 30)]
    for learner in learners:
        site.enrol(learner)
    data = [{"recipientName": "x", "recipientId": learner} for learner in learners]
    before = site.web.handler
    assert before is not None

    def slow(*call: Any) -> tuple[int, str | bytes]:
        for _ in range(500):
            if site.web.in_flight >= 8:
                break
            time.sleep(0.001)
        return before(*call)

    site.http.serve(slow)
    site.run(job, job.Settings(**site.settings), site.stores(), event(data=data), clock=lambda: NOW)
    assert site.counted(success=len(learners), failed=len(learners))
    assert site.web.most_in_flight == 8


# --- the worker dies


def step_of(site: Site) -> IssueCertificates:
    """The issuing step by itself, open."""
    step = IssueCertificates(
        job.NAME, site.stores().issue, size=10, suppress_signatories=True, clock=lambda: NOW, new_id=new_uuid
    )
    step.setup()
    return step


def dies_everywhere(prepare: Callable[[], tuple[Site, dict[str, Any]]]) -> Iterator[tuple[Site, str]]:
    """Sites on which the worker died at its first, second, … step, and then handled the same event again."""
    for die_at in range(1, 60):
        site, asked = prepare()
        payload = Work(0, orjson.dumps(asked)).to_bytes()
        death = Death(die_at).among(site.tables, site.documents, site.objects).behind(site.http)
        try:
            step_of(site).handle([payload])
        except Died:
            death.is_over()
            outputs = step_of(site).handle([payload])
            assert [output.value for output in outputs if output.tag == FAILED_TAG] == []
            yield site, f"died at step {die_at}"
        else:
            assert die_at > 5, "all steps were tried"
            return
    raise AssertionError("the event was never handled")


@pytest.mark.parametrize("search_first", [False, True])
def test_killed_while_issuing_and_handled_again(search_first: bool):
    """spec §3.11: one entry; at most one record that nobody refers to, none with rc.search.before.create."""

    def prepare() -> tuple[Site, dict[str, Any]]:
        site = Site()
        site.settings["rc.search.before.create"] = search_first
        site.enrol(issued_certificates=[{"name": "Merit", "identifier": "1-m"}])
        return site, event()

    for site, where in dies_everywhere(prepare):
        merit, entry = site.issued()
        assert (merit["identifier"], entry["name"]) == ("1-m", CERTIFICATE), where
        assert entry["identifier"] in site.services.credentials, where
        assert len(site.services.credentials) <= (1 if search_first else 2), where


@pytest.mark.parametrize("search_first", [False, True])
def test_killed_while_issuing_again_and_handled_again(search_first: bool):
    """The old certificate is gone, the new one is noted, and never is there neither."""

    def prepare() -> tuple[Site, dict[str, Any]]:
        site = Site()
        site.settings["rc.search.before.create"] = search_first
        site.services.credentials["old"] = {"osid": "old", "status": "ACTIVE", "recipient": {"id": USER}}
        site.services.entity_of["old"] = ENTITY
        site.enrol(issued_certificates=[{"name": CERTIFICATE, "identifier": "old"}])
        return site, event(oldId="old")

    for site, where in dies_everywhere(prepare):
        (entry,) = site.issued()
        assert "old" not in site.services.credentials, where
        assert entry["identifier"] in site.services.credentials, where
        assert len(site.services.credentials) <= (1 if search_first else 2), where


def test_killed_while_issuing_a_file_and_handled_again():
    for site, where in dies_everywhere(lambda: (Site(with_rc=False), event())):
        (entry,) = site.issued()
        assert entry["identifier"] in site.services.registry, where
        assert f"0140555/{entry['identifier']}.json" in site.objects.objects(), where
        assert len(site.services.registry) <= 2, where
