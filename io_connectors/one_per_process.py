"""One client per process and recipe, however many steps of however many threads open it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["one_per_process"]

T = TypeVar("T")

_lock = threading.RLock()
_clients: dict[tuple[int, Hashable], Any] = {}


def one_per_process(recipe: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` gave for this recipe in this process; it is called once. What it raises leaves nothing behind.

    A forked child makes its own client: sockets and event loops do not survive a fork.
    """
    key = (os.getpid(), recipe)
    with _lock:
        if key not in _clients:
            _clients[key] = make()
        client: T = _clients[key]
        return client
