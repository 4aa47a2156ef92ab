"""What every Elasticsearch, the real one and its twin, does with documents and their ids (spec: core §9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from transforms.stores import Refused

__all__ = ["LONGEST_ID", "LONGEST_STRING", "check_ids", "written"]

LONGEST_STRING = 32_000
"""Characters of a string that are kept. spec: core §9"""

LONGEST_ID = 512
"""Bytes. With a longer one the server refuses all of a request."""


def written(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is written: its own strings, not those in objects and lists, cut to ``LONGEST_STRING``.

    Raises Refused when it is no JSON. spec: core §9
    """
    cut = {name: value[:LONGEST_STRING] if isinstance(value, str) else value for name, value in document.items()}
    try:
        orjson.dumps(cut)
    except TypeError as error:
        raise Refused(f"a document is no JSON: {error}") from None
    return cut


def check_ids(index: str, ids: Iterable[str]) -> None:
    """Raise Refused when the name of an index, or an id of a document, is empty, no text, or too long."""
    for text in (index, *ids):
        try:
            length = len(str.encode(text))
        except (TypeError, UnicodeEncodeError):
            raise Refused("the name of an index, or an id, is no text") from None
        if not 0 < length <= LONGEST_ID:
            raise Refused(f"the name of an index, or an id, has {length} bytes")
