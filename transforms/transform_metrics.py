"""The step that carries usage metrics of an imported content over to its original.

spec: metrics-data-transformer §2, §3, §6
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import Done, owners_side_by_side
from transforms.services import ImportedContents, ServiceRefused
from transforms.stores import Opens, StoreUnavailable

__all__ = ["MetricsStores", "SelectMetrics", "TransformMetrics", "content_of", "new_values", "origin_of"]

_log = logging.getLogger(__name__)

DRAFT = ".img"


def new_values(event: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """The new values of those of ``metrics`` that the event changes, in their order; null is none. spec §3.1, §3.2"""
    properties = value_at(event, "transactionData.properties")
    if not isinstance(properties, dict):
        return {}
    values = {name: value_at(properties[name], "nv") for name in metrics if name in properties}
    return {name: value for name, value in values.items() if value is not None}


def content_of(content_id: str) -> str:
    """What a content and its draft have in common. spec §3"""
    return content_id.removesuffix(DRAFT)


def origin_of(content: Mapping[str, Any]) -> str | None:
    """The content that this one was imported from; None when it was not. spec §3.4"""
    data = content.get("originData")
    if isinstance(data, str):
        try:
            data = parse_object(data)
        except NotAnObject:
            data = None
    return id_at(content, "origin") if isinstance(data, dict) and data else None


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectMetrics(beam.DoFn):
    """Takes records, gives ``(shard of the content, value)`` for those that change a metric; FAILED gets what can not
    be read.

    Most events are not for this job and end here, after one parse. (To look for the names in the bytes first costs
    more than the parse, and could not tell a foreign event from a broken one.) spec §3.1
    """

    def __init__(self, job: str, shards: int, metrics: Sequence[str]) -> None:
        self._job = job
        self._shards = shards
        self._metrics = tuple(metrics)

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        try:
            event = parse_object(record.value)
        except NotAnObject as error:
            count(self._job, "failed-events-count")
            _log.warning("%s can not be read: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value))
            return
        content_id = id_at(event, "nodeUniqueId") if new_values(event, self._metrics) else None
        if content_id is None:
            count(self._job, "skipped-events-count")
            return
        yield shard_of(content_of(content_id), self._shards), record.value or b""


@dataclass(frozen=True)
class MetricsStores:
    """The recipes: where contents are consumed, where they come from, and where both are waited for."""

    consumption: Opens[ImportedContents]
    sourcing: Opens[ImportedContents]
    calls: Opens[Executor]


class TransformMetrics(KeyedBatch):
    """Takes ``(shard, event)``, all bytes; gives FAILED values.

    ``gives_up``: an event whose calls fail as long as they are tried is a dead letter. Otherwise nobody would get it:
    StoreUnavailable is raised, so that the bundle fails and is repeated. spec §6
    """

    def __init__(self, job: str, stores: MetricsStores, metrics: Sequence[str], *, size: int, gives_up: bool) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._metrics = tuple(metrics)
        self._gives_up = gives_up

    def setup(self) -> None:
        self._consumption = self._stores.consumption.open()
        self._sourcing = self._stores.sourcing.open()
        self._calls = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        by_content: dict[str, list[bytes]] = defaultdict(list)
        for payload in payloads:
            by_content[content_of(parse_object(payload)["nodeUniqueId"])].append(payload)
        return owners_side_by_side(self._job, self._calls, by_content, self._transform_all, self.refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        count(self._job, "failed-events-count")
        return [self._dead_letter(payload, f"could not be handled: {type(error).__name__}")]

    def _dead_letter(self, payload: bytes, reason: str) -> TaggedOutput:
        return TaggedOutput(FAILED, dead_letter(self._job, reason, payload, parse_object(payload)))

    def _transform_all(self, content: str, payloads: list[bytes]) -> list[Done]:
        """Events of one content, in turn."""
        return [self._transform(payload) for payload in payloads]

    def _transform(self, payload: bytes) -> Done:
        event = parse_object(payload)
        try:
            is_updated = self._update(event)
        except ServiceRefused as error:
            return self._failed(event, payload, error)
        except StoreUnavailable as error:
            if not self._gives_up:
                raise
            return self._failed(event, payload, error)
        return Done(counts=Counter({"success-events-count" if is_updated else "skipped-events-count": 1}))

    def _update(self, event: dict[str, Any]) -> bool:
        """Whether the original has the new values now. Raises ServiceRefused, StoreUnavailable. spec §3.3-§3.7"""
        origin = origin_of(self._consumption.read(event["nodeUniqueId"]))
        if origin is None or not self._sourcing.read(origin):
            return False
        channel = event.get("channel")
        return self._sourcing.update(
            origin, channel if isinstance(channel, str) else "", new_values(event, self._metrics)
        )

    def _failed(self, event: Mapping[str, Any], payload: bytes, error: Exception) -> Done:
        _log.error("The metrics of %.200s were not carried over: %s", event["nodeUniqueId"], error)
        return Done([self._dead_letter(payload, str(error))], Counter({"failed-events-count": 1}))
