"""The step that moves certificates of the time before Sunbird RC into RC.

How far a certificate came stands in its row of the registry, so it can be sent again at any time, and goes on there:

    (nothing) -> migration_started -> enrolment_updated -> revoked

spec: legacy-certificate-migrator §3
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.certificate.audit import MIGRATED, certificate_audit
from transforms.certificate.credential import migration_request
from transforms.certificate.dates import issued_on
from transforms.certificate.enrolment_entry import has_newer_credential, migrated_entry, with_entry
from transforms.certificate.request import CertificateRequest, InvalidRequest, legacy_id
from transforms.cloud_paths import CloudPaths
from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, parse_object
from transforms.enrolments import Enrolment
from transforms.issue_certificates import AUDIT
from transforms.issuers import CERTIFICATES_INDEX
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import Done, owners_side_by_side
from transforms.services import Credentials, Documents, OutcomeUnknown, ServiceRefused
from transforms.stores import Opens, Refused, Row, Select, Tables, Update

__all__ = ["MigrateCertificates", "Migration", "MigrationStores", "SelectMigrations", "migration_of"]

_log = logging.getLogger(__name__)

STARTED = "migration_started"
ENROLMENT_UPDATED = "enrolment_updated"
REVOKED = "revoked"


@dataclass(frozen=True)
class Migration:
    """What one event asks for."""

    certificate_id: str
    request: CertificateRequest

    @property
    def owner(self) -> Enrolment:
        return Enrolment(self.request.user_id, self.request.course_id, self.request.batch_id)


def migration_of(value: bytes | None, *, suppress_signatories: bool) -> Migration:
    """Read and check an event. Raises NotAnObject, InvalidRequest. spec: legacy-certificate-migrator §2, §3.1"""
    edata = parse_object(value).get("edata")
    request = CertificateRequest.of(edata, suppress_signatories=suppress_signatories)
    assert isinstance(edata, dict)  # noqa: S101 - what the line above has checked
    certificate_id = legacy_id(edata)
    issued_on(request.issued_date, datetime.fromtimestamp(0, UTC))
    return Migration(certificate_id, request)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectMigrations(beam.DoFn):
    """Takes records, gives ``(shard of the enrolment, value)``; FAILED gets dead letters."""

    def __init__(self, job: str, shards: int, *, suppress_signatories: bool) -> None:
        self._job = job
        self._shards = shards
        self._suppress_signatories = suppress_signatories

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        try:
            migration = migration_of(record.value, suppress_signatories=self._suppress_signatories)
        except (NotAnObject, InvalidRequest) as error:
            count(self._job, "failed-events-count")
            _log.warning("%s can not be migrated: %s", record.name, error)
            yield TaggedOutput(FAILED, _dead_letter(self._job, str(error), record.value))
            return
        yield shard_of("|".join(migration.owner), self._shards), record.value or b""


@dataclass(frozen=True)
class MigrationStores:
    """The recipes; ``enrolments`` and ``registry`` are the tables' full names."""

    tables: Opens[Tables]
    enrolments: str
    registry: str
    credentials: Opens[Credentials]
    entity: str
    documents: Opens[Documents]
    calls: Opens[Executor]


class MigrateCertificates(KeyedBatch):
    """Takes ``(shard, event)``, all bytes; gives AUDIT and FAILED values.

    Raises StoreUnavailable, so that the bundle fails and is repeated: each certificate then goes on where it was.
    """

    def __init__(
        self,
        job: str,
        stores: MigrationStores,
        *,
        size: int,
        suppress_signatories: bool,
        paths: CloudPaths,
        unwanted: tuple[str, ...],
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._suppress_signatories = suppress_signatories
        self._paths = paths
        self._unwanted = unwanted
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._credentials = self._stores.credentials.open()
        self._documents = self._stores.documents.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        by_owner: dict[Enrolment, list[bytes]] = defaultdict(list)
        for payload in payloads:
            by_owner[self._migration(payload).owner].append(payload)
        return owners_side_by_side(self._job, self._calls, by_owner, self._migrate_all, self.refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        reason = f"could not be handled: {type(error).__name__}"
        return [TaggedOutput(FAILED, _dead_letter(self._job, reason, payload))]

    def _migration(self, payload: bytes) -> Migration:
        return migration_of(payload, suppress_signatories=self._suppress_signatories)

    # --- one enrolment, in turn

    def _migrate_all(self, owner: Enrolment, payloads: list[bytes]) -> list[Done]:
        return [self._migrate_one(payload) for payload in payloads]

    def _migrate_one(self, payload: bytes) -> Done:
        done = Done()
        migration = self._migration(payload)
        try:
            self._go_on(migration, self._stage(migration), done)
        except (InvalidRequest, ServiceRefused, Refused) as error:
            _log.warning("The certificate %.200s was not migrated: %s", migration.certificate_id, error)
            done.outputs.append(TaggedOutput(FAILED, _dead_letter(self._job, str(error), payload)))
            done.counts["failed-events-count"] += 1
        return done

    def _go_on(self, migration: Migration, stage: str | None, done: Done) -> None:
        """From the stage that the certificate has reached to the last. spec §3.2"""
        if stage in ("", STARTED):
            osid = self._created_earlier(migration) if stage == STARTED else None
            if osid is None:
                if not self._may_start(migration, done):
                    done.counts["skipped-event-count"] += 1
                    return
                self._set(migration, reason=STARTED)
                osid = self._create(migration)
            self._note(migration, osid, done)
            stage = ENROLMENT_UPDATED
        if stage != ENROLMENT_UPDATED:
            if stage not in (None, REVOKED):
                _log.warning("The certificate %.200s has a reason of somebody else", migration.certificate_id)
            done.counts["skipped-event-count"] += 1
            return
        self._revoke(migration)
        done.counts["success-events-count"] += 1

    def _stage(self, migration: Migration) -> str | None:
        """The column ``reason``, ``""`` for null; None when the registry has no such certificate."""
        row = self._first(Select(self._stores.registry, ("reason",), {"id": migration.certificate_id}))
        return row["reason"] or "" if row else None

    def _may_start(self, migration: Migration, done: Done) -> bool:
        """Whether the learner has no newer certificate. Raises InvalidRequest without enrolment. spec §3.3"""
        row = self._enrolment(migration, done)
        return not has_newer_credential(
            row.get("issued_certificates"),
            migration.request.name,
            migration.certificate_id,
            self._stores.entity,
        )

    def _created_earlier(self, migration: Migration) -> str | None:
        """The record that an earlier try has made. spec §3.4"""
        for record in self._credentials.search({"oldId": {"eq": migration.certificate_id}}, 1):
            osid = record.get("osid")
            if isinstance(osid, str) and osid:
                return osid
        return None

    def _create(self, migration: Migration) -> str:
        """spec §3.5"""
        request = migration.request
        body = migration_request(
            request,
            request.recipients[0],
            legacy_id=migration.certificate_id,
            template_url=self._paths.resolve(request.svg_template),
            key_id=self._credentials.key_id(),
            unwanted=self._unwanted,
        )
        try:
            return self._credentials.create(body)
        except OutcomeUnknown:
            osid = self._created_earlier(migration)
            if osid is None:
                raise
            return osid

    def _note(self, migration: Migration, osid: str, done: Done) -> None:
        """spec §3.6"""
        request, owner = migration.request, migration.owner
        row = self._enrolment(migration, done)
        certificates = with_entry(row.get("issued_certificates"), migrated_entry(request, osid, self._stores.entity))
        self._write(Update(self._stores.enrolments, owner.where, {"issued_certificates": certificates}))
        done.counts["db-update-user-enrollment-count"] += 1
        self._set(migration, reason=ENROLMENT_UPDATED)
        audit = certificate_audit(
            user_id=owner.user_id,
            course_id=owner.course_id,
            batch_id=owner.batch_id,
            certificate_id=osid,
            kind=MIGRATED,
            now=self._clock(),
            new_id=self._new_id,
        )
        done.outputs.append(TaggedOutput(AUDIT, audit))

    def _revoke(self, migration: Migration) -> None:
        """spec §3.7"""
        self._set(migration, isrevoked=True)
        self._documents.delete(CERTIFICATES_INDEX, [migration.certificate_id])
        self._set(migration, reason=REVOKED)

    # --- the stores

    def _enrolment(self, migration: Migration, done: Done) -> Row:
        done.counts["enrollment-db-read-count"] += 1
        owner = migration.owner
        row = self._first(Select(self._stores.enrolments, (), owner.where))
        if row is None:
            raise InvalidRequest(f"no enrolment for {owner.user_id} {owner.course_id} {owner.batch_id}")
        return row

    def _set(self, migration: Migration, **columns: str | bool) -> None:
        self._write(Update(self._stores.registry, {"id": migration.certificate_id}, columns, if_exists=True))

    def _write(self, update: Update) -> None:
        (refused,) = self._tables.write([[update]])
        if refused is not None:
            raise refused

    def _first(self, select: Select) -> Row | None:
        (rows,) = self._tables.select([select])
        if isinstance(rows, Refused):
            raise rows
        return rows[0] if rows else None


def _dead_letter(job: str, reason: str, value: bytes | None) -> bytes:
    try:
        parsed = parse_object(value)
    except NotAnObject:
        parsed = None
    return dead_letter(job, reason, value, parsed)
