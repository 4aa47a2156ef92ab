"""The names that other systems know: Redis keys and counters."""

import pytest

from schemas import redis_keys
from schemas.counters import COUNTERS


def test_the_keys_of_the_relation_cache():
    """relation-cache-updater §4"""
    assert redis_keys.leafnodes("R", "R") == "R:R:leafnodes"
    assert redis_keys.optionalnodes("R", "U2") == "R:U2:optionalnodes"
    assert redis_keys.ancestors("R", "a") == "R:a:ancestors"


def test_the_key_of_a_profile():
    """user-cache-updater §4.1"""
    assert redis_keys.user("learner-1") == "user:learner-1"


@pytest.mark.parametrize("job", sorted(COUNTERS))
def test_counters_are_in_kebab_case_and_there_once(job):
    names = COUNTERS[job]
    assert len(set(names)) == len(names)
    # upstream's spelling (§7 of collection-cert-pre-processor, merge-user-courses, user-cache-updater, the ML jobs)
    irregular = ("cache-hit-cout", "db-update-user-course-batch", "user-cache-hit")
    regular = [name for name in names if name not in irregular and not name.endswith("-cleanup-hit")]
    assert all(name == name.lower() and name.endswith("-count") and "_" not in name for name in regular)


def test_one_counter_is_singular():
    """relation-cache-updater §7"""
    assert "skipped-event-count" in COUNTERS["relation-cache-updater"]
