"""What lies where in a published collection: its tree becomes the sets and texts that the progress jobs look up.

The rules are plain functions over ``flatten``'s list of nodes; ``UpdateRelationCache`` reads the trees and replaces
what is cached. A course repeats its leaves in every unit above them, so the sets and texts together are far larger
than the tree: each rule gives one entry at a time, and whoever writes them keeps only a portion in memory.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from schemas.redis_keys import ancestors as ancestors_key
from schemas.redis_keys import leafnodes as leafnodes_key
from schemas.redis_keys import optionalnodes as optionalnodes_key
from transforms.counters import count
from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.stores import KeyValues, Opens, Refused, Row, Select, StoreUnavailable, Tables

__all__ = [
    "Node",
    "RelationCacheStores",
    "Role",
    "SelectRoots",
    "UpdateRelationCache",
    "ancestors",
    "flatten",
    "leaf_nodes",
    "optional_nodes",
    "root_of",
    "stale_keys",
    "unit_texts",
]

_log = logging.getLogger(__name__)

COLLECTION_MIME_TYPE = "application/vnd.ekstep.content-collection"
ACTIONS = frozenset({"post-publish-process", "relation-cache-update"})
KINDS = frozenset({"leafnodes", "optionalnodes", "ancestors"})
NOWHERE = -1

# One pipelined round trip carries about this much; a course's sets and texts together may be far larger than its tree.
MEMBERS_AT_ONCE = 50_000
CHARACTERS_AT_ONCE = 8_000_000

Sets = Iterator[tuple[str, Collection[str]]]
SizedT = TypeVar("SizedT", bound=Sized)


class Role(Enum):
    """What a node is to its root. Under a leaf nothing is a collection or a leaf any more."""

    COLLECTION = "collection"
    LEAF = "leaf"
    UNDER_A_LEAF = "under a leaf"


@dataclass(slots=True)
class Node:
    """One node of the tree. ``parent``, ``optional_above`` and ``end`` are positions in ``flatten``'s list.

    ``members`` is the node as it came. ``optional_above`` is the nearest optional node over this one; the root
    never counts as optional. The nodes below are those after this one's own position and before ``end``.
    """

    identifier: str
    members: dict[str, Any]
    role: Role
    parent: int = NOWHERE
    optional: bool = False
    optional_above: int = NOWHERE
    end: int = 0


def root_of(event: dict[str, Any]) -> str | None:
    """The root that an event asks to cache, or None when it asks for nothing. spec: relation-cache-updater §2"""
    mime_type = value_at(event, "edata.mimeType")
    action = value_at(event, "edata.action")
    if not isinstance(action, str) or action not in ACTIONS or not _is_collection(mime_type):
        return None
    return id_at(event, "edata.identifier")


def flatten(root: str, tree: dict[str, Any]) -> list[Node]:
    """All nodes of ``tree`` in tree order, parents before children. Works at any depth.

    The root stands under the id of the event and is a collection whatever its members say. Children that are no
    objects, or whose ``identifier`` is not a non-blank string, are passed over with all below them.
    spec: relation-cache-updater §3.2
    """
    nodes: list[Node] = []
    waiting = [Node(root, tree, Role.COLLECTION)]
    while waiting:
        node = waiting.pop()
        position = len(nodes)
        node.end = position + 1
        nodes.append(node)
        above = position if node.optional else node.optional_above
        for child in reversed(_children(node.members)):
            if node.role is not Role.COLLECTION:
                role = Role.UNDER_A_LEAF
            else:
                role = Role.COLLECTION if _is_collection(child.get("mimeType")) else Role.LEAF
            waiting.append(Node(child["identifier"], child, role, position, _is_optional(child), above))
    for node in reversed(nodes):
        if node.parent != NOWHERE:
            nodes[node.parent].end = max(nodes[node.parent].end, node.end)
    return nodes


def leaf_nodes(nodes: list[Node]) -> Sets:
    """Collection id and the ids of its leaves, for each collection that has any.

    A list ``leafNodes`` is taken as it stands. Members of it that are no strings are left out: they could not be the
    id of a content. Anything else than a list counts as missing, and the leaves are composed from the nodes below.
    Of several nodes with one id, the last that has leaves wins. spec: relation-cache-updater §3.3
    """
    leaves = [position for position, node in enumerate(nodes) if node.role is Role.LEAF]
    done: set[str] = set()
    for position, node in _last_first(nodes):
        if node.identifier in done:
            continue
        given = node.members.get("leafNodes")
        if isinstance(given, list):
            members = {identifier for identifier in given if isinstance(identifier, str)}
        else:
            members = {nodes[leaf].identifier for leaf in _between(leaves, position, node.end)}
        if members:
            done.add(node.identifier)
            yield node.identifier, members


def optional_nodes(nodes: list[Node]) -> Sets:
    """Collection id and the ids of the optional nodes below it, for each collection that has any.

    What lies under an optional node is not looked at, save for the collections inside it. Of several nodes with one
    id, the last that has optional nodes wins. spec: relation-cache-updater §3.4
    """
    optional = [position for position, node in enumerate(nodes) if node.optional]
    done: set[str] = set()
    for position, node in _last_first(nodes):
        if node.identifier in done:
            continue
        below = (nodes[found] for found in _between(optional, position, node.end))
        members = {found.identifier for found in below if found.optional_above <= position}
        if members:
            done.add(node.identifier)
            yield node.identifier, members


def ancestors(nodes: list[Node]) -> Sets:
    """Leaf id and the ids of all collections it lies in, at whatever places. spec: relation-cache-updater §3.5"""

    @lru_cache(maxsize=256)
    def way_to(position: int) -> frozenset[str]:
        way = set()
        while position != NOWHERE:
            way.add(nodes[position].identifier)
            position = nodes[position].parent
        return frozenset(way)

    parents: defaultdict[str, set[int]] = defaultdict(set)
    for node in nodes:
        if node.role is Role.LEAF:
            parents[node.identifier].add(node.parent)
    for identifier, positions in parents.items():
        yield identifier, frozenset().union(*map(way_to, positions))


def unit_texts(nodes: list[Node]) -> Iterator[tuple[str, str]]:
    """Unit id and the unit with its whole subtree as JSON text, for each unit of visibility ``Parent`` with children.

    Every object and list is written once, innermost first, and taken over as text by what contains it: the work
    grows with the length of the texts alone, and neither depth nor orjson's limit on it matters. Of several nodes
    with one id, the last wins. spec: relation-cache-updater §3.6
    """
    done: set[str] = set()
    wanted: dict[int, str] = {}
    for position, node in _last_first(nodes):
        if node.identifier not in done and node.end > position + 1 and _is(node.members.get("visibility"), "parent"):
            done.add(node.identifier)
            wanted[id(node.members)] = node.identifier
    if not wanted:
        return
    unwritten = [_Unwritten(nodes[0].members)]
    # the list grows while it is read: containers before what they contain
    for position, outer in enumerate(unwritten):
        inside = outer.copy.items() if isinstance(outer.copy, dict) else enumerate(outer.copy)
        unwritten += [_Unwritten(value, position, place) for place, value in inside if isinstance(value, dict | list)]
    while unwritten:
        innermost = unwritten.pop()
        text = orjson.dumps(innermost.copy)
        if unwritten:
            unwritten[innermost.outer].copy[innermost.place] = orjson.Fragment(text)
        if innermost.source in wanted:
            yield wanted.pop(innermost.source), text.decode()


def stale_keys(root: str, found: Iterable[str], written: Collection[str]) -> list[str]:
    """Of the keys ``found`` under ``<root>:``, those of this root's sets that were not ``written``.

    A key belongs to the root when exactly an id and a kind follow; with more parts it may be another root's, save
    where the id is the root's own, which may hold colons itself. spec: relation-cache-updater §3.8
    """
    prefix = f"{root}:"
    stale = []
    for key in found:
        if not key.startswith(prefix) or key in written:
            continue
        identifier, colon, kind = key.removeprefix(prefix).rpartition(":")
        if colon and kind in KINDS and (":" not in identifier or identifier == root):
            stale.append(key)
    return stale


class _Unwritten:
    """A container that waits for those inside it: ``copy`` gets their texts, at ``place`` in the ``outer`` one."""

    __slots__ = ("copy", "outer", "place", "source")

    def __init__(self, container: dict[str, Any] | list[Any], outer: int = NOWHERE, place: Any = None) -> None:
        self.copy: Any = container.copy()
        self.source = id(container)
        self.outer = outer
        self.place = place


def _children(members: Mapping[str, Any]) -> list[dict[str, Any]]:
    children = members.get("children")
    if not isinstance(children, list):
        return []
    return [child for child in children if isinstance(child, dict) and id_at(child, "identifier") is not None]


def _is_collection(mime_type: Any) -> bool:
    return _is(mime_type, COLLECTION_MIME_TYPE)


def _is_optional(members: Mapping[str, Any]) -> bool:
    optional = value_at(members, "relationalMetadata.optional")
    return optional is True or _is(optional, "true")


def _is(value: Any, lower: str) -> bool:
    return isinstance(value, str) and value.lower() == lower


def _last_first(nodes: list[Node]) -> Iterator[tuple[int, Node]]:
    for position in range(len(nodes) - 1, -1, -1):
        if nodes[position].role is Role.COLLECTION:
            yield position, nodes[position]


def _between(positions: list[int], above: int, end: int) -> list[int]:
    return positions[bisect_left(positions, above + 1) : bisect_left(positions, end)]


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
        _log.error("The tree of %r was not cached: %s", payload.decode(), error, exc_info=not expected)
        count(self._job, "failed-events-count")
        return []

    def _update(self, root: str, answer: list[Row] | Refused) -> None:
        if isinstance(answer, Refused):
            raise answer
        text = answer[0]["hierarchy"] if answer else None
        tree = parse_object(text) if text and not text.isspace() else None
        if not tree:
            _log.warning("There is no tree of %r", root)
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


def _keyed_sets(root: str, nodes: list[Node]) -> Sets:
    for identifier, members in leaf_nodes(nodes):
        yield leafnodes_key(root, identifier), members
    for identifier, members in optional_nodes(nodes):
        yield optionalnodes_key(root, identifier), members
    for identifier, members in ancestors(nodes):
        yield ancestors_key(root, identifier), members


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
