"""What goes to the failed topic of the assessments, with the event's id as key. spec: assessment-aggregator §6"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson

from transforms.dead_letter import LARGEST_DEAD_LETTER, largest_with_text
from transforms.decode import id_at

__all__ = ["Keyed", "failed_event", "unchanged_event"]

Keyed = tuple[bytes | None, bytes]
"""A Kafka record: key and value."""

SOURCE = "AssessmentAggregator"


def failed_event(reason: str, value: bytes | None, parsed: dict[str, Any] | None = None) -> Keyed:
    """The event with ``metadata.validation_error``, or, when there is none, the record's text in ``rawEvent``.

    What would be above 5,000,000 bytes (1,000,000 of what is no text, see ``largest_with_text``) keeps the beginning
    of its text, and ``metadata.cut`` is the number of bytes of the original.
    """
    limit = LARGEST_DEAD_LETTER
    written = None
    metadata: dict[str, Any] = {"validation_error": reason, "src": SOURCE}
    if parsed is not None:
        earlier, flags = parsed.get("metadata"), parsed.get("flags")
        marked = {
            **parsed,
            "flags": {} if flags is None else flags,
            "metadata": {**earlier, **metadata} if isinstance(earlier, dict) else metadata,
        }
        # what can be read can not always be written: orjson writes fewer levels than it reads
        with suppress(TypeError):
            written = orjson.dumps(marked)
    if written is None:
        written = _raw(metadata, value)
        limit = largest_with_text(written, value)
    if len(written) > limit:
        original = value or b""
        # a byte may become six when it is escaped
        written = _raw({**metadata, "cut": len(original)}, original[: limit // 7])
    return _keyed(parsed, written)


def unchanged_event(value: bytes, parsed: dict[str, Any]) -> Keyed:
    """The event as it came, on one line."""
    try:
        written = orjson.dumps(parsed)
    except TypeError:
        written = b""
    if not written or len(written) > LARGEST_DEAD_LETTER:
        # numbers may be longer when they are written again, and what came once may come twice
        written = value.replace(b"\r", b" ").replace(b"\n", b" ")
    return _keyed(parsed, written)


def _raw(metadata: dict[str, Any], value: bytes | None) -> bytes:
    text = "" if value is None else value.decode("utf-8", "replace")
    return orjson.dumps({"flags": {}, "metadata": metadata, "rawEvent": text})


def _keyed(parsed: dict[str, Any] | None, value: bytes) -> Keyed:
    """With the event's id, unless Kafka would refuse the two together."""
    mid = id_at(parsed, "mid")
    key = None if mid is None else mid.encode()
    return (key if key and len(key) + len(value) <= LARGEST_DEAD_LETTER else None), value
