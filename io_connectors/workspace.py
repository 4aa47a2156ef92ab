"""Directories for files that are on their way: each its own, and gone when the work is done or its process is dead."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from io_connectors.one_per_process import one_per_process

__all__ = ["Directories", "Workspace"]

_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)
_PREFIX = "_temp_"
_LOCK = ".in-use"
# Between the making of a directory and its lock.
_TOO_YOUNG_SECONDS = 60
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Workspace:
    """The recipe: ``location`` is where the directories are."""

    location: str

    def open(self) -> Directories:
        """The process' workspace of that location. What processes that died left there is removed."""
        return one_per_process(self, lambda: Directories(Path(self.location)))


class Directories:
    """The workspace (``transforms.services.Directories``); any number of threads and processes may share one."""

    def __init__(self, location: Path) -> None:
        self._location = location
        self._remove_what_the_dead_left()

    @contextlib.contextmanager
    def directory(self, name: str) -> Iterator[Path]:
        """As the protocol says: ``<location>/<name>/_temp_<milliseconds>…``. spec: content-auto-creator §3.6"""
        parent = self._location / (_UNSAFE.sub("_", name).strip(".")[:_LONGEST_NAME] or "_")
        made = _made_in(parent)
        try:
            with (made / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                files = made / "files"
                files.mkdir()
                yield files
        finally:
            shutil.rmtree(made, ignore_errors=True)
            # another one may be working beside
            with contextlib.suppress(OSError):
                parent.rmdir()

    def _remove_what_the_dead_left(self) -> None:
        """The lock of a directory goes with its process."""
        for left in self._location.glob(f"*/{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if left.is_symlink() or time.time() - left.stat().st_mtime < _TOO_YOUNG_SECONDS:
                    continue
                with (left / _LOCK).open("a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
                left.parent.rmdir()


def _made_in(parent: Path) -> Path:
    """A new directory; the parent is made again when another thread has just removed it."""
    for _ in range(10):
        parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{time.time_ns() // 1_000_000}_", dir=parent))
    raise FileNotFoundError(parent)
