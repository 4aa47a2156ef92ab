"""The step that removes what is left of a deleted user in Keycloak, tables and caches.

``transforms.user_deletion`` has the rules. Here is what is read, and the checklist that is made of it. The user's own
row is blanked last: that is the mark that everything else is done. Until it is set, an event that comes again finds all
it needs to go on where it was.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from schemas import redis_keys
from transforms.checklist import Report, Step
from transforms.counters import count
from transforms.decode import NotAnObject, Record, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import in_turns, side_by_side
from transforms.services import Accounts, Identities, ServiceRefused, UserBlocked
from transforms.stores import Delete, KeyValues, Opens, Refused, Row, Select, StoreUnavailable, Tables, Update, Write
from transforms.user_deletion import (
    BLANKED,
    DELETED,
    Deletion,
    InvalidDeletion,
    deletion_audit,
    deletion_of,
    is_user_of,
    left_at,
    lookups_of,
)

__all__ = ["AUDIT", "CleanUpUsers", "DeletionStores", "SelectDeletions", "UserTables"]

_log = logging.getLogger(__name__)

AUDIT = "audit"

# the stores, as the report and its counters name them
KEYCLOAK, LOOKUP, EXTERNAL_ID = "keycloak", "user-lookup", "external-id"
MEMBERSHIP, PROFILE, USER = "membership", "profile-cache", "user-row"


@dataclass(frozen=True)
class UserTables:
    """The tables' full names, ``keyspace.table``."""

    user: str
    lookup: str
    external_id: str
    membership: str


@dataclass(frozen=True)
class DeletionStores:
    """The recipes; ``profiles`` are the databases that may hold the user's profile, ``calls`` is where is waited."""

    tables: Opens[Tables]
    profiles: tuple[Opens[KeyValues], ...]
    accounts: Opens[Accounts]
    identities: Opens[Identities]
    calls: Opens[Executor]


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectDeletions(beam.DoFn):
    """Takes records, gives ``(shard of the user, value)`` of those that can be handled; counts and logs the others.

    spec: user-deletion-cleanup §2
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes]]:
        count(self._job, "total-delete-events-count")
        try:
            deletion = deletion_of(parse_object(record.value))
        except (NotAnObject, InvalidDeletion) as error:
            count(self._job, "skipped-message-count")
            _log.warning("%s is skipped: %s", record.name, error)
            return
        yield shard_of(deletion.user_id, self._shards), record.value or b""


class _NotThisUser(Exception):
    """The event is skipped; the message says why, and names nobody."""


@dataclass
class _Cleanup:
    """One event on its way: what was found and done, and whether the user's own row is still to be blanked."""

    deletion: Deletion
    path: str = ""
    is_to_be_blanked: bool = False
    is_told: bool = False
    outcomes: dict[str, bool] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    counts: Counter[str] = field(default_factory=Counter)


class CleanUpUsers(KeyedBatch):
    """Takes ``(shard of the user, value)``, all bytes; gives AUDIT events, JSON as bytes.

    Users are cleaned up side by side, the events of one in turn. With ``dry_run`` nothing is changed. Raises
    StoreUnavailable, so that the bundle fails and is repeated. spec: user-deletion-cleanup §3
    """

    def __init__(
        self,
        job: str,
        stores: DeletionStores,
        names: UserTables,
        *,
        size: int,
        dry_run: bool,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._names = names
        self._dry_run = dry_run
        self._clock = clock
        self._new_id = new_id

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._profiles = [profiles.open() for profiles in self._stores.profiles]
        self._accounts = self._stores.accounts.open()
        self._identities = self._stores.identities.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        deletions = [deletion_of(parse_object(payload)) for payload in payloads]
        outputs = []
        for turn in in_turns([(deletion.user_id, *deletion.managed) for deletion in deletions]):
            outputs += self._clean_up_all([deletions[place] for place in turn])
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "skipped-message-count")
        return []

    def _clean_up_all(self, deletions: list[Deletion]) -> list[TaggedOutput]:
        """Clean up users of whom each occurs once.

        The marks of all are set together, after the last call that may fail and have them all cleaned up again: who is
        marked by then has no audit event.
        """
        answers = side_by_side(self._calls, [partial(self._clean_up, deletion) for deletion in deletions])
        cleanups = []
        for deletion, answer in zip(deletions, answers, strict=True):
            if isinstance(answer, _Cleanup):
                cleanups.append(answer)
            else:
                count(self._job, "skipped-message-count")
                _log.error("%s is skipped: %s", _named(deletion), type(answer).__name__, exc_info=answer)
        self._blank([cleanup for cleanup in cleanups if cleanup.is_to_be_blanked])
        return [output for cleanup in cleanups for output in self._outputs(cleanup)]

    # --- one user

    def _clean_up(self, deletion: Deletion) -> _Cleanup:
        """Everything but the user's own row."""
        cleanup = _Cleanup(deletion)
        try:
            answer = self._read_account(cleanup)
            steps = self._steps_of_deleted(cleanup) if answer is None else self._steps_of_active(cleanup, answer)
            cleanup.report.carry_out(steps, dry_run=self._dry_run)
            for managed in deletion.managed:
                self._clean_up_managed(cleanup, managed)
        except (_NotThisUser, ServiceRefused, Refused) as error:
            cleanup.path = f"skipped: {error}"
            cleanup.counts["skipped-message-count"] += 1
            cleanup.is_to_be_blanked = cleanup.is_told = False
        return cleanup

    def _read_account(self, cleanup: _Cleanup) -> dict[str, Any] | None:
        """What the user read gives; None when the account is deleted already. spec §3.1"""
        try:
            answer = self._accounts.read(cleanup.deletion.user_id)
        except UserBlocked:
            cleanup.counts["api-read-success-count"] += 1
            return None
        if answer is None:
            cleanup.counts["api-read-miss-count"] += 1
            raise _NotThisUser("the user service knows no such user")
        cleanup.counts["api-read-success-count"] += 1
        return answer

    def _steps_of_active(self, cleanup: _Cleanup, answer: dict[str, Any]) -> list[Step]:
        """The checklist of a user whom nothing was deleted of. spec §3.2"""
        deletion = cleanup.deletion
        user_id, organisation_id, _, _ = deletion
        if not is_user_of(answer.get("identifier"), answer.get("rootOrgId"), user_id, organisation_id):
            raise _NotThisUser("the user service names another user or organisation")
        row = self._first(Select(self._names.user, (), {"id": user_id}))
        if row is not None and row["status"] == DELETED:
            cleanup.path = "active, of status deleted"
            return [self._membership(deletion), *self._cached_profile(user_id)]
        cleanup.path = "active"
        cleanup.is_to_be_blanked, cleanup.is_told = row is not None, True
        external_ids = self._select(
            Select(self._names.external_id, ("provider", "idtype", "userid", "externalid"), {"userid": user_id})
        )
        return [
            self._membership(deletion),
            self._credentials(cleanup),
            self._lookups(user_id, lookups_of(row or {}, answer, external_ids)),
            self._external_ids(external_ids),
            *self._cached_profile(user_id),
        ]

    def _steps_of_deleted(self, cleanup: _Cleanup) -> list[Step]:
        """The checklist of a user whose account the userorg service has deleted. spec §3.3"""
        cleanup.path = "deleted"
        user_id, organisation_id, _, _ = cleanup.deletion
        row = self._first(Select(self._names.user, ("id", "userid", "rootorgid"), {"id": user_id}))
        if row is None:
            raise _NotThisUser("the user is deleted, and has no row")
        found = row["id"] if row["userid"] is None else row["userid"]
        if not is_user_of(found, row["rootorgid"], user_id, organisation_id):
            raise _NotThisUser("the row names another user or organisation")
        return [self._membership(cleanup.deletion), *self._cached_profile(user_id)]

    def _clean_up_managed(self, cleanup: _Cleanup, user_id: str) -> None:
        """A child account; its row is blanked last, too. spec §3.11"""
        columns = ("id", "userid", "email", "phone", "username", "status")
        try:
            row = self._first(Select(self._names.user, columns, {"id": user_id}))
        except Refused:
            row = None
        if row is None:
            _log.info("%s: a managed user has no row", _named(cleanup.deletion))
            return
        blank = Update(self._names.user, {"id": user_id}, BLANKED)
        steps = [
            self._lookups(user_id, lookups_of(row, {}, [])),
            *self._cached_profile(user_id),
            Step(USER, 1, lambda: self._write([blank])),
        ]
        cleanup.report.carry_out(steps, dry_run=self._dry_run)
        if not self._dry_run:
            cleanup.counts["db-update-success-count"] += 1

    # --- the steps of the checklists

    def _membership(self, deletion: Deletion) -> Step:
        """spec §3.4"""
        where = {"userid": deletion.user_id, "organisationid": deletion.organisation_id}
        found = self._select(Select(self._names.membership, ("userid",), where))

        def leave() -> int:
            left = {"isdeleted": True, "orgleftdate": left_at(self._clock())}
            return self._write([Update(self._names.membership, where, left)])

        return Step(MEMBERSHIP, len(found), leave)

    def _credentials(self, cleanup: _Cleanup) -> Step:
        """A Keycloak that is away, or refuses, holds up nothing. spec §3.5, §6"""
        deletion = cleanup.deletion

        def failed(error: Exception) -> int:
            _log.warning("%s: the credentials stay: %s", _named(deletion), error)
            cleanup.counts["keycloak-failed-count"] += 1
            cleanup.outcomes["keycloakCredentials"] = False
            return 0

        def remove() -> int:
            cleanup.outcomes["keycloakCredentials"] = True
            try:
                return int(self._identities.remove(deletion.user_id))
            except (ServiceRefused, StoreUnavailable) as error:
                return failed(error)

        try:
            found = int(self._dry_run and self._identities.has(deletion.user_id))
        except (ServiceRefused, StoreUnavailable) as error:
            found = failed(error)
        return Step(KEYCLOAK, found, remove)

    def _lookups(self, user_id: str, lookups: Iterable[tuple[str, str]]) -> Step:
        """Those of others, by the same value, stay. spec §3.6"""
        wheres = [{"type": kind, "value": value} for kind, value in lookups]
        found = self._tables.select([Select(self._names.lookup, ("userid",), where) for where in wheres])
        # a value that can not be looked for was never there
        rows = [
            (where, row)
            for where, of_value in zip(wheres, found, strict=True)
            for row in ([] if isinstance(of_value, Refused) else of_value)
        ]
        theirs = [
            Delete(self._names.lookup, where) for where, row in rows if not row["userid"] or row["userid"] == user_id
        ]
        return Step(LOOKUP, len(rows), lambda: self._write(theirs))

    def _external_ids(self, external_ids: Iterable[Row]) -> Step:
        """spec §3.7"""
        key = ("userid", "idtype", "provider")
        deletes = [Delete(self._names.external_id, {name: row[name] for name in key}) for row in external_ids]
        return Step(EXTERNAL_ID, len(deletes), lambda: self._write(deletes))

    def _cached_profile(self, user_id: str) -> list[Step]:
        """spec §3.8"""
        key = redis_keys.user(user_id)
        return [
            Step(PROFILE, sum(profiles.exists([key])), partial(profiles.delete, [key])) for profiles in self._profiles
        ]

    # --- the mark, and what is told

    def _blank(self, cleanups: Sequence[_Cleanup]) -> None:
        """spec §3.9"""
        blanks = [Update(self._names.user, {"id": cleanup.deletion.user_id}, BLANKED) for cleanup in cleanups]
        changed = 0 if self._dry_run else 1
        if changed:
            self._write(blanks)
        for cleanup in cleanups:
            cleanup.report.note(USER, 1, changed)
            cleanup.counts["db-update-success-count"] += changed

    def _outputs(self, cleanup: _Cleanup) -> Iterator[TaggedOutput]:
        is_skipped = bool(cleanup.counts["skipped-message-count"])
        cleanup.counts["success-message-count"] += not is_skipped and not self._dry_run
        for name, times in (cleanup.counts + cleanup.report.counts()).items():
            count(self._job, name, times)
        changed = f"; changed: {cleanup.report}" if cleanup.report.found else ""
        dry = " (dry run: nothing is changed)" if self._dry_run else ""
        _log.info("%s: %s%s%s", _named(cleanup.deletion), cleanup.path, changed, dry)
        if cleanup.is_told and not self._dry_run:
            outcomes = {
                "userLookUpTable": True,
                "userExternalIdTable": True,
                "userTable": cleanup.is_to_be_blanked,
                "redisCache": True,
            }
            audit = deletion_audit(cleanup.deletion, {**cleanup.outcomes, **outcomes}, self._clock(), self._new_id)
            yield TaggedOutput(AUDIT, audit)

    # --- the tables

    def _first(self, select: Select) -> Row | None:
        return next(iter(self._select(select)), None)

    def _select(self, select: Select) -> list[Row]:
        (rows,) = self._tables.select([select])
        if isinstance(rows, Refused):
            raise rows
        return rows

    def _write(self, writes: Sequence[Write]) -> int:
        """Each for itself; how many there were. Raises Refused."""
        for refused in self._tables.write([[write] for write in writes]):
            if refused is not None:
                raise refused
        return len(writes)


def _named(deletion: Deletion) -> str:
    return f"The deletion of {deletion.user_id:.100} ({deletion.mid:.100})"
