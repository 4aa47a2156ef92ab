"""A day of events of all kinds, through all jobs that keep what learners did, with different cuts of batches: the same
tables and caches, to the byte, and the same events. `python -m tests.day` does it on real servers, at full size."""

from __future__ import annotations

from random import Random

from tests.day.compare import differing
from tests.day.events import Day
from tests.day.run import Emitted, live
from tests.day.sites import State, in_memory


def passed(events: int, name: str, seed: int, cut: int, largest: int, again: bool = False) -> tuple[State, Emitted]:
    """A day of ``seed``, cut by ``cut``: what it left, and what it wrote."""
    day = Day(events, "sunbird_courses", "dev_hierarchy_store", seed)
    site = in_memory(name, day.totals())
    emitted = live(day, site.jobs, site.write, Random(cut), largest, again)
    return site.state(), emitted


def test_two_cuts_of_a_day_leave_the_same() -> None:
    state, emitted = passed(3_000, "day-a", 1, 1, 300)
    again, emitted_again = passed(3_000, "day-b", 1, 2, 7)
    assert differing(state, again) == []
    assert emitted == emitted_again
    topics = {topic for topic, _ in emitted}
    assert topics >= {"audit", "certificate", "sync", "assessment-aggregator", "enrolment-reconciliation"}
    assert all(state.values()), "every table and every kind of key holds something"


def test_workers_that_die_at_the_end_of_a_batch_leave_the_same() -> None:
    state, _ = passed(2_000, "day-c", 3, 1, 300)
    again, _ = passed(2_000, "day-d", 3, 2, 40, again=True)
    assert differing(state, again) == []
