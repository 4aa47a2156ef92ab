"""How far a learner is: what a consumption adds, and what of a course or unit is done.

Pure functions over plain values, shared by every job that computes progress.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

from transforms.consumption import COMPLETED

__all__ = ["COMPLETE", "NOT_CONSUMED", "START", "Consumed", "completed", "consume", "count_done"]

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


def consume(before: Consumed, times: int) -> tuple[Consumed, tuple[str, ...]]:
    """The record after ``times`` completions, and what happened for the first time: START, COMPLETE, both or none.

    spec: activity-aggregate-updater §3.4
    """
    after = Consumed(max(COMPLETED, before.status), before.view_count + times, before.completed_count + times)
    first = tuple(
        action for action, count in ((START, before.view_count), (COMPLETE, before.completed_count)) if count == 0
    )
    return after, first


def completed(contents: Mapping[str, Consumed]) -> set[str]:
    """The contents whose status is exactly 2. spec: activity-aggregate-updater §3.4"""
    return {content for content, consumed in contents.items() if consumed.status == COMPLETED}


def count_done(leaf_nodes: Set[str], optional_nodes: Set[str], completed_contents: Collection[str]) -> int:
    """How many required leaf nodes are completed. spec: activity-aggregate-updater §3.5, §3.6"""
    return sum(1 for content in completed_contents if content in leaf_nodes and content not in optional_nodes)
