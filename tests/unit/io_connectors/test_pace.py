"""A bound on how often something is begun."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from io_connectors.pace import Pace, Turns


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)


def test_turns_are_so_far_apart() -> None:
    time = Time()
    turns = Turns(4, lambda: time.now, time.sleep)
    for _ in range(3):
        turns.wait()
    assert time.slept == [0.25, 0.5], "the first one has its turn at once"
    time.now += 10
    turns.wait()
    turns.wait()
    assert time.slept[2:] == [0.25], "what was not used is not saved up"


def test_threads_get_different_turns() -> None:
    time = Time()
    turns = Turns(10, lambda: time.now, time.sleep)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: turns.wait(), range(40)))
    assert sorted(time.slept) == pytest.approx([number / 10 for number in range(1, 40)])


@pytest.mark.parametrize("per_second", [None, 0])
def test_without_a_bound_nobody_waits(per_second: float | None) -> None:
    time = Time()
    turns = Turns(per_second, lambda: time.now, time.sleep)
    for _ in range(5):
        turns.wait()
    assert time.slept == []


def test_one_pace_in_each_process() -> None:
    assert Pace("a", 1.0).open() is Pace("a", 1.0).open()
    assert Pace("a", 1.0).open() is not Pace("b", 1.0).open()
