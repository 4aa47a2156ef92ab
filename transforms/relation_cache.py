"""What lies where in a published collection: its tree becomes the sets and texts that the progress jobs look up.

Every rule is a plain function over ``flatten``'s list of nodes. A course repeats its leaves in every unit above them,
so the sets and texts together are far larger than the tree: each rule gives one entry at a time, and whoever writes
them keeps only a portion in memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import orjson

from transforms.decode import id_at, value_at

__all__ = [
    "Node",
    "Role",
    "ancestors",
    "flatten",
    "leaf_nodes",
    "optional_nodes",
    "root_of",
    "stale_keys",
    "unit_texts",
]

COLLECTION_MIME_TYPE = "application/vnd.ekstep.content-collection"
ACTIONS = frozenset({"post-publish-process", "relation-cache-update"})
KINDS = frozenset({"leafnodes", "optionalnodes", "ancestors"})
NOWHERE = -1

Sets = Iterator[tuple[str, Collection[str]]]


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
