"""How many questions a content has: Redis first, then the content service. spec: assessment-aggregator §3.4"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import orjson
from cachetools import TTLCache

from transforms.assessment import number_of
from transforms.overlapped import side_by_side
from transforms.services import ContentReads, ServiceRefused
from transforms.stores import KeyValues

__all__ = ["UNKNOWN", "QuestionCounts"]

# Contents whose number of questions, or that it is not known, is remembered by a worker.
REMEMBERED = 10_000

UNKNOWN = 0


class QuestionCounts:
    """Looks up many contents at once: one round trip to Redis, then the services' calls side by side on ``calls``.

    An answer of the service is remembered for ``expiry`` seconds by ``clock`` (epoch milliseconds), but no attempt is
    turned away because of one: when more questions were answered than it says, the service is asked again.
    """

    def __init__(
        self, cache: KeyValues, contents: ContentReads, calls: Executor, expiry: int, clock: Callable[[], int]
    ) -> None:
        self._cache = cache
        self._contents = contents
        self._calls = calls
        self._remembered: TTLCache[str, int] = TTLCache(REMEMBERED, expiry, timer=lambda: clock() / 1000)

    def look_up(
        self, answered: Mapping[str, int], counts: Counter[str]
    ) -> tuple[dict[str, int], dict[str, int | ServiceRefused]]:
        """What Redis says of each content, and what the service says of those of which Redis does not know.

        ``answered``: content -> the most questions that were answered. Both give UNKNOWN for a content without a
        usable number. ``counts`` gets a ``api-hit-…`` for each call. Raises Refused, StoreUnavailable.
        """
        stored = {
            content_id: _stored_total(text)
            for content_id, text in zip(answered, self._cache.get(list(answered)), strict=True)
        }
        told: dict[str, int | ServiceRefused] = {}
        to_ask = []
        for content_id, total in stored.items():
            if total == UNKNOWN:
                remembered = self._remembered.get(content_id)
                if remembered is not None and (remembered == UNKNOWN or answered[content_id] <= remembered):
                    told[content_id] = remembered
                else:
                    to_ask.append(content_id)
        answers = side_by_side(self._calls, [partial(self._contents.read, content_id) for content_id in to_ask])
        for content_id, answer in zip(to_ask, answers, strict=True):
            if isinstance(answer, ServiceRefused):
                counts["api-hit-failed-count"] += 1
                told[content_id] = answer
            elif isinstance(answer, Exception):
                raise answer
            else:
                counts["api-hit-success-count"] += 1
                told[content_id] = self._remembered[content_id] = _total(answer.get("totalQuestions"))
        return stored, told


def _stored_total(text: str | None) -> int:
    """Of a content's metadata as Redis has it, whose names come in several forms (spec: core §6 "get (map)")."""
    try:
        stored = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return UNKNOWN
    if not isinstance(stored, dict):
        return UNKNOWN
    found = [value for name, value in stored.items() if name.lower().replace("_", "") == "totalquestions"]
    return _total(found[-1]) if found else UNKNOWN


def _total(value: Any) -> int:
    return max(int(number_of(value) or 0), UNKNOWN)
