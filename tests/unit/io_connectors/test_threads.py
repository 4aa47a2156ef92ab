"""Pools of threads, one for each recipe."""

from __future__ import annotations

import pickle
import threading

from io_connectors.threads import Threads


def test_a_copy_of_the_recipe_opens_the_same_pool():
    recipe = Threads("copied", 2)
    assert pickle.loads(pickle.dumps(recipe)).open() is recipe.open()  # noqa: S301 - our own bytes
    assert Threads("copied", 3).open() is not recipe.open()
    assert Threads("other", 2).open() is not recipe.open()


def test_so_many_run_at_once_and_not_more():
    pool = Threads("bounded", 3).open()
    together = threading.Barrier(3)
    running = threading.Semaphore(3)

    def call(n: int) -> tuple[int, str]:
        assert running.acquire(blocking=False)
        together.wait(30)
        running.release()
        return n, threading.current_thread().name

    answers = list(pool.map(call, range(9)))
    assert [n for n, _ in answers] == list(range(9))
    assert all(name.startswith("bounded") for _, name in answers)
