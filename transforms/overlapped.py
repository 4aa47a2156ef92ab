"""Waiting for many answers at once: a bounded number of calls side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from transforms.stores import StoreUnavailable

__all__ = ["side_by_side"]

T = TypeVar("T")


def side_by_side(pool: Executor, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each of the calls returned or raised, in their order, all run on ``pool``, which bounds how many at once.

    The first StoreUnavailable is raised, once all that had begun are done; those that had not begun are not begun.
    """
    futures = [pool.submit(call) for call in calls]
    answers: list[T | Exception] = []
    unavailable: StoreUnavailable | None = None
    for future in futures:
        if unavailable and future.cancel():
            continue
        error = future.exception()
        if error is None:
            answers.append(future.result())
        elif isinstance(error, StoreUnavailable):
            unavailable = unavailable or error
        elif isinstance(error, Exception):
            answers.append(error)
        else:
            raise error
    if unavailable:
        raise unavailable
    return answers
