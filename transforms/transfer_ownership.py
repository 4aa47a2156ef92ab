"""The step that makes one user creator and mentor of another's course batches.

``transforms.ownership_transfer`` has the rules. Here is what is asked and read, and the checklist that is made of it:
the rows of the batches, then their documents, by which they are found again until all is done.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.checklist import Report, Step
from transforms.counters import count
from transforms.decode import NotAnObject, Record, id_at, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import in_turns, side_by_side
from transforms.ownership_transfer import (
    STATUSES,
    InvalidTransfer,
    Transfer,
    creator_change,
    document_changes,
    mentor_change,
    transfer_of,
)
from transforms.services import Accounts, Batches, Documents, ServiceRefused, UserBlocked
from transforms.stores import Opens, Refused, Row, Select, StoreUnavailable, Tables, Update
from transforms.user_deletion import is_user_of

__all__ = ["SelectTransfers", "TransferOwnership", "TransferStores"]

_log = logging.getLogger(__name__)

BATCHES_INDEX = "course-batch"
CREATOR_FIELDS = ("identifier", "createdFor", "batchId", "courseId", "startDate", "enrollmentType")
MENTOR_FIELDS = (*CREATOR_FIELDS, "mentors")

# the stores, as the report and its counters name them
ROW, DOCUMENT = "batch-row", "batch-document"


class Place(NamedTuple):
    """The key of a batch."""

    course_id: str
    batch_id: str


Found = dict[Place, dict[str, Any]]
"""The search's entries."""


@dataclass(frozen=True)
class TransferStores:
    """The recipes; ``batches`` and ``users`` are the tables' full names, ``calls`` is where is waited."""

    tables: Opens[Tables]
    batches: str
    users: str
    accounts: Opens[Accounts]
    search: Opens[Batches]
    documents: Opens[Documents]
    calls: Opens[Executor]


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectTransfers(beam.DoFn):
    """Takes records, gives ``(shard, value)`` of those that can be handled; counts and logs the others.

    spec: user-ownership-transfer §2
    """

    def __init__(self, job: str) -> None:
        self._job = job

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes]]:
        count(self._job, "total-transfer-events-count")
        try:
            transfer_of(parse_object(record.value))
        except (NotAnObject, InvalidTransfer) as error:
            count(self._job, "skipped-message-count")
            _log.warning("%s is skipped: %s", record.name, error)
            return
        # all go to one worker, in order: of those that share a user, as old or new one, none misses another
        yield shard_of("", 1), record.value or b""


class _NotAllowed(Exception):
    """The event is skipped; the message says why, and names nobody."""


@dataclass
class _Outcome:
    """What became of one event."""

    skipped: str = ""
    report: Report = field(default_factory=Report)
    counts: Counter[str] = field(default_factory=Counter)


class TransferOwnership(KeyedBatch):
    """Takes ``(shard, value)``, all bytes; nothing comes out.

    Transfers that share no user are done side by side, the others in turn. With ``dry_run`` nothing is changed. Raises
    StoreUnavailable, so that the bundle fails and is repeated. spec: user-ownership-transfer §3
    """

    def __init__(
        self,
        job: str,
        stores: TransferStores,
        *,
        size: int,
        statements_per_batch: int,
        accepts_deleted: bool,
        dry_run: bool,
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._statements_per_batch = statements_per_batch
        self._accepts_deleted = accepts_deleted
        self._dry_run = dry_run

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._accounts = self._stores.accounts.open()
        self._search = self._stores.search.open()
        self._documents = self._stores.documents.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        transfers = [transfer_of(parse_object(payload)) for payload in payloads]
        for turn in in_turns([(transfer.old, transfer.new) for transfer in transfers]):
            together = [transfers[place] for place in turn]
            answers = side_by_side(self._calls, [partial(self._transfer, transfer) for transfer in together])
            for transfer, answer in zip(together, answers, strict=True):
                self._tell(transfer, answer)
        return []

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "skipped-message-count")
        return []

    # --- one transfer

    def _transfer(self, transfer: Transfer) -> _Outcome:
        outcome = _Outcome()
        try:
            self._check(transfer, outcome.counts)
            # both searches before anything is written, for they read what is written
            created = self._found(transfer, {"createdBy": transfer.old}, CREATOR_FIELDS)
            mentored = self._found(transfer, {"mentors": [transfer.old]}, MENTOR_FIELDS)
            steps = self._steps(transfer, created, mentored, outcome.counts)
            outcome.report.carry_out(steps, dry_run=self._dry_run)
        except (_NotAllowed, ServiceRefused, Refused) as error:
            outcome.skipped = str(error)
        return outcome

    def _check(self, transfer: Transfer, counts: Counter[str]) -> None:
        """Raises _NotAllowed unless both users are of the organisation. spec §3.1"""
        if not self._is_of_organisation(transfer.old, transfer, counts, self._accepts_deleted):
            raise _NotAllowed("the old user is not known, or not of this organisation")
        if not self._is_of_organisation(transfer.new, transfer, counts, accepts_deleted=False):
            raise _NotAllowed("the new user is not known, not active, or not of this organisation")

    def _is_of_organisation(
        self, user_id: str, transfer: Transfer, counts: Counter[str], accepts_deleted: bool
    ) -> bool:
        try:
            answer = self._accounts.read(user_id)
        except UserBlocked:
            if not accepts_deleted:
                return False
            row = self._first(Select(self._stores.users, ("id", "rootorgid"), {"id": user_id}))
            return row is not None and is_user_of(row["id"], row["rootorgid"], user_id, transfer.organisation_id)
        if answer is None:
            return False
        counts["api-read-success-count"] += 1
        return is_user_of(answer.get("identifier"), answer.get("rootOrgId"), user_id, transfer.organisation_id)

    def _found(self, transfer: Transfer, filters: dict[str, Any], fields: Sequence[str]) -> Found:
        """The batches, each once. spec §3.2"""
        found: Found = {}
        for entry in self._search.search({**filters, "status": list(STATUSES)}, fields):
            course_id, batch_id = id_at(entry, "courseId"), id_at(entry, "batchId")
            if course_id is None or batch_id is None:
                _log.warning("%s: an entry of the search has no courseId or batchId", _named(transfer))
            else:
                found.setdefault(Place(course_id, batch_id), entry)
        return found

    def _steps(self, transfer: Transfer, created: Found, mentored: Found, counts: Counter[str]) -> list[Step]:
        rows = self._rows(transfer, [*{**created, **mentored}])
        creator = {place: creator_change(rows[place], transfer) for place in created if place in rows}
        mentor = {place: mentor_change(rows[place], mentored[place], transfer) for place in mentored if place in rows}
        for place in sorted({place for place, change in [*creator.items(), *mentor.items()] if not change}):
            _log.info("%s: the row of batch %.100s needs no change", _named(transfer), place.batch_id)
        return [
            self._row_changes(creator, counts),
            self._row_changes(mentor, counts),
            self._documents_of(transfer, list(dict.fromkeys(place.batch_id for place in {**created, **mentored}))),
        ]

    def _rows(self, transfer: Transfer, places: list[Place]) -> dict[Place, Row]:
        """The rows of the batches that have one. spec §3.3"""
        wheres = [{"courseid": place.course_id, "batchid": place.batch_id} for place in places]
        found = self._tables.select([Select(self._stores.batches, ("createdby", "mentors"), where) for where in wheres])
        rows = {}
        for place, of_place in zip(places, found, strict=True):
            if isinstance(of_place, Refused) or not of_place:
                _log.warning("%s: batch %.100s has no row", _named(transfer), place.batch_id)
            else:
                rows[place] = of_place[0]
        return rows

    def _row_changes(self, changes: dict[Place, dict[str, Any]], counts: Counter[str]) -> Step:
        """Each row for itself, counted as if so many made one batch. spec §3.3"""
        updates = [
            Update(self._stores.batches, {"courseid": place.course_id, "batchid": place.batch_id}, columns)
            for place, columns in changes.items()
            if columns
        ]

        def write() -> int:
            for refused in self._tables.write([[update] for update in updates]):
                if refused is not None:
                    raise refused
            counts["db-update-success-count"] += -(-len(updates) // self._statements_per_batch)
            return len(updates)

        return Step(ROW, len(updates), write)

    def _documents_of(self, transfer: Transfer, batch_ids: list[str]) -> Step:
        """Those that are there; none is made. spec §3.4"""
        changes = {}
        for batch_id, document in zip(batch_ids, self._documents.get(BATCHES_INDEX, batch_ids), strict=True):
            if document is None:
                if not self._documents.has_index(BATCHES_INDEX):
                    raise StoreUnavailable(f"Elasticsearch (es.basePath) has no index {BATCHES_INDEX}")
                _log.warning("%s: batch %.100s has no document", _named(transfer), batch_id)
            elif changed := document_changes(document, transfer):
                changes[batch_id] = changed

        def write() -> int:
            self._documents.change(BATCHES_INDEX, changes)
            return len(changes)

        return Step(DOCUMENT, len(changes), write)

    def _first(self, select: Select) -> Row | None:
        (rows,) = self._tables.select([select])
        if isinstance(rows, Refused):
            raise rows
        return rows[0] if rows else None

    # --- what is told

    def _tell(self, transfer: Transfer, answer: _Outcome | Exception) -> None:
        if isinstance(answer, Exception):
            count(self._job, "skipped-message-count")
            _log.error("%s is skipped: %s", _named(transfer), type(answer).__name__, exc_info=answer)
            return
        for name, times in (answer.counts + answer.report.counts()).items():
            count(self._job, name, times)
        if answer.skipped:
            count(self._job, "skipped-message-count")
            _log.error("%s is skipped: %s", _named(transfer), answer.skipped)
            return
        if not self._dry_run:
            count(self._job, "success-message-count")
        dry = " (dry run: nothing is changed)" if self._dry_run else ""
        _log.info("%s: changed: %s%s", _named(transfer), answer.report, dry)


def _named(transfer: Transfer) -> str:
    return f"The transfer from {transfer.old:.100} to {transfer.new:.100} ({transfer.mid:.100})"
