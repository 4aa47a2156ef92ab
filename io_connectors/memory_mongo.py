"""MongoDB's twin in memory (see ``io_connectors.memory``): mongomock, and what it does not refuse as a server does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson

from io_connectors.memory import Twin
from io_connectors.one_per_process import one_per_process
from transforms.stores import Refused, Updated

__all__ = ["MemoryCollections", "MemoryMongo"]

Document = dict[str, Any]


@dataclass(frozen=True)
class MemoryMongo:
    """The recipe of a database."""

    name: str

    def open(self) -> MemoryCollections:
        """The twin of this name."""
        return one_per_process(self, MemoryCollections)


class MemoryCollections(Twin):
    """The collections (``transforms.stores.Collections``) of a database."""

    def __init__(self) -> None:
        super().__init__()
        import mongomock  # noqa: PLC0415 - an installation without the tests has none

        self._database: Any = mongomock.MongoClient().database

    def find(self, collection: str, where: Mapping[str, Any]) -> list[Document]:
        """As the protocol says."""
        _check_bson(where)
        with self._call():
            self._operate("find", (collection, where))
            return list(self._collection(collection).find(where))

    def update(self, collection: str, where: Mapping[str, Any], change: Mapping[str, Any]) -> Updated:
        """As the protocol says; up to a document that can not be changed, all are."""
        _check_bson(where, change)
        with self._call():
            self._operate("update", (collection, where, change))
            documents = self._collection(collection)
            modified = 0
            found = list(documents.find(where))
            for document in found:
                for path in change.get("$set", {}):
                    _check_parents(document, path)
                modified += documents.update_one({"_id": document["_id"]}, change).modified_count
            return Updated(len(found), modified)

    def insert_if_missing(self, collection: str, where: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
        """As the protocol says."""
        _check_bson(where, document)
        with self._call():
            self._operate("insert_if_missing", (collection, where, document))
            result = self._collection(collection).update_one(where, {"$setOnInsert": document}, upsert=True)
            return result.upserted_id is not None

    def insert(self, collection: str, *documents: Mapping[str, Any]) -> None:
        """Put documents in, for a test."""
        with self._lock:
            self._collection(collection).insert_many([dict(document) for document in documents])

    def documents(self, collection: str) -> list[Document]:
        """All documents of a collection, in the order in which they came."""
        with self._lock:
            return list(self._collection(collection).find({}))

    def names(self) -> list[str]:
        """The collections that there are."""
        with self._lock:
            return sorted(self._database.list_collection_names())

    def _collection(self, name: str) -> Any:
        return self._database[name]


def _check_bson(*documents: Mapping[str, Any]) -> None:
    for document in documents:
        try:
            bson.encode(document)
        except (bson.errors.BSONError, OverflowError, UnicodeEncodeError) as error:
            raise Refused(f"MongoDB in memory: no BSON: {type(error).__name__}") from None


def _check_parents(document: Mapping[str, Any], path: str) -> None:
    """A field is set in an object only, or where there is nothing yet."""
    at: Any = document
    for name in path.split(".")[:-1]:
        if name not in at:
            return
        at = at[name]
        if not isinstance(at, Mapping):
            raise Refused("MongoDB in memory: a field can not be made in what is no object")
