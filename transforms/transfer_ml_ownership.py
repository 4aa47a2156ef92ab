"""The step that hands over what a user owned in the ML services.

``transforms.ml_ownership`` has the rules. Here is the order: solutions, programs, what the taker gets, what the giver
loses; each write waited for. A user's roles are replaced only where they still are what was read.

spec: ml-transfer-ownership §3, §6
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from schemas.mongo import OWNERS, USER_EXTENSION, USER_ROLES
from transforms.counters import count
from transforms.decode import NotAnObject, Record, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.ml_ownership import (
    ROLES,
    HandOver,
    InvalidTransfer,
    NotForThisJob,
    OddDocument,
    Transfer,
    asset_updates,
    hand_over,
    roles_to_look_up,
    transfer_of,
)
from transforms.overlapped import Done, in_turns, owners_side_by_side
from transforms.remove_ml_users import MlStores
from transforms.stores import Refused, StoreUnavailable

__all__ = ["SelectMlTransfers", "TransferMlOwnership"]

_log = logging.getLogger(__name__)

# How often both documents are read again, because somebody else changed one of them before it was written.
ATTEMPTS = 10

Document = dict[str, Any]


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectMlTransfers(beam.DoFn):
    """Takes records, gives ``(shard, Transfer as bytes)`` of those that are for this job.

    All go to one shard: of the transfers that share a user, as giver or taker, none misses another.
    spec: ml-transfer-ownership §2
    """

    def __init__(self, job: str) -> None:
        self._job = job

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes]]:
        count(self._job, "total-transfer-events-count")
        try:
            transfer = transfer_of(parse_object(record.value), record.name)
        except NotForThisJob:
            count(self._job, "skipped-message-count")
            return
        except (NotAnObject, InvalidTransfer) as error:
            count(self._job, "skipped-message-count")
            _log.warning("%s is skipped: %s", record.name, error)
            return
        yield shard_of("", 1), transfer.to_bytes()


class TransferMlOwnership(KeyedBatch):
    """Takes ``(shard, Transfer)``, all bytes; nothing comes out.

    Transfers that share no user are done side by side, the others in turn. Raises StoreUnavailable, so that the bundle
    fails and is repeated from wherever it stood. spec: ml-transfer-ownership §3
    """

    def __init__(self, job: str, stores: MlStores, *, size: int) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores

    def setup(self) -> None:
        self._collections = self._stores.collections.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        transfers = [Transfer.from_bytes(payload) for payload in payloads]
        outputs = []
        for turn in in_turns([(transfer.giver, transfer.taker) for transfer in transfers]):
            works = {place: [transfers[place]] for place in turn}
            outputs += owners_side_by_side(self._job, self._calls, works, self._transfer_all, self._refuse)
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        return self._refuse(Transfer.from_bytes(payload), error)

    def _refuse(self, transfer: Transfer, error: Exception) -> list[TaggedOutput]:
        _log.error("%s could not be handled: %s", transfer.record, type(error).__name__)
        count(self._job, "skipped-message-count")
        return []

    def _transfer_all(self, _: int, transfers: list[Transfer]) -> list[Done]:
        return [self._transfer(transfer) for transfer in transfers]

    # --- one transfer

    def _transfer(self, transfer: Transfer) -> Done:
        done = Done()
        for update in asset_updates(transfer):
            try:
                self._count_change(done, self._collections.update(*update).modified > 0)
            except Refused as error:
                _log.warning("%s: %s keep their owner: %s", transfer.record, update.collection, error)
        if transfer.object_type != "solution":
            try:
                self._hand_over(transfer, done)
            except (Refused, OddDocument) as error:
                _log.warning("%s: the programs of both users by role stay as they are: %s", transfer.record, error)
        done.counts["success-message-count"] += 1
        return done

    def _hand_over(self, transfer: Transfer, done: Done) -> None:
        """Give and take roles and programs; again when somebody else changed a document after it was read.

        What was not given is not taken. Raises Refused, OddDocument, StoreUnavailable. spec §3.2, §3.3, §6
        """
        for _ in range(ATTEMPTS):
            giver, taker = self._extension(transfer.giver), self._extension(transfer.taker)
            user_roles = self._user_roles(roles_to_look_up(transfer, taker))
            plan = hand_over(transfer, giver, taker, user_roles)
            if self._give(transfer, plan, taker, done) and self._take(plan, giver, done):
                return
        raise StoreUnavailable(f"{USER_EXTENSION}: a document was changed {ATTEMPTS} times while it was handled")

    def _give(self, transfer: Transfer, plan: HandOver, taker: Document | None, done: Done) -> bool:
        if plan.new is not None:
            owner = {OWNERS[USER_EXTENSION]: transfer.taker}
            made = self._collections.insert_if_missing(USER_EXTENSION, owner, plan.new)
            self._count_change(done, made)
            return made
        if plan.taker is None or taker is None:
            return True
        return self._replace(taker, {"$set": {ROLES: plan.taker}}, done)

    def _take(self, plan: HandOver, giver: Document | None, done: Done) -> bool:
        if plan.giver is None or giver is None:
            return True
        return self._replace(giver, {"$unset": {ROLES: ""}} if plan.unset else {"$set": {ROLES: plan.giver}}, done)

    def _replace(self, read: Document, change: Mapping[str, Any], done: Done) -> bool:
        """Whether the document's roles still were what was read, and are replaced."""
        # null stands for a missing one, too
        where = {"_id": read["_id"], ROLES: read.get(ROLES)}
        updated = self._collections.update(USER_EXTENSION, where, change)
        self._count_change(done, updated.modified > 0)
        return updated.matched > 0

    def _extension(self, user_id: str) -> Document | None:
        return next(iter(self._collections.find(USER_EXTENSION, {OWNERS[USER_EXTENSION]: user_id})), None)

    def _user_roles(self, codes: list[str]) -> dict[str, Any]:
        """The ids of the roles that exist, by code."""
        if not codes:
            return {}
        found = self._collections.find(USER_ROLES, {"code": {"$in": codes}})
        return {role["code"]: role["_id"] for role in found if isinstance(role.get("code"), str)}

    @staticmethod
    def _count_change(done: Done, changed: bool) -> None:
        if changed:
            done.counts["transfer-ownership-cleanup-hit"] += 1
