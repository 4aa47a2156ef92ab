"""What the rules take as arguments because they must not look for themselves: time, waiting, fresh ids."""

from __future__ import annotations

import secrets
import time

import uuid_utils


def epoch_millis() -> int:
    """Now, in milliseconds since the epoch (UTC)."""
    return time.time_ns() // 1_000_000


def new_uuid() -> str:
    """A fresh random UUID, version 4."""
    return str(uuid_utils.uuid4())


def any_character(text: str) -> str:
    """One character of a text, which nobody can guess. A plain function, for the source of it does not pickle."""
    return secrets.choice(text)


def wait_seconds(seconds: float) -> None:
    """Wait so long; the thread's, not the worker's time."""
    time.sleep(seconds)
