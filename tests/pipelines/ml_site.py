"""The ML services' MongoDB in memory, and a job on it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from io_connectors.memory_mongo import MemoryMongo
from io_connectors.threads import Threads
from pipelines.in_memory import InMemory
from schemas.counters import COUNTERS
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
        ran = InMemory(job, job.Settings(**{"job.env": "dev", **settings}), self.stores)
        try:
            ran.run(*values, topic="events")
        finally:
            self.counts = ran.counted
            assert ran.written == {}
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
