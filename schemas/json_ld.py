"""The terms of the certificates' documents: JSON-LD contexts (spec: collection-certificate-generator §3.5.2).

A portal serves them under ``BASE``; documents only name them. These are for whoever reads a document without a portal.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson

__all__ = ["PATHS", "context"]

PATHS = {
    "v1/context.json": "badge.json",
    "v1/extensions/SignatoryExtension/context.json": "signatory-extension.json",
}
"""The path of each context under ``BASE``, and its file in ``contexts/``."""


@cache
def context(path: str) -> dict[str, Any]:
    """The context document that belongs at ``BASE/<path>``. Raises KeyError when there is none."""
    document: dict[str, Any] = orjson.loads(files("schemas").joinpath("contexts", PATHS[path]).read_bytes())
    return document
