"""Handling many records at once without leaving the order of any owner.

A step that reads and rewrites its owner's rows must see the owner's records one after the other, yet pays for every
round trip to a store. So the records are keyed by a shard of the owner, which pins an owner to one worker in order,
and the worker handles whatever the bundle brings it, across owners, in one go.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from transforms.stores import StoreUnavailable

__all__ = ["KeyedBatch", "shard_of"]

_log = logging.getLogger(__name__)

_GLOBALLY = (GlobalWindow(),)


@functools.cache
def _keep_what_is_loaded() -> None:
    """Let the garbage collector pass over everything loaded so far: half a second for each full collection."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A batch makes a hundred thousand objects and no cycles; the collector would walk them over and over.

    It is on again afterwards, whatever it was before: to remember that it was off, because another thread had just
    begun a batch, would leave it off for good.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def shard_of(owner: str, shards: int) -> bytes:
    """The shard of an owner, the same in every process: ``shards`` of them, as decimal text."""
    return b"%d" % (zlib.crc32(owner.encode()) % shards)


class KeyedBatch(beam.DoFn):
    """Takes ``(shard, payload)`` pairs, all of bytes, and handles them in batches of at most ``size``.

    A batch ends at ``size`` payloads and with the bundle, so nothing is held back over a checkpoint, and the offsets
    that a checkpoint commits are all a restart needs. Subclasses say how a batch is handled (``handle``) and what
    becomes of a payload that can not be (``refuse``).
    """

    # A step with state is fed by key: all of a shard's payloads reach one worker, in order. The cell itself is never
    # touched, since each access to a Python state cell costs a round trip to the runner.
    _PINNED = ReadModifyWriteStateSpec("pinned", BytesCoder())

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a batch holds at least one payload, not {size}")
        self.size = size
        self._waiting: list[bytes] = []

    @property
    def waiting(self) -> int:
        """The payloads that wait for more of them, or for the bundle's end."""
        return len(self._waiting)

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        """Handle the payloads in order. Raises StoreUnavailable; any other error means that one of them is bad."""
        raise NotImplementedError

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        """What to emit for a payload whose handling raised ``error``: the failed output, with the original."""
        raise NotImplementedError

    def setup(self) -> None:
        _keep_what_is_loaded()

    def start_bundle(self) -> None:
        self._waiting = []

    def process(
        self,
        element: tuple[bytes, bytes],
        pinned: Any = beam.DoFn.StateParam(_PINNED),  # noqa: B008 - Beam declares state by default arguments
    ) -> Iterable[TaggedOutput]:
        self._waiting.append(element[1])
        return self._flush() if len(self._waiting) >= self.size else ()

    def finish_bundle(self) -> Iterable[TaggedOutput]:
        return [
            TaggedOutput(output.tag, WindowedValue(output.value, MIN_TIMESTAMP, _GLOBALLY)) for output in self._flush()
        ]

    def _flush(self) -> list[TaggedOutput]:
        payloads, self._waiting = self._waiting, []
        if not payloads:
            return []
        try:
            with _without_garbage_collection():
                return self.handle(payloads)
        except StoreUnavailable:
            raise
        except Exception:
            _log.exception("A batch of %d records failed; each is now handled alone", len(payloads))
        return [output for payload in payloads for output in self._handle_alone(payload)]

    def _handle_alone(self, payload: bytes) -> list[TaggedOutput]:
        try:
            return self.handle([payload])
        except StoreUnavailable:
            raise
        except Exception as error:
            _log.exception("A record could not be handled and goes to the failed output")
            return self.refuse(payload, error)
