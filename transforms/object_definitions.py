"""What the object service's definitions say of a type: its properties, and which of them are kept elsewhere.

spec: auto-creator-v2 §3.1
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from transforms.decode import value_at
from transforms.import_failures import called
from transforms.services import JsonReads

__all__ = ["Definition", "Definitions", "definition"]

REMEMBERED = 100
REMEMBERED_SECONDS = 600


@dataclass(frozen=True)
class Definition:
    """A type of objects. ``external`` are the properties that Cassandra holds, with their types there."""

    properties: tuple[str, ...]
    object_typed: frozenset[str]
    external: Mapping[str, str]
    table: str | None
    primary_key: str
    relations: frozenset[str]


def definition(schema: Mapping[str, Any], config: Mapping[str, Any]) -> Definition:
    """What two documents say; what they do not say is empty."""
    properties = _object(value_at(schema, "properties"))
    external = _object(value_at(config, "external.properties"))
    table, keys = value_at(config, "external.tableName"), value_at(config, "external.primaryKey")
    relations = _object(value_at(config, "relations"))
    return Definition(
        properties=tuple(properties),
        object_typed=frozenset(name for name, about in properties.items() if value_at(about, "type") == "object"),
        external={name: str(value_at(about, "type")) for name, about in external.items()},
        table=table if isinstance(table, str) and table else None,
        primary_key=keys[0] if isinstance(keys, list) and keys and isinstance(keys[0], str) else "identifier",
        relations=frozenset(label for label, about in relations.items() if value_at(about, "objects")),
    )


class Definitions:
    """The definitions of all types, each remembered for some minutes. For many threads at once."""

    def __init__(self, documents: JsonReads, base: str, versions: Mapping[str, str], clock: Callable[[], int]) -> None:
        self._documents = documents
        self._base = base.rstrip("/")
        self._versions = versions
        self._lock = threading.Lock()
        self._remembered: TTLCache[str, Definition] = TTLCache(
            REMEMBERED, REMEMBERED_SECONDS, timer=lambda: clock() / 1000
        )

    def of(self, object_type: str) -> Definition:
        """The definition of a type. Raises ImportFailed."""
        kind = object_type.lower()
        name = kind.replace("image", "")
        url = f"{self._base}/{name}/{self._versions.get(kind, '1.0')}"
        with self._lock:
            known = self._remembered.get(url)
        if known is None:
            failure = f"The definition of {object_type} can not be read"
            schema = called(lambda: self._documents.read(f"{url}/schema.json"), failure)
            known = definition(schema, called(lambda: self._documents.read(f"{url}/config.json"), failure))
            with self._lock:
                self._remembered[url] = known
        return known


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
