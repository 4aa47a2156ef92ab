"""A job in the shadow of its predecessor: it computes everything, writes nothing, and tells where the stores differ
from what it would have written.

Reads go to the real stores. A write is compared with what is there, and counted as the same or as different; a call
of a service that changes something there is counted, not made, and the event ends as one that the service refused.
The consumer group is one of its own, so the job that is at work loses no record.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import requests

from io_connectors import data_cache
from io_connectors.cassandra import Cassandra
from io_connectors.elasticsearch import Elasticsearch
from io_connectors.http import Answer, Calls, Http, Into
from io_connectors.memory import MemoryCassandra, MemoryCollectionStatuses, MemoryRedis
from io_connectors.memory_documents import MemoryElasticsearch
from io_connectors.memory_http import MemoryHttp
from io_connectors.memory_mail import MemoryMailServer
from io_connectors.memory_mongo import MemoryMongo
from io_connectors.memory_objects import MemoryObjectStore
from io_connectors.mongo import Mongo
from io_connectors.object_storage import ObjectStore
from io_connectors.pace import Pace
from io_connectors.redis import Redis
from io_connectors.smtp import Smtp
from io_connectors.threads import Threads
from pipelines.configuration import Loaded
from pipelines.settings import UsageError
from transforms.counters import count
from transforms.decode import value_at
from transforms.services import Documents, Mails, Objects, ServiceRefused
from transforms.stores import (
    Collections,
    Delete,
    HashChange,
    KeyValues,
    Opens,
    Refused,
    Select,
    Tables,
    Update,
    Updated,
    Write,
)

__all__ = ["CALLS", "DIFFERS", "SAME", "Comparison", "in_the_shadow", "shadowed"]

_log = logging.getLogger(__name__)

SAME = "shadow-same-count"
DIFFERS = "shadow-differs-count"
CALLS = "shadow-calls-count"

# Columns that differ by nature: when something was done, and counts that a second handling adds to.
BY_NATURE = frozenset(
    {
        *("viewcount", "completedcount", "agg_last_updated", "datetime", "completedon", "lastupdatedon"),
        *("updated_on", "updatedat", "updated_at", "orgleftdate", "lastUpdatedOn"),
    }
)
# Columns of keys that are no ids: e-mail addresses and the like, of user_lookup.
PERSONAL = frozenset({"value"})
# What the services are asked by POST without anything being changed.
ASKING = ("/search", "/list", "/token")

LOGGED_AT_MOST = 1_000


def shadowed(job: ModuleType, loaded: Loaded) -> tuple[Any, Loaded]:
    """The job and its configuration as they run in the shadow. Raises UsageError for a job that has none."""
    overrides = {"kafka_group_id": f"{loaded.settings.kafka_group_id}-shadow", **getattr(job, "IN_THE_SHADOW", {})}  # type: ignore[attr-defined]
    settings = loaded.settings.model_copy(update=overrides)
    comparison = Comparison(job.NAME)

    def stores(settings: Any) -> Any:
        return in_the_shadow(job.stores(settings), comparison)

    stores(settings)  # what has no shadow is told at once
    members = {name: getattr(job, name) for name in ("NAME", "Settings", "build", "beam_options")}
    return SimpleNamespace(**members, stores=stores), dataclasses.replace(loaded, settings=settings)


@dataclass(frozen=True)
class Comparison:
    """What is told of a job's writes: counters, and a line of log for each difference, with ids and no values."""

    job: str
    ignored: frozenset[str] = BY_NATURE

    def of(self, what: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Compare what would be written with what is there; ``what`` names the row, key or document."""
        differing = [
            name
            for name, value in wanted.items()
            if name not in self.ignored and _plain(value) != _plain(found.get(name))
        ]
        self.told(what, differing)

    def told(self, what: str, differing: Collection[str]) -> None:
        """Note a write whose members ``differing`` are not as they would be."""
        count(self.job, DIFFERS if differing else SAME)
        if differing and _logged.may():
            _log.info("%s: %s differs: %s", self.job, what, ", ".join(sorted(differing)))


class _Logged:
    """How many differences were logged in this process: the first ones are enough to see what it is."""

    def __init__(self) -> None:
        self._lines = 0

    def may(self) -> bool:
        self._lines += 1
        return self._lines <= LOGGED_AT_MOST


_logged = _Logged()


@dataclass(frozen=True)
class _Shadow:
    """The recipe of a store that is read and not written."""

    recipe: Opens[Any]
    around: Callable[[Any, Comparison], Any]
    comparison: Comparison

    def open(self) -> Any:
        return self.around(self.recipe.open(), self.comparison)


def in_the_shadow(stores: Any, comparison: Comparison) -> Any:
    """The same recipes, of which none writes. Raises UsageError for one that nothing is known of."""
    around = _AROUND.get(type(stores))
    if around is not None:
        return _Shadow(stores, around, comparison)
    if isinstance(stores, tuple) and not hasattr(stores, "_fields"):
        return tuple(in_the_shadow(one, comparison) for one in stores)
    if not dataclasses.is_dataclass(stores) or isinstance(stores, type):
        if hasattr(stores, "open"):
            raise UsageError(f"there is no shadow of {type(stores).__name__}")
        return stores
    inner = {field.name: getattr(stores, field.name) for field in dataclasses.fields(stores) if field.init}
    replaced = {name: in_the_shadow(value, comparison) for name, value in inner.items()}
    changed = {name: value for name, value in replaced.items() if value is not inner[name]}
    if not changed and hasattr(stores, "open") and not isinstance(stores, _HARMLESS):
        raise UsageError(f"there is no shadow of {type(stores).__name__}: this job can not run in the shadow")
    return dataclasses.replace(stores, **changed) if changed else stores


class ShadowTables:
    """Cassandra, read only."""

    def __init__(self, tables: Tables, comparison: Comparison) -> None:
        self._tables = tables
        self._comparison = comparison

    def select(self, selects: Sequence[Select]) -> list[Any]:
        return self._tables.select(selects)

    def write(self, batches: Sequence[Sequence[Write]]) -> list[Refused | None]:
        writes = [write for batch in batches for write in batch]
        found = self._tables.select([Select(write.table, (), write.where) for write in writes])
        for write, rows in zip(writes, found, strict=True):
            shown = {name: value for name, value in write.where.items() if name not in PERSONAL}
            what = f"{write.table} {shown}"
            if isinstance(rows, Refused):
                self._comparison.told(what, ["all of it"])
            elif isinstance(write, Delete):
                self._comparison.told(what, ["the row"] if rows else [])
            elif rows or not write.if_exists:
                self._comparison.of(what, _columns(write), _flat(write, rows[0] if rows else {}))
            else:
                self._comparison.told(what, [])
        return [None] * len(batches)


def _columns(update: Update) -> dict[str, Any]:
    """What an update writes: columns, and entries of maps as ``column[key]``, but of maps that differ by nature."""
    entries = {
        f"{column}[{key}]": value
        for column, added in update.add.items()
        if column not in BY_NATURE
        for key, value in added.items()
    }
    return {**update.assign, **entries}


def _flat(update: Update, row: Mapping[str, Any]) -> dict[str, Any]:
    entries = {
        f"{column}[{key}]": (row.get(column) or {}).get(key) for column, add in update.add.items() for key in add
    }
    return {**row, **entries}


class ShadowKeyValues:
    """A database of Redis, read only."""

    def __init__(self, store: KeyValues, comparison: Comparison) -> None:
        self._store = store
        self._comparison = comparison
        for name in _READS:
            setattr(self, name, getattr(store, name))

    def set(self, values: Mapping[str, str], expiry: int | None = None) -> None:
        for key, found in zip(values, self._store.get(list(values)), strict=True):
            self._comparison.of(f"key {key}", {"value": values[key]}, {"value": found})

    def replace_sets(self, sets: Mapping[str, Collection[str]]) -> None:
        for key, found in zip(sets, self._store.members(list(sets)), strict=True):
            self._comparison.told(f"key {key}", [] if frozenset(sets[key]) == found else ["members"])

    def add_members(self, key: str, members: Collection[str]) -> None:
        [found] = self._store.members([key])
        self._comparison.told(f"key {key}", [] if set(members) <= found else ["members"])

    def delete(self, keys: Sequence[str]) -> int:
        there = self._store.exists(keys)
        for key, is_there in zip(keys, there, strict=True):
            self._comparison.told(f"key {key}", ["the key"] if is_there else [])
        return sum(there)

    def set_hash(self, key: str, values: Mapping[str, str]) -> None:
        self._comparison.told(f"key {key}", self._differing(key, values))

    def delete_hash_fields(self, key: str, fields: Sequence[str]) -> None:
        found = self._store.hash_map(key, all_fields=True)
        self._comparison.told(f"key {key}", [name for name in fields if name in found])

    def change_hashes(self, changes: Mapping[str, HashChange]) -> list[Refused | None]:
        for key, change in changes.items():
            found = self._store.hash_map(key, all_fields=True)
            removed = [name for name in change.remove if name in found]
            self._comparison.told(f"key {key}", [*self._differing(key, change.put), *removed])
        return [None] * len(changes)

    def _differing(self, key: str, values: Mapping[str, str]) -> list[str]:
        """The fields that would change, both sides read as the data cache reads them."""
        found = self._store.hash_map(key, all_fields=True)
        wanted = data_cache.hash_map(values, all_fields=True)
        return [name for name in values if wanted.get(name) != found.get(name)]


_READS = ("members", "exists", "get", "scan", "json_map", "hash_map", "hash_fields")


class ShadowDocuments:
    """Elasticsearch, read only."""

    def __init__(self, documents: Documents, comparison: Comparison) -> None:
        self._documents = documents
        self._comparison = comparison
        self.get = documents.get
        self.has_index = documents.has_index

    def index(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        self.update(index, documents)

    def update(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        for identifier, found in zip(documents, self._documents.get(index, list(documents)), strict=True):
            self._comparison.of(f"{index}/{identifier}", documents[identifier], found or {})

    def change(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        found = self._documents.get(index, list(documents))
        there = [identifier for identifier, document in zip(documents, found, strict=True) if document is not None]
        self.update(index, {identifier: documents[identifier] for identifier in there})

    def delete(self, index: str, ids: Sequence[str]) -> list[bool]:
        there = [found is not None for found in self._documents.get(index, ids)]
        for identifier, is_there in zip(ids, there, strict=True):
            self._comparison.told(f"{index}/{identifier}", ["the document"] if is_there else [])
        return there


class ShadowCollections:
    """A database of MongoDB, read only."""

    def __init__(self, collections: Collections, comparison: Comparison) -> None:
        self._comparison = comparison
        self.find = collections.find

    def update(self, collection: str, where: Mapping[str, Any], change: Mapping[str, Any]) -> Updated:
        found = self.find(collection, where)
        wanted = {**change.get("$set", {}), **dict.fromkeys(change.get("$unset", {}))}
        for document in found:
            there = {path: value_at(document, path) for path in wanted}
            self._comparison.of(f"{collection}/{document['_id']}", wanted, there)
        return Updated(len(found), 0)

    def insert_if_missing(self, collection: str, where: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
        is_there = bool(self.find(collection, where))
        self._comparison.told(f"{collection} {dict(where)}", [] if is_there else ["the document"])
        return not is_there


class ShadowObjects:
    """An object store, read only."""

    def __init__(self, objects: Objects, comparison: Comparison) -> None:
        self._objects = objects
        self._comparison = comparison
        self.get = objects.get

    def put(self, key: str, content: bytes, content_type: str) -> None:
        self._comparison.told(f"object {key}", [] if self._objects.get(key) == content else ["content"])

    def delete(self, key: str) -> None:
        self._comparison.told(f"object {key}", ["the object"] if self._objects.get(key) is not None else [])


class ShadowCalls(Calls):
    """HTTP, as far as it only asks."""

    def __init__(self, calls: Calls, comparison: Comparison) -> None:
        super().__init__(())
        self._calls = calls
        self._comparison = comparison

    def _exchange(self, request: requests.PreparedRequest, limit: int | None, into: Into | None = None) -> Answer:
        address = urlsplit(str(request.url))
        if request.method in ("GET", "HEAD") or address.path.endswith(ASKING):
            return self._calls._exchange(request, limit, into)
        count(self._comparison.job, CALLS)
        raise ServiceRefused(f"{address.netloc} is not called in the shadow ({request.method})")


class ShadowMails:
    """A mail server that nothing is sent by."""

    def __init__(self, mails: Mails, comparison: Comparison) -> None:
        self._comparison = comparison

    def send(self, recipients: Sequence[str], subject: str | None, html: str, identifier: str | None = None) -> None:
        count(self._comparison.job, CALLS)
        raise ServiceRefused("no mail is sent in the shadow")


_AROUND: dict[type, Callable[[Any, Comparison], Any]] = {
    **dict.fromkeys((Cassandra, MemoryCassandra), ShadowTables),
    **dict.fromkeys((Redis, MemoryRedis), ShadowKeyValues),
    **dict.fromkeys((Elasticsearch, MemoryElasticsearch), ShadowDocuments),
    **dict.fromkeys((Mongo, MemoryMongo), ShadowCollections),
    **dict.fromkeys((ObjectStore, MemoryObjectStore), ShadowObjects),
    **dict.fromkeys((Http, MemoryHttp), ShadowCalls),
    **dict.fromkeys((Smtp, MemoryMailServer), ShadowMails),
}
_HARMLESS = (Threads, Pace, MemoryCollectionStatuses)


def _plain(value: Any) -> Any:
    """A value as two clients would both say it: times in epoch ms, sets in an order, what is empty as nothing."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1_000)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None} or None
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return value
    members = [_plain(one) for one in value]
    return (sorted(members, key=repr) if isinstance(value, frozenset | set) else members) or None
