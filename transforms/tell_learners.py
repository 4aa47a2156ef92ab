"""The steps that tell learners of their certificate: by e-mail and SMS, and in their feed.

Each is a step of its own, after the certificate stands: whatever goes wrong here is counted and logged, and never
touches the certificate. Nothing is sent a second time because of an error, only if the worker dies in between.

spec: collection-certificate-generator §3.9, §3.10
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.certificate.dates import held_date
from transforms.certificate.notification import email_request, feed_request, notify_template, sms_request
from transforms.cloud_paths import CloudPaths
from transforms.counters import count
from transforms.decode import NotAnObject
from transforms.issue_certificates import Told
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import side_by_side
from transforms.services import ServiceRefused, UserBlocked, Users
from transforms.stores import Opens, Refused, Row, Select, StoreUnavailable, Tables

__all__ = ["ByLearner", "FeedLearners", "NotifyLearners", "TellStores"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TellStores:
    """The recipes: ``batches`` is the full name of the table of course batches, ``calls`` where is waited."""

    tables: Opens[Tables]
    batches: str
    users: Opens[Users]
    calls: Opens[Executor]


@dataclass(eq=False)
class ByLearner(beam.PTransform[beam.PCollection[bytes], beam.PCollection[tuple[bytes, bytes]]]):
    """``Told`` as bytes to ``(shard of the learner, the same)``: what follows is committed for itself."""

    shards: int

    def expand(self, told: beam.PCollection[bytes]) -> beam.PCollection[tuple[bytes, bytes]]:
        return told | beam.Map(_by_learner, self.shards).with_output_types(tuple[bytes, bytes])


def _by_learner(told: bytes, shards: int) -> tuple[bytes, bytes]:
    return shard_of(Told.from_bytes(told).user_id, shards), told


class _TellLearners(KeyedBatch):
    def __init__(self, job: str, stores: TellStores, *, size: int) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores

    def setup(self) -> None:
        self._tables = self._stores.tables.open()
        self._users = self._stores.users.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def tell(self, told: Told, counts: Counter[str]) -> None:
        """Tell one learner. Raises ServiceRefused, StoreUnavailable, Refused, NotAnObject when that fails."""
        raise NotImplementedError

    def prepare(self, tolds: list[Told]) -> None:
        """Read at once what is needed for many. Raises nothing."""

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        tolds = [Told.from_bytes(payload) for payload in payloads]
        self.prepare(tolds)
        calls = [partial(self._tell, told) for told in tolds]
        for answer in side_by_side(self._calls, calls):
            if isinstance(answer, Exception):
                _log.error("A learner could not be told of a certificate", exc_info=answer)
                count(self._job, "failed-events-count")
                continue
            for name, times in answer.items():
                count(self._job, name, times)
        return []

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return []

    def _tell(self, told: Told) -> Counter[str]:
        counts: Counter[str] = Counter()
        try:
            self.tell(told, counts)
        except (ServiceRefused, StoreUnavailable, Refused, NotAnObject) as error:
            _log.warning("%s of a learner of batch %.200s failed: %s", type(self).__name__, told.batch_id, error)
            counts["failed-events-count"] += 1
        return counts


class NotifyLearners(_TellLearners):
    """Takes ``(shard, Told)``, all bytes, and sends an e-mail and, where there is a phone, an SMS; nothing comes out.

    ``clock`` gives epoch milliseconds. spec: collection-certificate-generator §3.9
    """

    def __init__(
        self,
        job: str,
        stores: TellStores,
        *,
        size: int,
        paths: CloudPaths,
        instance_name: str,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(job, stores, size=size)
        self._paths = paths
        self._instance_name = instance_name
        self._clock = clock

    def tell(self, told: Told, counts: Counter[str]) -> None:
        try:
            user = self._users.profile(told.user_id)
        except UserBlocked:
            counts["skipped-notify-user-count"] += 1
            return
        if not user:
            return
        template = self._template(told)
        if template is None:
            counts["skipped-notify-user-count"] += 1
            return
        first_name = user.get("firstName")
        email = email_request(
            template,
            recipient=told.user_id,
            first_name=first_name if isinstance(first_name, str) else "",
            course_name=told.course_name,
            held_on=held_date(_utc(told.completed_on), _utc(self._clock()).date()),
        )
        self._send(email, counts, "notified-user-count")
        phone = user.get("maskedPhone")
        if isinstance(phone, str) and phone.strip():
            self._send(sms_request(email, self._instance_name), counts)

    def prepare(self, tolds: list[Told]) -> None:
        """Read the templates of each batch once."""
        batches = list({(told.course_id, told.batch_id): None for told in tolds})
        wheres = [{"courseid": course_id, "batchid": batch_id} for course_id, batch_id in batches]
        selects = [Select(self._stores.batches, ("cert_templates",), where) for where in wheres]
        count(self._job, "db-course-batch-read-count", len(selects))
        found: list[list[Row] | Refused | StoreUnavailable]
        try:
            found = list(self._tables.select(selects))
        except StoreUnavailable as error:
            found = [error] * len(selects)
        self._rows = dict(zip(batches, found, strict=True))

    def _template(self, told: Told) -> dict[str, Any] | None:
        rows = self._rows[told.course_id, told.batch_id]
        if isinstance(rows, Refused | StoreUnavailable):
            raise rows
        return notify_template(rows[0]["cert_templates"], told.template_id, self._paths) if rows else None

    def _send(self, request: dict[str, Any], counts: Counter[str], accepted: str | None = None) -> None:
        try:
            self._users.notify(request)
        except (ServiceRefused, StoreUnavailable) as error:
            _log.warning("A notification was not accepted: %s", error)
            counts["failed-events-count"] += 1
            return
        if accepted:
            counts[accepted] += 1


class FeedLearners(_TellLearners):
    """Takes ``(shard, Told)``, all bytes, and writes into the user's feed; nothing comes out.

    spec: collection-certificate-generator §3.10
    """

    def tell(self, told: Told, counts: Counter[str]) -> None:
        self._users.feed(feed_request(recipient=told.user_id, course_id=told.course_id, course_name=told.course_name))
        counts["user-feed-count"] += 1


def _utc(epoch_millis: int | None) -> Any:
    return None if epoch_millis is None else datetime.fromtimestamp(epoch_millis / 1000, UTC)
