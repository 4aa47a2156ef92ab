"""Neo4j's twin in memory (see ``io_connectors.memory``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from io_connectors.memory import Twin
from io_connectors.one_per_process import one_per_process
from transforms.stores import Refused

__all__ = ["MemoryGraph", "MemoryNeo4j"]

# a whole number of a property has 64 bits
_LARGEST = 2**63


@dataclass(frozen=True)
class MemoryNeo4j:
    """The recipe of a graph."""

    name: str

    def open(self) -> MemoryGraph:
        """The twin of this name."""
        return one_per_process(self, MemoryGraph)


class MemoryGraph(Twin):
    """Nodes of one label (``transforms.services.Graph``)."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, dict[str, Any]] = {}

    def get_node(self, node_id: str) -> dict[str, Any] | None:
        """As the protocol says."""
        with self._call():
            self._operate("get_node", node_id)
            found = self._nodes.get(node_id)
            return None if found is None else dict(found)

    def merge_node(self, node_id: str, properties: Mapping[str, Any]) -> None:
        """As the protocol says."""
        for value in properties.values():
            _check(value)
        with self._call():
            self._operate("merge_node", node_id)
            merged = {**self._nodes.get(node_id, {"IL_UNIQUE_ID": node_id}), **properties}
            self._nodes[node_id] = {name: value for name, value in merged.items() if value is not None}

    def nodes(self) -> dict[str, dict[str, Any]]:
        """All nodes by id."""
        with self._lock:
            return {node_id: dict(properties) for node_id, properties in self._nodes.items()}


def _check(value: Any) -> None:
    kinds = {type(item) for item in value} if isinstance(value, list) else set()
    is_list = isinstance(value, list) and len(kinds) <= 1 and kinds <= {str, bool, int, float}
    is_plain = is_list or value is None or isinstance(value, str | bool | int | float)
    numbers = value if isinstance(value, list) else [value]
    if not is_plain or any(isinstance(number, int) and not -_LARGEST <= number < _LARGEST for number in numbers):
        raise Refused("the graph in memory refuses a value that no property can have")
