"""What a transform may ask of a store: small interfaces, and the statements that go through them.

The real clients and their in-memory twins live in ``io_connectors``; a transform only sees the protocols below,
so a rule can be tested without any server. Every method takes many keys or statements at once: one call is one
(pipelined or concurrent) round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

Row = dict[str, Any]
T_co = TypeVar("T_co", covariant=True)


class Refused(Exception):
    """The store says that a statement is invalid. The fault is in the data, so it is never tried again."""


class StoreUnavailable(Exception):
    """A store or service stayed away after bounded retries. The message names its address."""


@dataclass(frozen=True, slots=True)
class Select:
    """``SELECT columns FROM table WHERE …``. A list as value means ``IN``; ``table`` is ``keyspace.name``.

    Without columns: all that the table has, whatever the installation's table has.
    """

    table: str
    columns: tuple[str, ...]
    where: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """``UPDATE table SET assign…, add… WHERE …``; ``add`` puts entries into a map column and leaves the others.

    ``if_exists`` makes no row where there is none; such an update is a batch of its own.
    """

    table: str
    where: Mapping[str, Any]
    assign: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """``DELETE FROM table WHERE …``: the rows of a key, or of the first columns of one."""

    table: str
    where: Mapping[str, Any]


Write = Update | Delete


@dataclass(frozen=True, slots=True)
class HashChange:
    """What becomes of a hash, in one step: fields that are set, and others that are removed; the rest stays."""

    put: Mapping[str, str] = field(default_factory=dict)
    remove: Collection[str] = ()


class Tables(Protocol):
    """Cassandra, as far as the jobs need it (spec: core §7)."""

    def select(self, selects: Sequence[Select]) -> list[list[Row] | Refused]:
        """Run all selects, a bounded number at a time. Results in input order; raises StoreUnavailable."""
        ...

    def write(self, batches: Sequence[Sequence[Write]]) -> list[Refused | None]:
        """Run each inner list as one CQL batch, concurrently. Results in input order; raises StoreUnavailable."""
        ...


class KeyValues(Protocol):
    """One Redis database (spec: core §5, §6). Every method raises StoreUnavailable."""

    def members(self, keys: Sequence[str]) -> list[frozenset[str]]:
        """SMEMBERS of each key; a missing key gives an empty set."""
        ...

    def exists(self, keys: Sequence[str]) -> list[bool]: ...

    def get(self, keys: Sequence[str]) -> list[str | None]: ...

    def set(self, values: Mapping[str, str], expiry: int | None = None) -> None:
        """SET, or SETEX with ``expiry`` in seconds."""
        ...

    def replace_sets(self, sets: Mapping[str, Collection[str]]) -> None:
        """Replace each set so that no reader sees it empty. ValueError when a set has no members."""
        ...

    def add_members(self, key: str, members: Collection[str]) -> None: ...

    def delete(self, keys: Sequence[str]) -> int: ...

    def scan(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, taken literally, found with SCAN."""
        ...

    def json_map(self, key: str, fields: Sequence[str] = ()) -> dict[str, Any]:
        """A JSON object kept as string, read by the data-cache rules (spec: core §6 "get (map)")."""
        ...

    def hash_map(self, key: str, fields: Sequence[str] = (), all_fields: bool = False) -> dict[str, Any]:
        """A hash, read by the data-cache rules (spec: core §6 "hash get")."""
        ...

    def set_hash(self, key: str, values: Mapping[str, str]) -> None: ...

    def delete_hash_fields(self, key: str, fields: Sequence[str]) -> None: ...

    def hash_fields(self, keys: Sequence[str]) -> list[frozenset[str] | Refused]:
        """HKEYS of each key; a missing key has none. Refused in the place of a key of another type."""
        ...

    def change_hashes(self, changes: Mapping[str, HashChange]) -> list[Refused | None]:
        """Change each hash so that no reader sees it half done. Refused in the place of a key of another type."""
        ...


class Updated(NamedTuple):
    """How many documents an update found, and how many of them it changed."""

    matched: int
    modified: int


class Collections(Protocol):
    """One MongoDB database (spec: core §10). Filters and changes are MongoDB's own.

    Every method raises StoreUnavailable, and Refused for a fault of the data. A call whose answer is lost is made
    again, so a change has to be one that may be made twice.
    """

    def find(self, collection: str, where: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All documents that match."""
        ...

    def update(self, collection: str, where: Mapping[str, Any], change: Mapping[str, Any]) -> Updated:
        """Change all documents that match. After Refused, some of them may be changed and others not."""
        ...

    def insert_if_missing(self, collection: str, where: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
        """Make a document of ``where`` (fields and their values) and ``document``, unless one has these values.

        Whether it was made; after an answer that was lost, False may also mean that it was. Raises Refused when
        another document has a value of ``document`` that only one may have.
        """
        ...


class CollectionStatuses(Protocol):
    """The search service's word on a collection."""

    def status(self, course_id: str) -> str | None:
        """``Live``, ``Retired`` …; None when it knows none. Raises StoreUnavailable (spec: its §3.5.1)."""
        ...


class Opens(Protocol[T_co]):
    """The picklable recipe of a store. ``open`` is called on the worker and shares one client per process."""

    def open(self) -> T_co: ...
