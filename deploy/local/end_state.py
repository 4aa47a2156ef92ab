"""What the stores hold of learners and their certificates, held against what a scenario implies."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import obstore
import requests
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from lxml import etree
from obstore.store import S3Store

from deploy.local.demo_certificates import Certification, Offer
from deploy.local.scenario import COMPLETED, Course, EndState, Enrolment

ACCESS_CODE = re.compile(r"([A-HJ-NP-Z][1-9]){3}")
PICTURE = "data:image/svg+xml,"
CALL_SECONDS = 30


@dataclass(slots=True)
class Stored:
    """What the tables hold of an enrolment.

    ``status`` is None without a row, ``completed_on`` in UTC. ``aggregates``: activity -> completed contents.
    ``counted``: content -> (views, completions), of the contents that have any. ``scores``: the course's aggregates but
    for the completed contents. ``attempts``: (content, points of most points) of each attempt at an assessment, sorted.
    """

    status: int | None = None
    progress: int | None = None
    completed_on: datetime | None = None
    content_status: Mapping[str, int] = field(default_factory=dict)
    aggregates: dict[str, int] = field(default_factory=dict)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    attempts: list[tuple[str, str]] = field(default_factory=list)


class Reader:
    """Reads what the tables hold of enrolments; many at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._enrolment = session.prepare(
            "SELECT status, progress, completedon, contentstatus FROM sunbird_courses.user_enrolments "
            "WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        self._aggregates = session.prepare(
            "SELECT aggregates FROM sunbird_courses.user_activity_agg "
            "WHERE activity_type = 'Course' AND activity_id = ? AND user_id = ? AND context_id = ?"
        )
        self._consumption = session.prepare(
            "SELECT contentid, viewcount, completedcount FROM sunbird_courses.user_content_consumption "
            "WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        self._attempts = session.prepare(
            "SELECT content_id, grand_total FROM sunbird_courses.assessment_aggregator "
            "WHERE user_id = ? AND course_id = ? AND batch_id = ?"
        )

    def read(self, courses: Collection[Course], enrolments: Collection[Enrolment]) -> dict[Enrolment, Stored]:
        """What is stored of each enrolment; all of them are of one of the courses."""
        units = {course.id: [course.id, *course.units] for course in courses}
        found = {enrolment: Stored() for enrolment in enrolments}
        for enrolment, rows in zip(found, self._rows(self._enrolment, list(found)), strict=True):
            for row in rows:
                stored = found[enrolment]
                stored.status, stored.progress = row.status or 0, row.progress
                stored.completed_on = row.completedon.replace(tzinfo=UTC) if row.completedon else None
                stored.content_status = dict(row.contentstatus or {})
        for enrolment, rows in zip(found, self._rows(self._consumption, list(found)), strict=True):
            found[enrolment].counted = {
                row.contentid: (row.viewcount or 0, row.completedcount or 0)
                for row in rows
                if row.viewcount or row.completedcount
            }
        activities = [(enrolment, activity) for enrolment in found for activity in units[enrolment.course_id]]
        keys = [(activity, enrolment.user_id, f"cb:{enrolment.batch_id}") for enrolment, activity in activities]
        for (enrolment, activity), rows in zip(activities, self._rows(self._aggregates, keys), strict=True):
            for row in rows:
                aggregates = dict(row.aggregates or {})
                if "completedCount" in aggregates:
                    found[enrolment].aggregates[activity] = int(aggregates.pop("completedCount"))
                if activity == enrolment.course_id:
                    found[enrolment].scores = aggregates
        for enrolment, rows in zip(found, self._rows(self._attempts, list(found)), strict=True):
            found[enrolment].attempts = sorted((row.content_id, row.grand_total) for row in rows)
        return found

    def _rows(self, statement: Any, keys: Sequence[tuple[str, ...]]) -> list[Any]:
        results = execute_concurrent_with_args(self._session, statement, keys, concurrency=64)
        return [result.result_or_exc.all() for result in results]


def differences(enrolment: Enrolment, wanted: EndState, stored: Stored) -> list[str]:
    """What is not as it should be, a line for each; empty when all of it is right."""
    found: list[str] = []

    def check(what: str, is_: object, should_be: object) -> None:
        if is_ != should_be:
            found.append(f"{enrolment.user_id}: {what} is {is_}, not {should_be}")

    check("the enrolment's status", stored.status, wanted.status)
    check("the progress", stored.progress, wanted.progress)
    check("completedon is set", stored.completed_on is not None, wanted.status == COMPLETED)
    for activity in sorted({*stored.aggregates, *wanted.aggregates}):
        check(f"the aggregate of {activity}", stored.aggregates.get(activity, 0), wanted.aggregates.get(activity, 0))
    for content in sorted({*stored.counted, *wanted.counted}):
        once = (1, 1) if content in wanted.counted else (0, 0)
        check(f"(views, completions) of {content}", stored.counted.get(content, (0, 0)), once)
    # a content that came after the enrolment was complete is no part of it any more
    completed = {content for content, status in stored.content_status.items() if status == COMPLETED}
    if not completed <= wanted.counted | wanted.lost or (
        wanted.progress is not None and len(completed) < wanted.progress
    ):
        found.append(f"{enrolment.user_id}: contentstatus has the completed contents {sorted(completed)}")
    return found


def score_differences(certification: Certification, enrolment: Enrolment, stored: Stored) -> list[str]:
    """What is not as it should be with a learner's scores, a line for each."""
    wanted = certification.scores(certification.learners[enrolment])
    attempts = certification.attempts_of(enrolment)
    found = [
        f"{name} is {stored.scores.get(name)}, not {wanted.get(name)}"
        for name in sorted({*wanted, *stored.scores})
        if stored.scores.get(name) != wanted.get(name)
    ]
    if stored.attempts != attempts:
        found.append(f"the attempts are {stored.attempts}, not {attempts}")
    return [f"{enrolment.user_id}: {line}" for line in found]


# --- certificates


@dataclass(slots=True)
class StoredCertificate:
    """A certificate that an enrolment names: its entry, its document in the object store, its registry entry."""

    entry: Mapping[str, str]
    document: Mapping[str, Any] | None = None
    registered: Mapping[str, Any] | None = None

    @property
    def identifier(self) -> str:
        return self.entry.get("identifier", "")

    @property
    def name(self) -> str:
        return self.entry.get("name", "")

    @property
    def issued_at(self) -> datetime:
        """When it was noted, UTC."""
        return datetime.strptime(self.entry["lastIssuedOn"], "%Y-%m-%dT%H:%M:%S.%f%z")

    @property
    def picture(self) -> str:
        """The address of the picture, which holds all of it; empty without a document."""
        return str((self.document or {}).get("printUri", ""))


@dataclass(frozen=True)
class StoredCertificates:
    """What the stores hold of a batch's certificates.

    ``issued``: by enrolment, as its row has them; ``documents`` and ``registered``: the ids that the object store and
    the registry have; ``told``: how often learners heard of one, by way.
    """

    issued: Mapping[Enrolment, Sequence[StoredCertificate]]
    documents: frozenset[str]
    registered: frozenset[str]
    told: Mapping[str, int]

    @property
    def last_issued_at(self) -> datetime | None:
        """When the last certificate that has a document was noted, UTC."""
        found = [each.issued_at for certificates in self.issued.values() for each in certificates if each.document]
        return max(found, default=None)


class CertificateReader:
    """Reads what the stores hold of the certificates of a batch. A document that was read is not read again."""

    def __init__(self, session: Session, environment: Mapping[str, Any], certification: Certification) -> None:
        self._session = session
        self._certification = certification
        self._stub = str(environment["service.certreg.basePath"])
        self._issued = session.prepare(
            "SELECT issued_certificates FROM sunbird_courses.user_enrolments "
            "WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        self._store = S3Store(
            environment["cert_container_name"],
            endpoint=environment["cert_cloud_storage_endpoint"],
            access_key_id=environment["cert_cloud_storage_key"],
            secret_access_key=environment["cert_cloud_storage_secret"],
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": f"{CALL_SECONDS}s"},
        )
        self._documents: dict[str, Mapping[str, Any]] = {}

    def read(self) -> StoredCertificates:
        """What is there now. Raises what Cassandra, obstore and requests raise."""
        self._read_documents()
        learners = list(self._certification.learners)
        ours = {enrolment.user_id for enrolment in learners}
        registry = {
            identifier: registered
            for identifier, registered in self._told("registry").items()
            if registered["recipientId"] in ours
        }
        results = execute_concurrent_with_args(self._session, self._issued, learners, concurrency=64)
        issued = {
            enrolment: [
                StoredCertificate(dict(entry), self._documents.get(identifier), registry.get(identifier))
                for row in result.result_or_exc
                for entry in row.issued_certificates or ()
                for identifier in [entry.get("identifier", "")]
            ]
            for enrolment, result in zip(learners, results, strict=True)
        }
        return StoredCertificates(issued, frozenset(self._documents), frozenset(registry), self._ways(ours))

    def _read_documents(self) -> None:
        for listed in obstore.list(self._store, prefix=f"{self._certification.batch_id}/"):
            for stored in listed:
                identifier = stored["path"].rpartition("/")[2].removesuffix(".json")
                if identifier not in self._documents:
                    self._documents[identifier] = json.loads(bytes(obstore.get(self._store, stored["path"]).bytes()))

    def _ways(self, ours: set[str]) -> Mapping[str, int]:
        told: Counter[str] = Counter()
        for sent in self._told("notifications"):
            if ours.issuperset(sent["recipientUserIds"]):
                told["SMS" if sent.get("mode") == "sms" else "e-mails"] += 1
        told["feed entries"] = sum(feed["userId"] in ours for feed in self._told("feeds"))
        return told

    def _told(self, kind: str) -> Any:
        answer = requests.get(f"{self._stub}/stub/{kind}", timeout=CALL_SECONDS)
        answer.raise_for_status()
        return answer.json()


def certificate_differences(
    certification: Certification,
    enrolment: Enrolment,
    wanted: Iterable[Offer],
    stored: Sequence[StoredCertificate],
    completed_on: datetime | None,
) -> list[str]:
    """What is not as it should be with a learner's certificates, a line for each; empty when all of it is right.

    ``completed_on``: when the course was completed, UTC.
    """
    held = certification.held(enrolment)
    issued_on = f"{completed_on:%Y-%m-%d}T00:00:00Z" if completed_on else ""
    names = Counter([entry["name"] for entry in held] + [offer.name for offer in wanted])
    found = []
    for name, times in (Counter(certificate.name for certificate in stored) - names).items():
        found.append(f"{times} more of {name!r} than there should be")
    for name, times in (names - Counter(certificate.name for certificate in stored)).items():
        found.append(f"{times} less of {name!r} than there should be")
    for certificate in stored:
        if certificate.entry not in held:
            found += [
                f"{certificate.name!r}: {what}" for what in _wrong(certification, enrolment, certificate, issued_on)
            ]
    return [f"{enrolment.user_id}: {line}" for line in found]


def _wrong(
    certification: Certification, enrolment: Enrolment, certificate: StoredCertificate, issued_on: str
) -> list[str]:
    document, registered, name = certificate.document, certificate.registered, certification.learners[enrolment].name
    if document is None or registered is None:
        where = "the object store" if document is None else "the registry"
        return [f"{where} has none of the id {certificate.identifier!r}"]
    key = f"{certification.batch_id}/{certificate.identifier}"
    found = {
        "an access code": bool(ACCESS_CODE.fullmatch(certificate.entry.get("token", ""))),
        "an id with tag and id": document["id"].endswith(f"/{key}"),
        "the recipient": document["recipient"]["identity"] == enrolment.user_id,
        "the recipient's name": document["recipient"]["name"] == name,
        "the course": document["badge"]["name"] == certification.course.tree.name,
        "its name": document["badge"]["criteria"]["narrative"] == certificate.name,
        "the date of completion": document["issuedOn"] == issued_on,
        "a picture with the learner's name": name in _texts(certificate.picture),
        "the same access code in the registry": registered["accessCode"] == certificate.entry.get("token"),
        "the same recipient in the registry": registered["recipientId"] == enrolment.user_id,
        "the same address in the registry": registered["jsonUrl"].endswith(f"/{key}.json"),
        "the same document in the registry": registered["jsonData"]
        == {member: value for member, value in document.items() if member != "printUri"},
    }
    return [f"it does not have {what}" for what, has in found.items() if not has]


def _texts(picture: str) -> list[str]:
    """The texts in a picture; none when it is no picture."""
    if not picture.startswith(PICTURE):
        return []
    try:
        root = etree.fromstring(unquote(picture.removeprefix(PICTURE)).encode())
    except etree.XMLSyntaxError:
        return []
    return [text.text or "" for text in root.iter("{*}text")]
