"""The relation cache as the progress jobs read it: activity-aggregate-updater §3.5, §3.6."""

from __future__ import annotations

from collections import Counter
from itertools import count

from io_connectors.memory import MemoryCollectionStatuses, MemoryRedis
from schemas import redis_keys
from transforms.relations import KnownStatuses, RelationCache, Relations

numbers = count()


def test_all_of_many_courses_is_read_in_five_calls() -> None:
    store = MemoryRedis(f"relations-{next(numbers)}", 10).open()
    for course in "CD":
        store.replace_sets(
            {
                redis_keys.leafnodes(course, course): "ab",
                redis_keys.leafnodes(course, "U"): "a",
                redis_keys.optionalnodes(course, course): "b",
                redis_keys.ancestors(course, "a"): [course, "U", "empty"],
            }
        )
    store.operations.clear()
    counts: Counter[str] = Counter()
    relations = Relations()
    cache = RelationCache(store, counts)
    cache.read_leaf_nodes(relations, ["C", "D", "X"])
    cache.read_others(relations, ["C", "D"], {(course, content) for course in "CD" for content in "ab"})
    assert [relations.knows(course) for course in "CDX"] == [True, True, False]
    assert relations.required("C", "C") == {"a"}
    assert relations.units("C", "ab") == {"U"}
    assert len(store.operations) == 5
    # courses 3 + 2, ancestors 4, units 4 + 4; empty: X, ancestors of b, the empty unit, optional nodes of units
    assert counts == {"cache-hit-count": 17, "cache-miss-count": 9}


def test_nothing_to_read_is_no_call() -> None:
    store = MemoryRedis(f"relations-{next(numbers)}", 10).open()
    RelationCache(store, Counter()).read_others(Relations(), [], [])
    assert store.operations == []


def test_what_is_known_of_a_course_is_remembered_for_a_while() -> None:
    """activity-aggregate-updater §3.5.1, §8.14"""
    service = MemoryCollectionStatuses(f"statuses-{next(numbers)}").open()
    service.set_status("C", "Live")
    now = 0
    known = KnownStatuses(service, 10, lambda: now)
    assert [known.status(course) for course in "CCXX"] == ["Live", "Live", None, None]
    assert service.calls == ["C", "X", "X"]
    service.set_status("C", "Retired")
    now = 11_000
    assert known.status("C") == "Retired"
