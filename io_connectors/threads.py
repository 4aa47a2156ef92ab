"""Threads for calls that wait for an answer."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from io_connectors.one_per_process import one_per_process

__all__ = ["Threads"]


@dataclass(frozen=True)
class Threads:
    """The recipe of a pool: ``at_once`` calls run side by side, more wait. ``name`` is what its threads are called."""

    name: str
    at_once: int

    def open(self) -> Executor:
        """The process' pool for this recipe; its threads begin with the calls that need them."""
        return one_per_process(self, lambda: ThreadPoolExecutor(self.at_once, self.name))
