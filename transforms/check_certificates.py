"""The step that decides who gets a certificate, and gathers what the certificate needs.

``transforms.certificate_criteria`` has the rules. Here is the order in which things are asked for, for one learner
and template at a time; learners are waited for side by side.

spec: collection-cert-pre-processor §3
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import orjson
from apache_beam.pvalue import TaggedOutput

from transforms.certificate_criteria import (
    InvalidCriteria,
    check_enrolment,
    check_score,
    check_user,
    criteria_of,
    issued_entry,
    score_percentages,
)
from transforms.certificate_templates import BrokenTemplate, Template, svg_templates
from transforms.cloud_paths import CloudPaths
from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import parse_object
from transforms.enrolments import Enrolment, rows_of_enrolments
from transforms.generate_certificate import (
    clean_course_name,
    generate_event,
    issue_date,
    recipient_name,
    related_data,
)
from transforms.issue_requests import IssueRequest, issue_request_of
from transforms.keyed_batch import KeyedBatch
from transforms.known_contents import KnownContents, NoMetadata
from transforms.overlapped import side_by_side
from transforms.services import Contents, ServiceRefused, UserBlocked, Users
from transforms.stores import KeyValues, Opens, Refused, Row, Select, StoreUnavailable, Tables

__all__ = ["GENERATE", "CertificateRules", "CertificateTables", "CheckCertificates", "CheckStores"]

_log = logging.getLogger(__name__)

GENERATE = "generate"


@dataclass(frozen=True)
class CheckStores:
    """The recipes of the stores and services. ``calls`` is where they are waited for, so many at once."""

    tables: Opens[Tables]
    content_cache: Opens[KeyValues]
    collection_cache: Opens[KeyValues]
    contents: Opens[Contents]
    users: Opens[Users]
    calls: Opens[Executor]


@dataclass(frozen=True)
class CertificateTables:
    """The tables' full names, ``keyspace.table``."""

    batches: str
    enrolments: str
    aggregates: str


@dataclass(frozen=True)
class CertificateRules:
    """What an installation chose. ``tolerant``: a content without metadata is left out instead of an error."""

    assessment_types: tuple[str, ...]
    tolerant: bool
    certificates_path: str
    paths: CloudPaths


class NotEligible(Exception):
    """The learner does not get this certificate; the message says why, without personal data."""


@dataclass
class _Findings:
    """What became of a learner's templates."""

    events: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class CheckCertificates(KeyedBatch):
    """Takes ``(shard, issue event)``, all bytes; gives GENERATE events and FAILED dead letters, JSON as bytes.

    Raises StoreUnavailable, so that the bundle fails and nothing of it is committed.
    """

    def __init__(
        self,
        job: str,
        stores: CheckStores,
        tables: CertificateTables,
        rules: CertificateRules,
        *,
        size: int,
        remembered_seconds: int,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._names = tables
        self._rules = rules
        self._remembered_seconds = remembered_seconds
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._users = self._stores.users.open()
        self._calls = self._stores.calls.open()
        self._known = KnownContents(
            self._stores.content_cache.open(),
            self._stores.collection_cache.open(),
            self._stores.contents.open(),
            self._remembered_seconds,
            self._clock,
        )
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        requests = [request for payload in payloads if (request := issue_request_of(parse_object(payload)))]
        templates = self._read_templates(requests)
        enrolments = self._read_enrolments(requests, templates)
        asked = [
            (position, user, of_batch)
            for position, request in enumerate(requests)
            if not isinstance(of_batch := templates[request.course_id, request.batch_id], Refused) and of_batch
            for user in request.user_ids
        ]
        checks = [
            partial(self._check_learner, self._learner(requests[position], user, enrolments), found)
            for position, user, found in asked
        ]
        findings: list[list[_Findings | Exception]] = [[] for _ in requests]
        for (position, *_), answer in zip(asked, side_by_side(self._calls, checks), strict=True):
            findings[position].append(answer)
        return [
            output
            for payload, request, found in zip(payloads, requests, findings, strict=True)
            for output in self._outputs(payload, request, templates, found)
        ]

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        return [self._dead_letter(payload, f"could not be handled: {type(error).__name__}")]

    # --- §3.1, §3.2

    def _read_templates(self, requests: list[IssueRequest]) -> dict[tuple[str, str], list[Template] | Refused]:
        batches = list({(request.course_id, request.batch_id): None for request in requests})
        selects = [
            Select(self._names.batches, ("cert_templates",), {"courseid": course_id, "batchid": batch_id})
            for course_id, batch_id in batches
        ]
        found: dict[tuple[str, str], list[Template] | Refused] = {}
        for batch, rows in zip(batches, self._tables.select(selects), strict=True):
            if isinstance(rows, Refused):
                found[batch] = rows
            else:
                found[batch] = svg_templates(rows[0]["cert_templates"]) if rows else []
        return found

    def _read_enrolments(
        self, requests: list[IssueRequest], templates: Mapping[tuple[str, str], list[Template] | Refused]
    ) -> dict[Enrolment, list[Row] | Refused]:
        """The rows of all learners of batches with templates. Counted as if read for each template (§3.4)."""
        wanted = [
            Enrolment(user, request.course_id, request.batch_id)
            for request in requests
            if not isinstance(of_batch := templates[request.course_id, request.batch_id], Refused) and of_batch
            for user in request.user_ids
        ]
        return rows_of_enrolments(self._tables, self._names.enrolments, (), wanted)[0]

    def _learner(
        self, request: IssueRequest, user_id: str, enrolments: Mapping[Enrolment, list[Row] | Refused]
    ) -> _Learner:
        rows = enrolments[Enrolment(user_id, request.course_id, request.batch_id)]
        return _Learner(self._tables, self._users, self._names, request, user_id, rows)

    def _outputs(
        self,
        payload: bytes,
        request: IssueRequest,
        templates: Mapping[tuple[str, str], list[Template] | Refused],
        findings: list[_Findings | Exception],
    ) -> list[TaggedOutput]:
        of_batch = templates[request.course_id, request.batch_id]
        if isinstance(of_batch, Refused):
            return [self._dead_letter(payload, f"batch {request.batch_id}: {of_batch}")]
        if not of_batch:
            count(self._job, "skipped-event-count")
            return []
        outputs, errors = [], []
        for user, found in zip(request.user_ids, findings, strict=True):
            if isinstance(found, Exception):
                _log.error("A learner could not be checked", exc_info=found)
                errors.append(f"user {user}: could not be handled: {type(found).__name__}")
                continue
            for name, times in found.counts.items():
                count(self._job, name, times)
            outputs += [TaggedOutput(GENERATE, orjson.dumps(event)) for event in found.events]
            errors += found.errors
        if errors:
            outputs.append(self._dead_letter(payload, "; ".join(errors)))
        return outputs

    def _dead_letter(self, payload: bytes, reason: str) -> TaggedOutput:
        count(self._job, "failed-events-count")
        return TaggedOutput(FAILED, dead_letter(self._job, reason, payload, parse_object(payload)))

    # --- one learner

    def _check_learner(self, learner: _Learner, templates: list[Template]) -> _Findings:
        findings = _Findings()
        for template in templates:
            try:
                findings.events.append(self._certificate(learner, template, findings.counts))
                findings.counts["success-events-count"] += 1
            except NotEligible:
                findings.counts["skipped-event-count"] += 1
            except StoreUnavailable:
                raise
            except (InvalidCriteria, BrokenTemplate, NoMetadata, ServiceRefused, Refused) as error:
                invalid = f"Invalid template for batch : {learner.request.batch_id}"
                reason = invalid if isinstance(error, InvalidCriteria) else str(error)
                findings.errors.append(f"user {learner.user_id} template {template.identifier}: {reason}")
        return findings

    def _certificate(self, learner: _Learner, template: Template, counts: Counter[str]) -> dict[str, Any]:
        """The generate event of a learner and template. Raises NotEligible, and what is wrong with the data."""
        request = learner.request
        criteria = criteria_of(template)

        counts["db-read-count"] += 1
        row = learner.enrolment()
        _refuse(check_enrolment(criteria, row, template.name, request.reissue))
        assert row is not None  # noqa: S101 - what check_enrolment just said

        percentages = None
        if criteria.get("assessment"):
            counts["db-read-count"] += 1
            percentages = self._assessed(learner.percentages(), counts)
            _refuse(check_score(criteria, max(percentages.values(), default=0.0)))

        try:
            user = learner.user()
        except UserBlocked:
            raise NotEligible("the account is deleted or blocked") from None
        if not user:
            raise NotEligible("the user service knows no such user")
        _refuse(check_user(criteria, user))

        course_name = clean_course_name(self._known.course_name(request.course_id, counts))
        issued = issued_entry(row.get("issued_certificates"), template.name)
        now = self._clock()
        root_org = user.get("rootOrgId")
        return generate_event(
            user_id=learner.user_id,
            org_id=root_org if isinstance(root_org, str) else "",
            name_of_recipient=recipient_name(user),
            course_name=course_name,
            batch_id=request.batch_id,
            template_id=template.identifier,
            template_name=template.name,
            template_url=self._rules.paths.resolve(template.text("url")),
            issuer=template.json_object("issuer"),
            signatories=template.json_array("signatoryList"),
            old_id=(issued.get("identifier") or "") if issued and request.reissue else "",
            issued_on=issue_date(row.get("completedon"), now),
            base_path=self._rules.certificates_path,
            related=related_data(
                request.batch_id,
                request.course_id,
                template.name,
                template.json_object("additionalProps"),
                user=user,
                enrolment=row,
                percentages=percentages,
                course_name=course_name,
            ),
            now=now,
            new_id=self._new_id,
        )

    def _assessed(self, percentages: dict[str, float], counts: Counter[str]) -> dict[str, float]:
        """The percentages of the contents that count as assessments. Raises NoMetadata. spec §3.5"""
        kept = {}
        for content_id, percentage in percentages.items():
            try:
                if self._known.content_type(content_id, counts) in self._rules.assessment_types:
                    kept[content_id] = percentage
            except NoMetadata:
                if not self._rules.tolerant:
                    raise NoMetadata(f"Metadata not available in cache or API {content_id}") from None
                _log.warning("No metadata of content %.200r: its score does not count", content_id)
        return kept


class _Learner:
    """One learner of a request: what the stores hold, each asked for once, when it is needed."""

    def __init__(
        self,
        tables: Tables,
        users: Users,
        names: CertificateTables,
        request: IssueRequest,
        user_id: str,
        enrolment_rows: list[Row] | Refused,
    ) -> None:
        self._tables = tables
        self._names = names
        self._enrolment_rows = enrolment_rows
        self.request = request
        self.user_id = user_id
        # not cached_property, which in Python 3.11 lets one learner wait for the other
        self.percentages = cache(self._percentages)
        self.user = cache(partial(users.user, user_id))

    def enrolment(self) -> Row | None:
        """The row, None when there is none. Raises Refused."""
        return _first(self._enrolment_rows)

    def _percentages(self) -> dict[str, float]:
        where = {
            "activity_type": "Course",
            "activity_id": self.request.course_id,
            "user_id": self.user_id,
            "context_id": f"cb:{self.request.batch_id}",
        }
        (rows,) = self._tables.select([Select(self._names.aggregates, (), where)])
        row = _first(rows) or {}
        return score_percentages(row.get("agg"), row.get("aggregates"))


def _first(rows: list[Row] | Refused) -> Row | None:
    if isinstance(rows, Refused):
        raise rows
    return rows[0] if rows else None


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise NotEligible(reason)
