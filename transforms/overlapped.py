"""Waiting for many answers at once: a bounded number of calls side by side."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.stores import StoreUnavailable

__all__ = ["Done", "in_turns", "owners_side_by_side", "side_by_side"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
OwnerT = TypeVar("OwnerT")
WorkT = TypeVar("WorkT")


@dataclass
class Done:
    """What became of one piece of work: what to emit, and what the thread that Beam knows has to count."""

    outputs: list[TaggedOutput] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


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


def in_turns(works: Sequence[Iterable[str]]) -> list[list[int]]:
    """The places of works that may be done at once, turn by turn; a work is the owners whom it concerns.

    No owner is in a turn twice, and each has its works in the order given.
    """
    turns: list[list[int]] = []
    last: dict[str, int] = {}
    for place, owners in enumerate(works):
        concerned = list(owners)
        turn = max(last.get(owner, -1) for owner in concerned) + 1
        last.update(dict.fromkeys(concerned, turn))
        if turn == len(turns):
            turns.append([])
        turns[turn].append(place)
    return turns


def owners_side_by_side(
    job: str,
    pool: Executor,
    works: Mapping[OwnerT, list[WorkT]],
    handle: Callable[[OwnerT, list[WorkT]], Iterable[Done]],
    refuse: Callable[[WorkT, Exception], list[TaggedOutput]],
) -> list[TaggedOutput]:
    """Handle all works of an owner in turn, different owners side by side; count, and give what is to be emitted.

    An error of ``handle`` is one of the program, and all works of that owner are refused. Raises StoreUnavailable.
    """
    outputs = []
    answers = side_by_side(pool, [partial(handle, owner, of_owner) for owner, of_owner in works.items()])
    for of_owner, answer in zip(works.values(), answers, strict=True):
        if isinstance(answer, Exception):
            _log.error("The works of one owner could not be handled", exc_info=answer)
            outputs += [output for work in of_owner for output in refuse(work, answer)]
            continue
        for done in answer:
            outputs += done.outputs
            for name, times in done.counts.items():
                count(job, name, times)
    return outputs
