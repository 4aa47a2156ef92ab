"""One client per process and recipe."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from io_connectors.one_per_process import one_per_process


def test_many_threads_make_one():
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(one_per_process("many", make))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert set(map(id, found)) == {id(made[0])}


def test_recipes_of_different_kinds_do_not_meet():
    assert one_per_process(("kind-a", 1), lambda: "a") == "a"
    assert one_per_process(("kind-b", 1), lambda: "b") == "b"


def test_what_failed_is_tried_again():
    def fail() -> Any:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        one_per_process("failing", fail)
    assert one_per_process("failing", lambda: "made") == "made"


def _in_child(queue: Any, make: Callable[[], str]) -> None:
    queue.put(one_per_process("forked", make))


def test_a_forked_child_makes_its_own():
    context = multiprocessing.get_context("fork")
    assert one_per_process("forked", lambda: "parent") == "parent"
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, lambda: "child"))
    child.start()
    assert queue.get(timeout=20) == "child"
    child.join()
