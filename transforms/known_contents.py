"""What is known of contents and courses: Redis first, then the content service, remembered for a while.

spec: collection-cert-pre-processor §3.5, §3.7
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from cachetools import TTLCache

from transforms.services import Contents
from transforms.stores import KeyValues, Refused

__all__ = ["KnownContents", "NoMetadata"]

REMEMBERED = 10_000


class NoMetadata(LookupError):
    """Neither Redis nor the content service knows the content."""


class KnownContents:
    """Looks things up; any number of threads may use it.

    What was found is remembered for ``expiry`` seconds by ``clock`` (epoch milliseconds), what was not found is asked
    for again. ``counts`` of each call gets ``cache-hit-cout`` (spelt so) for what Redis had.
    """

    def __init__(
        self, metadata: KeyValues, collections: KeyValues, service: Contents, expiry: int, clock: Callable[[], int]
    ) -> None:
        self._metadata = metadata
        self._collections = collections
        self._service = service
        self._lock = threading.Lock()
        self._remembered: TTLCache[tuple[str, str], tuple[Any, bool]] = TTLCache(
            REMEMBERED, expiry, timer=lambda: clock() / 1000
        )

    def content_type(self, content_id: str, counts: Counter[str]) -> Any:
        """The content's type, None when its metadata has none. Raises NoMetadata, StoreUnavailable."""

        def ask() -> tuple[Any, bool]:
            stored = _json_map(self._metadata, content_id)
            if stored:
                return stored.get("contenttype"), True
            answered = self._service.metadata(content_id)
            if not answered:
                raise NoMetadata(content_id)
            return answered.get("contentType", answered.get("contenttype")), False

        return self._once("type", content_id, ask, counts)

    def course_name(self, course_id: str, counts: Counter[str]) -> str:
        """The course's name as stored, ``""`` when it has none. Raises ServiceRefused, StoreUnavailable."""

        def ask() -> tuple[Any, bool]:
            stored = _json_map(self._collections, course_id)
            name = stored.get("name")
            if isinstance(name, str) and name:
                return name, True
            return self._service.course_name(course_id), False

        return str(self._once("name", course_id, ask, counts))

    def _once(self, kind: str, identifier: str, ask: Callable[[], tuple[Any, bool]], counts: Counter[str]) -> Any:
        key = (kind, identifier)
        with self._lock:
            found = self._remembered.get(key)
        if found is None:
            found = ask()
            with self._lock:
                self._remembered[key] = found
        value, from_redis = found
        counts["cache-hit-cout"] += from_redis
        return value


def _json_map(store: KeyValues, key: str) -> dict[str, Any]:
    """What Redis has; what can not be read is like what is not there (spec §8.9)."""
    try:
        return store.json_map(key)
    except Refused:
        return {}
