"""The acceptance cases of collection-cert-pre-processor §9, and its failures of §6, on DirectRunner."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from io_connectors.memory import MemoryRedis
from io_connectors.services import ContentService, UserService
from io_connectors.threads import Threads
from pipelines import collection_cert_pre_processor as job
from tests.pipelines.certificate_site import (
    BATCH,
    CERTIFICATE,
    COURSE,
    NOW,
    SERVICES,
    USER,
    CertificateSite,
    dumps,
)
from transforms.check_certificates import CheckStores

GENERATE, FAILED = "dev.generate.certificate.request", "dev.issue.certificate.failed"
ISSUER = {"name": "State Council", "url": "https://scert.example.in/"}
SIGNATORIES = [{"id": "DIR", "name": "R. Iyer", "designation": "Director", "image": "https://x/sig.png"}]
FINISHED = datetime(2024, 6, 12, 22, 10)


def template(criteria: Any = None, **members: Any) -> dict[str, Any]:
    return {
        "identifier": "do_tpl",
        "name": CERTIFICATE,
        "url": "CLOUD_BASE_PATH/content/t1/a.svg",
        "criteria": {"enrollment": {"status": 2}} if criteria is None else criteria,
        "issuer": ISSUER,
        "signatoryList": SIGNATORIES,
        **members,
    }


def event(*users: Any, **edata: Any) -> dict[str, Any]:
    body = {"userIds": list(users or (USER,)), "action": "issue-certificate", "batchId": BATCH, "courseId": COURSE}
    return {"eid": "BE_JOB_REQUEST", "edata": {**body, **edata}}


class Site(CertificateSite):
    """With one learner who finished, and one template."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "cert_domain_url": "https://dev.example.org",
            "cloud_storage_base_url": "https://obj.dev.example.org",
            "content_cloud_storage_container": "contents",
            "service.content.basePath": SERVICES,
            "service.learner.basePath": SERVICES,
        }
        self.services.users[USER] = {"firstName": "Meera", "lastName": "Nair", "rootOrgId": "A"}
        self.services.contents[COURSE] = {"name": "Foundations of Numeracy"}
        self.enrol(completedon=FINISHED)
        self.offer(t1=template())

    @property
    def stores(self) -> CheckStores:
        return CheckStores(
            tables=self.cassandra,
            content_cache=MemoryRedis(self.name, 5),
            collection_cache=MemoryRedis(self.name, 0),
            contents=ContentService(SERVICES, "/content/v3/read", self.http),
            users=UserService(SERVICES, "/private/user/v1/read", self.http),
            calls=self.calls,
        )

    def check(self, *values: Any, **options: Any) -> Site:
        settings = job.Settings(**self.settings)
        self.run(job, settings, self.stores, *values, clock=lambda: NOW, **options)
        return self

    @property
    def generated(self) -> list[dict[str, Any]]:
        return self.events(GENERATE)

    @property
    def reasons(self) -> list[str]:
        return [letter["failInfo"]["error"] for letter in self.events(FAILED)]

    def counted(self, **expected: int) -> bool:
        """Whether these are all the outcomes that were counted (names with ``_`` for ``-``)."""
        outcomes = ("success-events-count", "skipped-event-count", "failed-events-count")
        found = {name: self.counts.get(name, 0) for name in outcomes}
        return found == {
            "success-events-count": expected.get("success", 0),
            "skipped-event-count": expected.get("skipped", 0),
            "failed-events-count": expected.get("failed", 0),
        }


@pytest.fixture
def site() -> Site:
    return Site()


def test_straight_issue(site: Site):
    """§9 case 1"""
    (generated,) = site.check(event()).generated
    mid = generated.pop("mid")
    assert re.fullmatch(r"LMS\.[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", mid)
    assert generated == {
        "actor": {"id": "Certificate Generator", "type": "System"},
        "eid": "BE_JOB_REQUEST",
        "edata": {
            "issuedDate": "2024-06-12",
            "data": [{"recipientName": "Meera Nair", "recipientId": USER}],
            "criteria": {"narrative": CERTIFICATE},
            "svgTemplate": "https://obj.dev.example.org/contents/content/t1/a.svg",
            "oldId": "",
            "templateId": "do_tpl",
            "userId": USER,
            "orgId": "A",
            "issuer": ISSUER,
            "signatoryList": SIGNATORIES,
            "courseName": "Foundations of Numeracy",
            "basePath": "https://dev.example.org/certs",
            "related": {"batchId": BATCH, "courseId": COURSE, "type": CERTIFICATE},
            "name": CERTIFICATE,
            "tag": BATCH,
        },
        "ets": NOW,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
        "object": {"id": USER, "type": "GenerateCertificate"},
    }
    assert site.counts == {"total-events-count": 1, "success-events-count": 1, "db-read-count": 1}
    paths = [call.path for call in site.web.calls]
    assert f"/private/user/v1/read/{USER}?organisations,roles,locations,declarations,externalIds" in paths
    assert f"/content/v3/read/{COURSE}?fields=name" in paths


def test_the_course_name_of_redis_needs_no_call(site: Site):
    site.courses.set({COURSE: dumps({"identifier": COURSE, "name": 'Intro\\tto \\"X\\"\n'})})
    (generated,) = site.check(event()).generated
    assert generated["edata"]["courseName"] == 'Introto "X"'
    assert site.counts["cache-hit-cout"] == 1
    assert site.web.count("/content") == 0


@pytest.mark.parametrize("stored", ["", "{", "[]", "{}", '{"name":""}', '{"name":7}'])
def test_a_course_that_redis_does_not_name_is_asked_for(site: Site, stored: str):
    site.courses.set({COURSE: stored})
    (generated,) = site.check(event()).generated
    assert generated["edata"]["courseName"] == "Foundations of Numeracy"


def test_already_issued(site: Site):
    """§9 case 2"""
    site.enrol(
        completedon=FINISHED, issued_certificates=[{"name": "course completion CERTIFICATE", "identifier": "1-a"}]
    )
    assert site.check(event()).generated == []
    assert site.counted(skipped=1)
    for again in (True, "true", "True"):
        (generated,) = site.check(event(reIssue=again)).generated
        assert generated["edata"]["oldId"] == "1-a"


def test_an_old_certificate_without_identifier(site: Site):
    site.enrol(completedon=FINISHED, issued_certificates=[{"name": CERTIFICATE}])
    (generated,) = site.check(event(reIssue=True)).generated
    assert generated["edata"]["oldId"] == ""


SCORED = {"assessment": {"score": {">=": 60}}}


@pytest.mark.parametrize(("points", "eligible"), [(8.0, True), (5.0, False)])
def test_score(site: Site, points: float, eligible: bool):
    """§9 case 3"""
    site.offer(t1=template(SCORED))
    site.score(aggregates={"score:A": points, "max_score:A": 10.0, "score:B": 10.0, "max_score:B": 10.0})
    site.contents.set({"A": dumps({"contentType": "SelfAssess"}), "B": dumps({"Content_Type": "Resource"})})
    assert len(site.check(event()).generated) == eligible
    assert site.counted(success=eligible, skipped=not eligible)
    assert site.counts["db-read-count"] == 2
    assert site.counts["cache-hit-cout"] == 2


def test_the_newer_aggregates_win(site: Site):
    """§9 case 4"""
    site.offer(t1=template({"assessment": {"score": 90}}))
    site.score(agg={"score:A": 2, "max_score:A": 10}, aggregates={"score:A": 9.0})
    site.contents.set({"A": dumps({"contentType": "SelfAssess"})})
    assert site.check(event()).counted(success=1)


def test_metadata_only_in_the_api(site: Site):
    """§9 case 5"""
    site.offer(t1=template(SCORED))
    site.score(aggregates={"score:A": 1.0})
    site.services.contents["A"] = {"contentType": "SelfAssess"}
    assert site.check(event()).counted(success=1)
    assert site.web.count("/content/v3/read/A") == 1


@pytest.mark.parametrize("tolerant", [True, False])
@pytest.mark.parametrize("answer", [(404, "{}"), (200, "<html>"), (200, ""), (500, "{}"), (200, '{"result":[]}')])
def test_metadata_nowhere(site: Site, tolerant: bool, answer: tuple[int, str]):
    """§9 case 5"""
    site.offer(t1=template(SCORED))
    site.score(aggregates={"score:A": 1.0})
    site.settings["enable.suppress.exception"] = tolerant
    services = site.web.handler
    assert services is not None
    site.http.serve(lambda *call: answer if call[1].startswith("/content") else services(*call))
    site.check(event())
    if tolerant:
        assert site.counted(skipped=1)
    else:
        assert site.counted(failed=1)
        assert site.reasons == [f"user {USER} template do_tpl: Metadata not available in cache or API A"]


def test_metadata_of_redis_without_a_type_is_taken_as_it_is(site: Site):
    site.offer(t1=template(SCORED))
    site.score(aggregates={"score:A": 1.0})
    site.contents.set({"A": dumps({"identifier": "A"})})
    site.services.contents["A"] = {"contentType": "SelfAssess"}
    assert site.check(event()).counted(skipped=1)
    assert site.web.count("/content/v3/read/A") == 0


def test_no_score_row_is_a_score_of_nothing(site: Site):
    """§9 case 6"""
    site.offer(t1=template({"assessment": {"score": {"<": 40}}}))
    assert site.check(event()).counted(success=1)


@pytest.mark.parametrize("org", ["A", "B"])
@pytest.mark.parametrize("members", ["user", "users"])
def test_user_criteria(site: Site, members: str, org: str):
    """§9 case 7"""
    site.offer(t1=template({members: {"rootOrgId": org}}))
    assert site.check(event()).counted(success=org == "A", skipped=org == "B")


def test_a_blocked_user(site: Site):
    """§9 case 8"""
    site.services.users["learner-2"] = "blocked"
    site.enrol("learner-2")
    assert site.check(event("learner-2"), event()).counted(success=1, skipped=1)
    assert site.reasons == []


@pytest.mark.parametrize("last", [None, "", "NULL"])
def test_names(site: Site, last: str | None):
    """§9 case 9"""
    site.services.users[USER] = {"firstName": "Meera", "lastName": last}
    (generated,) = site.check(event()).generated
    assert generated["edata"]["data"][0]["recipientName"] == "Meera"
    assert generated["edata"]["orgId"] == ""


def test_additional_props(site: Site):
    """§9 case 10"""
    wanted = {
        "location": ["state", "block"],
        "enrollment": ["completedOn"],
        "assessment": ["score"],
        "user": ["rootOrgId"],
        "course": ["name"],
    }
    site.offer(t1=template(SCORED, additionalProps=wanted))
    site.score(aggregates={"score:A": 1.0})
    site.contents.set({"A": dumps({"contentType": "SelfAssess"})})
    site.services.users[USER] = {"rootOrgId": "A", "userLocations": [{"type": "state", "name": "S"}]}
    (generated,) = site.check(event()).generated
    assert generated["edata"]["related"] == {
        "batchId": BATCH,
        "courseId": COURSE,
        "type": CERTIFICATE,
        "location": {"state": "S"},
        "enrollment": {"completedOn": round(FINISHED.replace(tzinfo=UTC).timestamp() * 1000)},
        "assessment": {"score": {"A": 100.0}},
        "rootOrgId": "A",
        "course": {"name": "Foundations of Numeracy"},
    }


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"criteria": ""}, f"Invalid template for batch : {BATCH}"),
        ({"criteria": "{}"}, f"Invalid template for batch : {BATCH}"),
        ({"criteria": {"assessment": {"score": [1]}}}, f"Invalid template for batch : {BATCH}"),
        ({"criteria": "{not json"}, f"Invalid template for batch : {BATCH}"),
        ({"criteria": "[]"}, f"Invalid template for batch : {BATCH}"),
        ({"issuer": []}, "issuer of the template is no JSON object"),
        ({"signatoryList": {}}, "signatoryList of the template is no JSON array"),
        ({"additionalProps": "x"}, "additionalProps of the template is not JSON"),
    ],
)
def test_two_templates_one_broken(site: Site, broken: dict[str, Any], reason: str):
    """§9 case 11"""
    site.offer(good=template(), bad=template(**{"identifier": "do_bad", **broken}))
    asked = event()
    site.check(asked)
    assert [found["edata"]["templateId"] for found in site.generated] == ["do_tpl"]
    assert site.events(FAILED) == [
        {**asked, "jobName": job.NAME, "failInfo": {"error": f"user {USER} template do_bad: {reason}"}}
    ]
    assert site.counted(success=1, failed=1)


def test_a_broken_template_and_a_whole_batch_of_learners(site: Site):
    """spec §6: the dead letter lists the reasons, and is no larger than Kafka takes."""
    site.offer(bad=template("[]"), worse=template("{not json", identifier="do_worse"))
    learners = [f"learner-{'x' * 100}-{number}" for number in range(12_000)]
    asked = event(*learners)
    site.check(asked)
    (letter,) = site.events(FAILED)
    assert letter["edata"] == asked["edata"]
    assert letter["failInfo"]["error"].startswith(f"user {learners[0]} template ")
    assert len(dumps(letter)) < 1_572_864
    assert site.counted(failed=1)


def test_three_users_one_without_enrolment(site: Site):
    """§9 case 12"""
    site.enrol("learner-3")
    site.services.users["learner-3"] = {"firstName": "Asha"}
    site.check(event(USER, "learner-2", 7, None, "", "learner-3", USER))
    assert [found["edata"]["userId"] for found in site.generated] == [USER, "learner-3"]
    assert site.counted(success=2, skipped=1)


@pytest.mark.parametrize("templates", [None, {}, {"t1": template(url="x.png")}, {"t1": {"name": "x"}}])
def test_no_usable_template(site: Site, templates: dict[str, Any] | None):
    """§9 case 13"""
    where = {"courseid": COURSE, "batchid": BATCH}
    site.put("sunbird_courses.course_batch", where, {"cert_templates": None})
    if templates is not None:
        site.offer(**templates)
    assert site.check(event()).counted(skipped=1)
    assert site.web.calls == []


def test_an_unknown_batch(site: Site):
    """§9 case 13"""
    assert site.check(event(batchId="other")).counted(skipped=1)


def test_bad_input(site: Site):
    """§9 case 14"""
    site.check(b'{"edata":', b"[]", event(action="x"), event(userIds=[]), event(batchId=7), None, event())
    assert [letter["rawEvent"] for letter in site.events(FAILED)] == ['{"edata":', "[]", ""]
    assert site.counted(success=1, skipped=3, failed=3)
    assert site.counts["total-events-count"] == 7


@pytest.mark.parametrize("edata", [{"userIds": USER}, {"userIds": None}, {"courseId": " "}, {"action": None}])
def test_what_is_no_request_is_skipped(site: Site, edata: dict[str, Any]):
    assert site.check(event(**edata)).counted(skipped=1)


@pytest.mark.parametrize("row", [{"active": False}, {"active": None}, {"status": 1}, {"status": None}])
def test_enrolments_that_are_not_eligible(site: Site, row: dict[str, Any]):
    site.enrol(**row)
    assert site.check(event()).counted(skipped=1)
    assert site.web.calls == []


def test_without_a_date_of_completion_it_is_issued_today(site: Site):
    """§8.2"""
    site.enrol(completedon=None)
    (generated,) = site.check(event()).generated
    assert generated["edata"]["issuedDate"] == "2024-06-12"
    assert datetime.fromtimestamp(NOW / 1000, UTC).date().isoformat() == "2024-06-12"


@pytest.mark.parametrize("path", ["/private/user", "/content"])
@pytest.mark.parametrize("answer", [(404, "{}"), (401, ""), (500, "<html>"), (200, "<html>"), (200, "")])
def test_a_final_answer_of_a_service_is_a_dead_letter(site: Site, path: str, answer: tuple[int, str]):
    services = site.web.handler
    assert services is not None
    site.http.serve(lambda *call: answer if call[1].startswith(path) else services(*call))
    site.check(event())
    assert site.counted(failed=1)
    assert site.reasons[0].startswith(f"user {USER} template do_tpl: ")
    assert site.web.count(path) == 1


@pytest.mark.parametrize("body", ["{}", '{"result":{}}', '{"result":{"response":null}}', '{"result":{"response":{}}}'])
def test_a_user_that_the_service_does_not_know_is_not_eligible(site: Site, body: str):
    services = site.web.handler
    assert services is not None
    site.http.serve(lambda *call: (200, body) if call[1].startswith("/private/user") else services(*call))
    assert site.check(event()).counted(skipped=1)


@pytest.mark.parametrize("path", ["/private/user", f"/content/v3/read/{COURSE}"])
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_service_that_says_later_fails_the_bundle_and_loses_nothing(site: Site, path: str, status: int):
    services = site.web.handler
    assert services is not None
    site.http.serve(lambda *call: (status, "") if call[1].startswith(path) else services(*call))
    with pytest.raises(Exception, match=rf"{status}|services"):
        site.check(event())
    assert site.events(FAILED) == []
    assert site.web.count(path) % 3 == 0  # each of Beam's tries of the bundle makes three
    site.http.serve(services)
    assert site.check(event()).counted(success=1)


@pytest.mark.parametrize("times", [1, 2])
def test_a_short_outage_is_waited_for(site: Site, times: int):
    site.web.refuse(times, "/private/user")
    assert site.check(event()).counted(success=1)


def test_a_learner_is_asked_for_once_for_all_templates(site: Site):
    site.offer(t1=template(), t2=template(name="Merit"), t3=template(SCORED))
    assert site.check(event()).counted(success=2, skipped=1)
    assert site.web.count("/private/user") == 1


def test_learners_are_waited_for_side_by_side_but_not_more_than_agreed(site: Site):
    learners = [f"learner-{number}" for number in range(2, 40)]
    for learner in learners:
        site.enrol(learner)
        site.services.users[learner] = {"firstName": "Asha"}
    stores = replace(site.stores, calls=Threads(f"{site.name}-4", 4))
    services = site.web.handler
    assert services is not None

    def slow(*call: Any) -> tuple[int, str | bytes]:
        # until all of the others that may come have come, and then some
        for _ in range(1_000):
            if site.web.in_flight >= 4:
                break
            time.sleep(0.001)
        return services(*call)

    site.http.serve(slow)
    site.run(job, job.Settings(**site.settings), stores, event(*learners), clock=lambda: NOW)
    assert len(site.generated) == len(learners)
    assert site.web.most_in_flight == 4


def test_no_personal_data_in_the_log(site: Site, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("DEBUG"):
        site.check(event())
    text = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("apache_beam"))
    assert "Meera" not in text
    assert "Nair" not in text
