"""The step that keeps the relation cache: which records ask for it, and what is read and replaced in which order.

``transforms.relation_cache`` has the rules of what the sets and texts hold.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from schemas import redis_keys
from transforms.counters import count
from transforms.decode import NotAnObject, Record, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.relation_cache import (
    Node,
    ancestors,
    flatten,
    leaf_nodes,
    optional_nodes,
    root_of,
    stale_keys,
    unit_texts,
)
from transforms.stores import KeyValues, Opens, Refused, Row, Select, StoreUnavailable, Tables

__all__ = ["RelationCacheStores", "SelectRoots", "UpdateRelationCache"]

_log = logging.getLogger(__name__)

# One call to Redis carries about this much.
MEMBERS_AT_ONCE = 50_000
CHARACTERS_AT_ONCE = 8_000_000

SizedT = TypeVar("SizedT", bound=Sized)


@dataclass(frozen=True)
class RelationCacheStores:
    """The recipes of the stores: ``trees`` is the Cassandra of the published trees, ``relations`` the Redis database
    of leaf nodes, optional nodes and ancestors, ``units`` the one of the units map."""

    trees: Opens[Tables]
    relations: Opens[KeyValues]
    units: Opens[KeyValues]


class SelectRoots(beam.DoFn):
    """Takes Records and gives ``(shard, root)``, all bytes, for those that ask for a root to be cached.

    The others are counted as skipped and end here. spec: relation-cache-updater §2, §3.1
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, element: Record) -> Iterable[tuple[bytes, bytes]]:
        count(self._job, "total-events-count")
        root = None
        try:
            root = root_of(parse_object(element.value))
        except NotAnObject as error:
            _log.warning("Skipped %s-%d@%d: %s", element.topic, element.partition, element.offset, error)
        if root is None:
            count(self._job, "skipped-event-count")
            return []
        return [(shard_of(root, self._shards), root.encode())]


class UpdateRelationCache(KeyedBatch):
    """Takes ``(shard, root)`` and replaces all that is cached of the root; nothing comes out.

    ``size`` trees are read from ``table`` (``keyspace.name``) at once, and may be some megabytes each; then one root
    is written after the other. A tree that can not be read, or that Cassandra refuses to look for, is logged and
    counted, and the old keys of its root stay. A store is opened when there is something to ask of it. Raises
    StoreUnavailable, after counting a failure.

    spec: relation-cache-updater §3.2-§3.9, §6, §7
    """

    def __init__(self, job: str, stores: RelationCacheStores, table: str, *, size: int) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._table = table

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        roots = [payload.decode() for payload in payloads]
        try:
            selects = [Select(self._table, ("hierarchy",), {"identifier": root}) for root in roots]
            answers = self._stores.trees.open().select(selects)
            count(self._job, "db-read-count", len(roots))
            for root, answer in zip(roots, answers, strict=True):
                try:
                    self._update(root, answer)
                except StoreUnavailable:
                    raise
                except Exception as error:
                    self.refuse(root.encode(), error)
        except StoreUnavailable:
            count(self._job, "failed-events-count")
            raise
        return []

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        """This job has no failed topic: an operator repeats the root by an event of action relation-cache-update."""
        expected = isinstance(error, NotAnObject | Refused)
        _log.error("The tree of %.200r was not cached: %s", payload.decode(), error, exc_info=not expected)
        count(self._job, "failed-events-count")
        return []

    def _update(self, root: str, answer: list[Row] | Refused) -> None:
        if isinstance(answer, Refused):
            raise answer
        text = answer[0]["hierarchy"] if answer else None
        tree = parse_object(text) if text and not text.isspace() else None
        if not tree:
            _log.warning("There is no tree of %.200r", root)
            count(self._job, "skipped-event-count")
            return
        nodes = flatten(root, tree)
        relations = self._stores.relations.open()
        written: set[str] = set()
        for sets in _portions(_keyed_sets(root, nodes), MEMBERS_AT_ONCE):
            relations.replace_sets(sets)
            count(self._job, "cache-write-count", len(sets))
            written.update(sets)
        stale = stale_keys(root, relations.scan(f"{root}:"), written)
        if stale:
            relations.delete(stale)
        for texts in _portions(unit_texts(nodes), CHARACTERS_AT_ONCE):
            self._stores.units.open().set(texts)
            count(self._job, "cache-write-count", len(texts))
        count(self._job, "success-events-count")


def _keyed_sets(root: str, nodes: list[Node]) -> Iterator[tuple[str, Collection[str]]]:
    for identifier, members in leaf_nodes(nodes):
        yield redis_keys.leafnodes(root, identifier), members
    for identifier, members in optional_nodes(nodes):
        yield redis_keys.optionalnodes(root, identifier), members
    for identifier, members in ancestors(nodes):
        yield redis_keys.ancestors(root, identifier), members


def _portions(entries: Iterable[tuple[str, SizedT]], limit: int) -> Iterator[dict[str, SizedT]]:
    """The entries in order, cut where the lengths of the values have come to ``limit``."""
    portion: dict[str, SizedT] = {}
    size = 0
    for key, value in entries:
        portion[key] = value
        size += len(value)
        if size >= limit:
            yield portion
            portion, size = {}, 0
    if portion:
        yield portion
