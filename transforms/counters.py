"""Counting, by the names of the specs (spec: core §11)."""

from __future__ import annotations

import threading
from collections import Counter
from functools import lru_cache

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import Metrics as _Metrics

__all__ = ["count", "counted_in_this_process", "forget_counts"]

_attempted: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


def count(job: str, name: str, times: int = 1) -> None:
    """Let a job's counter grow. Beam exports it under the job's name as namespace.

    Beam forgets the counters of a run that fails, which is when they are asked for most; so each process also keeps
    what it counted, for a bounded run in one process to report.
    """
    if times:
        _beam_counter(job, name).inc(times)
        with _lock:
            _attempted[job, name] += times


def counted_in_this_process(job: str) -> dict[str, int]:
    """What ``count`` counted for the job in this process since ``forget_counts``."""
    with _lock:
        return {name: times for (of_job, name), times in sorted(_attempted.items()) if of_job == job}


def forget_counts(job: str) -> None:
    """Begin anew, before a bounded run."""
    with _lock:
        for key in [key for key in _attempted if key[0] == job]:
            del _attempted[key]


@lru_cache(maxsize=1024)
def _beam_counter(job: str, name: str) -> _Metrics.DelegatingCounter:
    return Metrics.counter(job, name)
