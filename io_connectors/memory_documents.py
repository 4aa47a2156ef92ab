"""Elasticsearch's twin in memory (see ``io_connectors.memory``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from io_connectors.documents import check_ids, written
from io_connectors.memory import Twin
from io_connectors.one_per_process import one_per_process
from transforms.stores import Refused

__all__ = ["MemoryDocuments", "MemoryElasticsearch"]

_INDEX = re.compile(r"(?![-_+.])[^A-Z\s\\/*?\"<>|,#:]+")


@dataclass(frozen=True)
class MemoryElasticsearch:
    """The recipe of a cluster."""

    name: str

    def open(self) -> MemoryDocuments:
        """The twin of this name."""
        return one_per_process(self, MemoryDocuments)


class MemoryDocuments(Twin):
    """The documents (``transforms.services.Documents``) of indexes that know no types: every field takes any value."""

    def __init__(self) -> None:
        super().__init__()
        self._indexes: dict[str, dict[str, bytes]] = {}

    def index(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """As the protocol says."""
        texts = {id_: orjson.dumps(written(document)) for id_, document in documents.items()}
        self._write("index", index, texts)

    def update(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """As the protocol says."""
        texts = {id_: orjson.dumps(written(document)) for id_, document in documents.items()}
        with self._lock:
            found = self._indexes.get(index, {})
            merged = {
                id_: orjson.dumps(_merged(orjson.loads(found[id_]), orjson.loads(text))) if id_ in found else text
                for id_, text in texts.items()
            }
            self._write("update", index, merged)

    def change(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """As the protocol says."""
        check_ids(index, documents)
        with self._lock:
            found = self._indexes.get(index, {})
            self.update(index, {id_: document for id_, document in documents.items() if id_ in found})

    def get(self, index: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """As the protocol says."""
        check_ids(index, ids)
        with self._call():
            self._operate("get", (index, *ids))
            found = self._indexes.get(index, {})
            return [orjson.loads(found[id_]) if id_ in found else None for id_ in ids]

    def delete(self, index: str, ids: Sequence[str]) -> list[bool]:
        """As the protocol says; each document is an operation."""
        check_ids(index, ids)
        with self._call():
            gone = []
            for id_ in ids:
                self._operate("delete", (index, id_))
                gone.append(self._indexes.get(index, {}).pop(id_, None) is not None)
            return gone

    def has_index(self, index: str) -> bool:
        """As the protocol says."""
        check_ids(index, ())
        with self._call():
            self._operate("has_index", index)
            return index in self._indexes

    def documents(self, index: str) -> dict[str, dict[str, Any]]:
        """All documents of an index by id; none where there is no such index."""
        with self._lock:
            return {id_: orjson.loads(text) for id_, text in self._indexes.get(index, {}).items()}

    def clear(self) -> None:
        """Remove all indexes, and forget what was asked."""
        with self._lock:
            self._indexes.clear()
            self.operations.clear()

    def _write(self, name: str, index: str, documents: Mapping[str, bytes]) -> None:
        """Each document is an operation."""
        check_ids(index, documents)
        with self._call():
            if not documents:
                return
            if not _INDEX.fullmatch(index):
                raise Refused(f"Elasticsearch in memory: no name of an index: {index!r}")
            for id_, text in documents.items():
                self._operate(name, (index, id_))
                self._indexes.setdefault(index, {})[id_] = text


def _merged(into: Any, new: Any) -> Any:
    if not isinstance(into, dict) or not isinstance(new, dict):
        return new
    return {**into, **{name: _merged(into.get(name), value) for name, value in new.items()}}
