"""Which contents belong to which course and unit: the relation cache as the progress jobs read it.

relation-cache-updater writes it (``transforms.relation_cache``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from cachetools import TTLCache

from schemas import redis_keys
from transforms.stores import CollectionStatuses, KeyValues

__all__ = ["KnownStatuses", "RelationCache", "Relations"]

NO_MEMBERS: frozenset[str] = frozenset()
# Courses whose status is remembered by a worker: those without leaf nodes, of which there should be none.
REMEMBERED_COURSES = 10_000


@dataclass(slots=True)
class Relations:
    """The relation cache of the courses at hand, keyed by (course, collection or content). Absent means empty."""

    leaf_nodes: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    optional_nodes: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    ancestors: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    _required: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def knows(self, course_id: str) -> bool:
        """Whether the course has leaf nodes. spec: activity-aggregate-updater §3.5"""
        return bool(self.leaf_nodes.get((course_id, course_id)))

    def required(self, course_id: str, collection_id: str) -> frozenset[str]:
        """The leaf nodes of a collection that are not optional. spec: activity-aggregate-updater §3.5, §3.6"""
        key = (course_id, collection_id)
        found = self._required.get(key)
        if found is None:
            leaf_nodes = self.leaf_nodes.get(key, NO_MEMBERS)
            found = self._required[key] = leaf_nodes - self.optional_nodes.get(key, NO_MEMBERS)
        return found

    def units(self, course_id: str, contents: Iterable[str]) -> set[str]:
        """The units above any of the contents, at every level, that have leaf nodes. spec §3.6, §8.7"""
        above = set().union(*(self.ancestors.get((course_id, content), NO_MEMBERS) for content in contents))
        return {unit for unit in above if unit != course_id and self.leaf_nodes.get((course_id, unit))}


class RelationCache:
    """Reads relations from Redis, for many courses at once; ``counts`` gets each key as hit, the empty ones as miss.

    spec: activity-aggregate-updater §3.5, §3.6, §7; enrolment-reconciliation §3.2, §3.3, §7
    """

    def __init__(self, store: KeyValues, counts: Counter[str]) -> None:
        self._store = store
        self._counts = counts

    def read_leaf_nodes(self, relations: Relations, courses: Iterable[str]) -> None:
        """The leaf nodes of the courses themselves. Raises StoreUnavailable."""
        relations.leaf_nodes.update(self._members(redis_keys.leafnodes, [(course, course) for course in courses]))

    def read_others(self, relations: Relations, courses: Iterable[str], contents: Collection[tuple[str, str]]) -> None:
        """The optional nodes of the courses, and the units above each (course, content) with their nodes.

        Raises StoreUnavailable.
        """
        optional = [(course, course) for course in courses]
        relations.optional_nodes.update(self._members(redis_keys.optionalnodes, optional))
        relations.ancestors.update(self._members(redis_keys.ancestors, list(contents)))
        units = list(
            {(course, unit) for (course, _), above in relations.ancestors.items() for unit in above if unit != course}
        )
        relations.leaf_nodes.update(self._members(redis_keys.leafnodes, units))
        relations.optional_nodes.update(self._members(redis_keys.optionalnodes, units))

    def _members(
        self, key_of: Callable[[str, str], str], pairs: list[tuple[str, str]]
    ) -> dict[tuple[str, str], frozenset[str]]:
        if not pairs:
            return {}
        found = dict(zip(pairs, self._store.members([key_of(*pair) for pair in pairs]), strict=True))
        self._counts["cache-hit-count"] += len(pairs)
        self._counts["cache-miss-count"] += sum(1 for members in found.values() if not members)
        return found


class KnownStatuses:
    """The search service's word on courses, remembered for ``expiry`` seconds by ``clock`` (epoch milliseconds).

    What it does not know is asked for again. spec: activity-aggregate-updater §3.5.1, §8.14
    """

    def __init__(self, collections: CollectionStatuses, expiry: int, clock: Callable[[], int]) -> None:
        self._collections = collections
        self._remembered: TTLCache[str, str] = TTLCache(REMEMBERED_COURSES, expiry, timer=lambda: clock() / 1000)

    def status(self, course_id: str) -> str | None:
        """``Live``, ``Retired`` …; None when the service knows none. Raises StoreUnavailable."""
        status = self._remembered.get(course_id)
        if status is None:
            status = self._collections.status(course_id)
            if status is not None:
                self._remembered[course_id] = status
        return status
