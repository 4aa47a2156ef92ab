"""The object store's twin in memory (see ``io_connectors.memory``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from io_connectors.memory import Twin
from io_connectors.object_keys import checked_key
from io_connectors.one_per_process import one_per_process

__all__ = ["MemoryObject", "MemoryObjectStore", "MemoryObjects"]


@dataclass(frozen=True)
class MemoryObjectStore:
    """The recipe of one container of an object store."""

    name: str
    container: str

    def open(self) -> MemoryObjects:
        """The twin of this name and container."""
        return one_per_process(self, lambda: MemoryObjects(self.container))


class MemoryObject(NamedTuple):
    """An object as it was written."""

    content: bytes
    content_type: str


class MemoryObjects(Twin):
    """One container (``transforms.services.Objects`` and ``FileObjects``)."""

    def __init__(self, container: str) -> None:
        super().__init__()
        self._container = container
        self._objects: dict[str, MemoryObject] = {}

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """As the protocol says."""
        checked_key(key)
        with self._call():
            self._operate("put", key)
            self._objects[key] = MemoryObject(bytes(content), content_type)

    def put_file(self, key: str, file: Path, content_type: str) -> str:
        """As the protocol says."""
        self.put(key, file.read_bytes(), content_type)
        return self.url(key)

    def url(self, key: str) -> str:
        """As the protocol says."""
        return f"https://memory.example.org/{self._container}/{checked_key(key)}"

    def size(self, key: str) -> int | None:
        """As the protocol says."""
        found = self.get(key)
        return None if found is None else len(found)

    def get(self, key: str) -> bytes | None:
        """As the protocol says."""
        checked_key(key)
        with self._call():
            self._operate("get", key)
            found = self._objects.get(key)
            return found and found.content

    def delete(self, key: str) -> None:
        """As the protocol says."""
        checked_key(key)
        with self._call():
            self._operate("delete", key)
            self._objects.pop(key, None)

    def objects(self) -> dict[str, MemoryObject]:
        """All objects by key."""
        with self._lock:
            return dict(self._objects)

    def clear(self) -> None:
        """Remove all objects, and forget what was asked."""
        with self._lock:
            self._objects.clear()
            self.operations.clear()
