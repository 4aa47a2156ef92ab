"""The stores of a day: in memory or on real servers, and what is in them afterwards, to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import orjson
import redis
import requests
from cassandra.cluster import Cluster
from cassandra.query import dict_factory

from io_connectors.cassandra import Cassandra
from io_connectors.http import Http
from io_connectors.memory import MemoryCassandra, MemoryCollectionStatuses, MemoryRedis
from io_connectors.memory_http import MemoryHttp
from io_connectors.redis import Redis
from io_connectors.services import ContentReadApi, SearchService
from io_connectors.threads import Threads
from pipelines import (
    activity_aggregate_updater,
    assessment_aggregator,
    enrolment_reconciliation,
    merge_user_courses,
    relation_cache_updater,
)
from schemas.cassandra import create_statements
from tests.day.events import RETIRED, UNKNOWN
from tests.day.run import Jobs
from transforms.assessment_scores import AssessmentStores
from transforms.reconcile_progress import ReconciliationStores
from transforms.stores import KeyValues, Tables, Update
from transforms.update_progress import ProgressStores
from transforms.update_relation_cache import RelationCacheStores

__all__ = ["Site", "State", "in_memory", "on_servers"]

STATUSES = {RETIRED: "Retired", UNKNOWN: "Live"}
LEARNERS = ("user_content_consumption", "user_activity_agg", "user_enrolments", "assessment_aggregator")
# none that anything else on the stack uses
RELATIONS, UNITS, CONTENTS, DEDUP = 14, 11, 9, 15
AT_ONCE = 2_000
SECONDS = 120

State = dict[str, list[bytes]]
"""What each table and each kind of key in Redis holds: a line of JSON for each row, in an order of their own."""


@dataclass(frozen=True)
class Site:
    """Stores, and the jobs on them. ``rows`` gives all rows of a table by its full name."""

    keyspace: str
    hierarchies: str
    jobs: Jobs
    tables: Tables
    caches: Mapping[str, KeyValues]
    rows: Callable[[str], list[dict[str, Any]]]
    forget: Callable[[], None] = lambda: None

    def write(self, updates: list[Update]) -> None:
        """What the services of the installation write."""
        for start in range(0, len(updates), AT_ONCE):
            # in the order given: an hour may bring two statuses of a content
            latest: dict[Any, list[Update]] = {}
            for update in updates[start : start + AT_ONCE]:
                latest[update.table, *update.where.items()] = [update]
            assert set(self.tables.write(list(latest.values()))) == {None}
        self.forget()

    def state(self) -> State:
        """All that there is, but for the plans of records (transforms.progress.Plan), which say who did the work."""
        names = [f"{self.keyspace}.{name}" for name in LEARNERS]
        found = {name.rpartition(".")[2]: sorted(map(_line, self.rows(name))) for name in names}
        for kind, cache in self.caches.items():
            keys = sorted(key for key in cache.scan("") if not key.startswith("plan:"))
            values = cache.get(keys) if kind in ("units", "dedup") else map(sorted, cache.members(keys))
            found[kind] = [orjson.dumps(pair) for pair in zip(keys, values, strict=True)]
        return found


def _line(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(_plain(row), default=str, option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    """As JSON has it; the drivers' maps and user defined types as dictionaries, an empty collection as none."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if hasattr(value, "items"):
        return {str(name): _plain(member) for name, member in value.items()} or None
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value] or None
    return value


def _stores_of(tables: Any, cache: Callable[[int], Any], collections: Any, contents: Any) -> dict[ModuleType, Any]:
    """The stores of each job, as its own function ``stores`` puts them together."""
    calls = Threads("day", 4)
    return {
        relation_cache_updater: RelationCacheStores(tables, cache(RELATIONS), cache(UNITS)),
        activity_aggregate_updater: ProgressStores(tables, cache(RELATIONS), cache(DEDUP), collections),
        assessment_aggregator: AssessmentStores(tables, cache(RELATIONS), cache(CONTENTS), contents, calls),
        enrolment_reconciliation: ReconciliationStores(tables, cache(RELATIONS), collections),
        merge_user_courses: tables,
    }


def _site(keyspace: str, hierarchies: str, stores: tuple[Any, Any, Any, Any], rows: Any, forget: Any) -> Site:
    tables, cache, _, _ = stores
    jobs = Jobs(keyspace, hierarchies, _stores_of(*stores))
    caches = {"relations": cache(RELATIONS).open(), "units": cache(UNITS).open(), "dedup": cache(DEDUP).open()}
    return Site(keyspace, hierarchies, jobs, tables.open(), caches, rows, forget)


def in_memory(name: str, totals: Mapping[str, str]) -> Site:
    """A site on the stores' twins; ``totals`` are in its content cache."""
    cassandra, collections, http = MemoryCassandra(name), MemoryCollectionStatuses(name), MemoryHttp(name)
    http.serve(lambda *_: (200, b'{"responseCode":"RESOURCE_NOT_FOUND"}'))
    for course, status in STATUSES.items():
        collections.open().set_status(course, status)
    MemoryRedis(name, CONTENTS).open().set(totals)
    contents = ContentReadApi("http://services/read", http)
    twin = cassandra.open()

    def forget() -> None:
        twin.operations.clear()
        for database in (RELATIONS, UNITS, CONTENTS, DEDUP):
            MemoryRedis(name, database).open().operations.clear()

    stores = (cassandra, lambda database: MemoryRedis(name, database), collections, contents)
    return _site("sunbird_courses", "dev_hierarchy_store", stores, twin.rows, forget)


@contextmanager
def on_servers(settings: Mapping[str, Any], run: str, totals: Mapping[str, str]) -> Iterator[Site]:
    """A site on the servers that a stack's settings name, in keyspaces and databases of its own, gone afterwards."""
    keyspaces = {"sunbird_courses": f"{run}_courses", "dev_hierarchy_store": f"{run}_hierarchies"}
    collections = SearchService(settings["service.search.basePath"], Http())
    contents = ContentReadApi(f"{settings['service.content.basePath']}/content/v3/read", Http())
    databases = (RELATIONS, UNITS, CONTENTS, DEDUP)
    servers = [redis.Redis(settings["redis.host"], settings["redis.port"], database) for database in databases]
    cluster = Cluster(
        [settings["lms-cassandra.host"]],
        port=settings["lms-cassandra.port"],
        connect_timeout=10,
        control_connection_timeout=10,
    )
    try:
        session = cluster.connect()
        session.default_timeout = SECONDS
        for server in servers:
            server.flushdb()
        for text in create_statements("dev"):
            if any(known in text for known in keyspaces):
                for known, own_name in keyspaces.items():
                    text = text.replace(known, own_name)
                session.execute(text)
        for course, status in STATUSES.items():
            stub = f"{settings['service.search.basePath']}/stub/collections/{course}"
            requests.put(stub, json={"status": status}, timeout=30).raise_for_status()
        session.row_factory = dict_factory

        def cache(database: int) -> Redis:
            return Redis(settings["redis.host"], settings["redis.port"], database)

        def rows(name: str) -> list[dict[str, Any]]:
            return list(session.execute(f"SELECT * FROM {name}"))  # noqa: S608

        cache(CONTENTS).open().set(totals)
        cassandra = Cassandra(settings["lms-cassandra.host"], settings["lms-cassandra.port"])
        made = (cassandra, cache, collections, contents)
        yield _site(keyspaces["sunbird_courses"], keyspaces["dev_hierarchy_store"], made, rows, lambda: None)
        for own_name in keyspaces.values():
            session.execute(f"DROP KEYSPACE {own_name}")
    finally:
        for server in servers:
            server.flushdb()
            server.close()
        cluster.shutdown()
