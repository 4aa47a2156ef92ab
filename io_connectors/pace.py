"""A bound on how often something is begun (spec: notification-job, its job's page)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from io_connectors.one_per_process import one_per_process

__all__ = ["Pace", "Turns"]


@dataclass(frozen=True)
class Pace:
    """The recipe of turns: so many ``per_second`` in each process for that ``name``; None: as many as are asked for."""

    name: str
    per_second: float | None = None

    def open(self) -> Turns:
        """The process' turns for this recipe."""
        return one_per_process(self, lambda: Turns(self.per_second))


class Turns:
    """Any number of threads may wait for their turn; they get it in the order in which they asked."""

    def __init__(
        self,
        per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        if not self._seconds:
            return
        with self._lock:
            now = self._clock()
            mine = max(now, self._next)
            self._next = mine + self._seconds
        if mine > now:
            self._sleep(mine - now)
