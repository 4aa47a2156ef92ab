"""The step that issues certificates and notes them in the learner's enrolment.

All of one enrolment happens in turn, different enrolments side by side. The order is: look, issue, note, revoke the
old one, tell. How a certificate is issued is an issuer's business (``transforms.issuers``).

spec: collection-certificate-generator §3.1-§3.3, §3.6-§3.8, §3.11
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from transforms.certificate.audit import certificate_audit
from transforms.certificate.enrolment_entry import Standing, standing, with_entry
from transforms.certificate.request import CertificateRequest, InvalidRequest, Recipient
from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, parse_object
from transforms.enrolments import Enrolment, rows_of_enrolments
from transforms.issuers import CouldNotRevoke, Issued, Issues
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import Done, owners_side_by_side
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import Opens, Refused, Row, Select, StoreUnavailable, Tables, Update

__all__ = ["AUDIT", "TELL", "IssueCertificates", "IssueStores", "SelectGenerateRequests", "Told"]

_log = logging.getLogger(__name__)

AUDIT = "audit"
TELL = "tell"

COLUMNS = ("issued_certificates", "completedon")


class Told(NamedTuple):
    """What the learner is told of a new certificate; ``completed_on`` in epoch milliseconds, UTC, None: not known."""

    user_id: str
    course_id: str
    batch_id: str
    template_id: str
    course_name: str
    completed_on: int | None

    def to_bytes(self) -> bytes:
        return orjson.dumps(list(self))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Told:
        return cls(*orjson.loads(payload))


class Work(NamedTuple):
    """One certificate on its way to its owner's worker: which element of the event's ``data``, and the event."""

    element: int
    value: bytes

    def to_bytes(self) -> bytes:
        return b"%d\n" % self.element + self.value

    @classmethod
    def from_bytes(cls, payload: bytes) -> Work:
        element, _, value = payload.partition(b"\n")
        return cls(int(element), value)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectGenerateRequests(beam.DoFn):
    """Takes records, gives ``(shard of the enrolment, Work as bytes)`` for each certificate; FAILED gets dead letters.

    spec: collection-certificate-generator §2, §3.2
    """

    def __init__(self, job: str, shards: int, *, suppress_signatories: bool) -> None:
        self._job = job
        self._shards = shards
        self._suppress_signatories = suppress_signatories

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        parsed = None
        try:
            parsed = parse_object(record.value)
            request = CertificateRequest.of(parsed.get("edata"), suppress_signatories=self._suppress_signatories)
        except (NotAnObject, InvalidRequest) as error:
            count(self._job, "failed-events-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value, parsed))
            return
        for element, recipient in enumerate(request.recipients):
            owner = Enrolment(recipient.id, request.course_id, request.batch_id)
            yield shard_of("|".join(owner), self._shards), Work(element, record.value or b"").to_bytes()


@dataclass(frozen=True)
class IssueStores:
    """The recipes: ``enrolments`` is the table's full name, ``calls`` where services are waited for."""

    tables: Opens[Tables]
    enrolments: str
    issuer: Issues
    calls: Opens[Executor]


class IssueCertificates(KeyedBatch):
    """Takes ``(shard, Work)``, all bytes; gives AUDIT and FAILED values and TELL (``Told`` as bytes).

    Raises StoreUnavailable, so that the bundle fails and is repeated: what was done is then found done.
    """

    def __init__(
        self,
        job: str,
        stores: IssueStores,
        *,
        size: int,
        suppress_signatories: bool,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._suppress_signatories = suppress_signatories
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._issuer = self._stores.issuer.open(self._new_id)
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        by_owner: dict[Enrolment, list[tuple[Work, CertificateRequest]]] = defaultdict(list)
        for payload in payloads:
            work = Work.from_bytes(payload)
            request = self._request(work)
            recipient = request.recipients[work.element]
            by_owner[Enrolment(recipient.id, request.course_id, request.batch_id)].append((work, request))
        # an id that the event lacks is "", which no enrolment has and no table takes as a key (spec §2)
        complete = [owner for owner in by_owner if all(owner)]
        rows, _ = rows_of_enrolments(self._tables, self._stores.enrolments, COLUMNS, complete)

        def handle_owner(owner: Enrolment, works: list[tuple[Work, CertificateRequest]]) -> list[Done]:
            first, *others = works
            done = [self._handle_one(owner, *first, rows.get(owner, []))]
            # what came before may have changed the row; where there can be none, there still is none
            later: list[Row] | None = None if owner in rows else []
            return done + [self._handle_one(owner, *other, later) for other in others]

        def refuse(work: tuple[Work, CertificateRequest], error: Exception) -> list[TaggedOutput]:
            return self.refuse(work[0].to_bytes(), error)

        return owners_side_by_side(self._job, self._calls, by_owner, handle_owner, refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return [self._dead_letter(Work.from_bytes(payload), f"could not be handled: {type(error).__name__}")]

    def _request(self, work: Work) -> CertificateRequest:
        return CertificateRequest.of(
            parse_object(work.value).get("edata"), suppress_signatories=self._suppress_signatories
        )

    def _dead_letter(self, work: Work, reason: str) -> TaggedOutput:
        return TaggedOutput(FAILED, dead_letter(self._job, reason, work.value, parse_object(work.value)))

    # --- one enrolment, in turn

    def _handle_one(
        self, owner: Enrolment, work: Work, request: CertificateRequest, rows: list[Row] | Refused | None
    ) -> Done:
        """``rows`` of the enrolment, None when what came before has changed them."""
        done = Done()
        try:
            self._issue(owner, request, request.recipients[work.element], rows, done)
        except (InvalidRequest, ServiceRefused, Refused, CouldNotRevoke) as error:
            several = len(request.recipients) > 1
            reason = f"recipient {owner.user_id}: {error}" if several else str(error)
            done.outputs.append(self._dead_letter(work, reason))
            done.counts["failed-events-count"] += 1
        return done

    def _issue(
        self,
        owner: Enrolment,
        request: CertificateRequest,
        recipient: Recipient,
        rows: list[Row] | Refused | None,
        done: Done,
    ) -> None:
        """Look, issue, note, revoke, tell. spec §3.3, §3.6-§3.8"""
        row = self._enrolment(owner, rows, done)
        stands = standing(row["issued_certificates"], request.name, request.old_id) if row else Standing.ALREADY_ISSUED
        if stands is not Standing.GO_ON:
            done.counts["skipped-event-count"] += 1
            if stands is Standing.REISSUED_ALREADY:
                self._issuer.revoke(request.old_id)
            return

        now = self._clock()
        issued = self._issuer.issue(request, recipient, datetime.fromtimestamp(now / 1000, UTC))
        row = self._note(owner, issued, done)
        done.counts["success-events-count"] += 1
        done.outputs += self._news(owner, request, issued.identifier, row, now)
        if request.reissue:
            self._issuer.revoke(request.old_id)

    def _enrolment(self, owner: Enrolment, rows: list[Row] | Refused | None, done: Done) -> Row | None:
        """The row, read when it was not yet; counted as one read either way."""
        done.counts["enrollment-db-read-count"] += 1
        if rows is None:
            (rows,) = self._tables.select([Select(self._stores.enrolments, COLUMNS, owner.where)])
        if isinstance(rows, Refused):
            raise rows
        return rows[0] if rows else None

    def _note(self, owner: Enrolment, issued: Issued, done: Done) -> Row:
        """Put the certificate into the enrolment, whose row is given as it was; else take it back. spec §3.6"""
        try:
            row = self._enrolment(owner, None, done) or {}
            self._write(owner, with_entry(row.get("issued_certificates"), issued.entry), issued.identifier, done)
        except OutcomeUnknown:
            # an enrolment must not name a certificate that is gone: the repetition would take it for issued
            _log.error("Nobody knows whether the certificate %s was noted; it stays", issued.identifier)
            raise
        except (StoreUnavailable, Refused):
            self._issuer.take_back(issued)
            raise
        return row

    def _write(self, owner: Enrolment, certificates: list[dict[str, str | None]], identifier: str, done: Done) -> None:
        """Write the list. A write without an answer may have been done, so it is looked for.

        Raises Refused and StoreUnavailable when it was not done, OutcomeUnknown.
        """
        update = Update(self._stores.enrolments, owner.where, {"issued_certificates": certificates})
        try:
            (refused,) = self._tables.write([[update]])
        except StoreUnavailable as error:
            if not self._is_noted(owner, identifier, error, done):
                raise
            refused = None
        if refused is not None:
            raise refused
        done.counts["db-update-user-enrollment-count"] += 1

    def _is_noted(self, owner: Enrolment, identifier: str, error: StoreUnavailable, done: Done) -> bool:
        try:
            row = self._enrolment(owner, None, done) or {}
        except (StoreUnavailable, Refused):
            raise OutcomeUnknown(str(error)) from error
        return any(entry.get("identifier") == identifier for entry in row.get("issued_certificates") or ())

    def _news(
        self, owner: Enrolment, request: CertificateRequest, identifier: str, row: Row, now: int
    ) -> Iterator[TaggedOutput]:
        """For telemetry and for the learner. spec §3.8-§3.10"""
        yield TaggedOutput(
            AUDIT,
            certificate_audit(
                user_id=owner.user_id,
                course_id=owner.course_id,
                batch_id=owner.batch_id,
                certificate_id=identifier,
                now=now,
                new_id=self._new_id,
            ),
        )
        completed_on: Any = row.get("completedon")
        told = Told(
            *owner,
            template_id=request.template_id,
            course_name=request.course_name,
            completed_on=round(completed_on.replace(tzinfo=UTC).timestamp() * 1000) if completed_on else None,
        )
        yield TaggedOutput(TELL, told.to_bytes())
