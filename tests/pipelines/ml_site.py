"""The ML services' MongoDB in memory, and a job on it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import apache_beam as beam
import orjson

from io_connectors.memory_mongo import MemoryMongo
from io_connectors.threads import Threads
from pipelines.channels import MemorySource
from pipelines.runtime import refuse_failures_without_sink
from schemas.counters import COUNTERS
from transforms.counters import counted_in_this_process, forget_counts
from transforms.remove_ml_users import MlStores

numbers = count()


class MlSite:
    """What an ML job sees of an installation."""

    def __init__(self) -> None:
        self.name = f"ml-{next(numbers)}"
        self.recipe = MemoryMongo(self.name)
        self.mongo = self.recipe.open()
        self.stores = MlStores(self.recipe, Threads(self.name, 8))
        self.counts: dict[str, int] = {}

    def run(self, job: Any, *values: bytes | dict[str, Any] | None, **settings: Any) -> MlSite:
        """Run a job over the values (objects as JSON); what it counted is kept here."""
        raw = tuple(value if isinstance(value, bytes | None) else orjson.dumps(value) for value in values)
        forget_counts(job.NAME)
        try:
            with beam.Pipeline(runner="DirectRunner") as pipeline:
                records = MemorySource(raw, topic="events", lasting=True).read(pipeline)
                assert job.build(records, job.Settings(**{"job.env": "dev", **settings}), self.stores) == {}
                refuse_failures_without_sink(pipeline)
        finally:
            self.counts = counted_in_this_process(job.NAME)
            assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """All documents of all collections."""
        return {name: self.mongo.documents(name) for name in self.mongo.names()}

    def updates(self) -> list[tuple[str, Any, Any]]:
        """(collection, filter, change or document) of what was written."""
        return [operation.subject for operation in self.mongo.operations if operation.name != "find"]


def without_ids(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in document.items() if name != "_id"} for document in documents]
