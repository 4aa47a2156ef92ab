"""The indexes of Elasticsearch, read from the files in ``indexes/``."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["indexes"]


@cache
def indexes() -> dict[str, dict[str, Any]]:
    """Every index by its name, with the ``settings`` and ``mappings`` that it is created with.

    spec: collection-certificate-generator §4
    """
    return {
        entry.name.removesuffix(".json"): json.loads(entry.read_text(encoding="utf-8"))
        for entry in files("schemas").joinpath("indexes").iterdir()
    }
