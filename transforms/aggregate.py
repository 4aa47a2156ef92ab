"""How far a learner is: what a consumption adds, and what of a course or unit is done.

Pure functions over plain values, shared by every job that computes progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from transforms.consumption import COMPLETED

__all__ = ["COMPLETE", "NOT_CONSUMED", "START", "Consumed", "completed", "consume"]

START = "start"
COMPLETE = "complete"


class Consumed(NamedTuple):
    """A learner's record of one content: its status, and how often it was viewed and completed."""

    status: int
    view_count: int
    completed_count: int

    @classmethod
    def from_row(cls, status: int | None, view_count: int | None, completed_count: int | None) -> Consumed:
        """A table row; a null status means in progress, a null count none. spec: activity-aggregate-updater §3.4"""
        return cls(1 if status is None else status, view_count or 0, completed_count or 0)


NOT_CONSUMED = Consumed(0, 0, 0)

# (not viewed before, not completed before) -> what happens for the first time, in the order it is told
_FIRST_TIMES = {
    (False, False): (),
    (False, True): (COMPLETE,),
    (True, False): (START,),
    (True, True): (START, COMPLETE),
}


def consume(before: Consumed, times: int) -> tuple[Consumed, tuple[str, ...]]:
    """The record after ``times`` completions, and what happened for the first time: START, COMPLETE, both or none.

    spec: activity-aggregate-updater §3.4
    """
    after = Consumed(max(COMPLETED, before.status), before.view_count + times, before.completed_count + times)
    return after, _FIRST_TIMES[before.view_count == 0, before.completed_count == 0]


def completed(statuses: Mapping[str, int]) -> set[str]:
    """The contents (content -> status) whose status is exactly 2. spec: activity-aggregate-updater §3.4"""
    return {content for content, status in statuses.items() if status == COMPLETED}
