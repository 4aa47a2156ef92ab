"""Neo4j: nodes by their id, read and merged (spec: content-auto-creator §4, auto-creator-v2 §3.7).

Only what drivers of version 4.4 and later have in common is used, so that an installation with an older server can
bring the driver that speaks with it.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from neo4j import READ_ACCESS, WRITE_ACCESS, Driver, GraphDatabase
from neo4j.exceptions import AuthError, ClientError, DatabaseError, DriverError, Neo4jError, TransientError

from io_connectors.one_per_process import one_per_process
from io_connectors.retries import PAUSES, retrying
from transforms.stores import Refused, StoreUnavailable

__all__ = ["Neo4j", "Neo4jGraph"]

_LABEL = re.compile(r"[A-Za-z_]\w*", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True)
class Neo4j:
    """The recipe of a graph; ``address`` as ``bolt://host:port``, times in seconds, ``pool`` connections at most.

    A statement waits ``call_timeout`` for its answer.

    Nodes have the label ``label``, and their id is their property ``IL_UNIQUE_ID``. No encryption but with an address
    that asks for it (``bolt+s://``). ValueError for what can be no label.
    """

    address: str
    label: str = "domain"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    call_timeout: float = 60.0
    pool: int = 10
    retry_pauses: tuple[float, ...] = PAUSES

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.label):
            raise ValueError(f"neo4j.graph: {self.label!r} can be no label of nodes")

    def open(self) -> Neo4jGraph:
        """The process' client for this recipe; it connects when it is first asked for something."""
        return one_per_process(self, lambda: Neo4jGraph(self))


class _Away(Exception):
    """The server, or the way to it, failed; the statement may be run again."""


class Neo4jGraph:
    """The client (``transforms.services.Graph``); any number of threads may use it.

    Every statement is read to its end, and may be run again: all of them give the same when they are.
    """

    def __init__(self, recipe: Neo4j) -> None:
        self._recipe = recipe
        self._lock = threading.Lock()
        self._opened: Driver | None = None

    def get_node(self, node_id: str) -> dict[str, Any] | None:
        """As the protocol says."""
        query = f"MATCH (n:{self._recipe.label} {{IL_UNIQUE_ID: $id}}) RETURN properties(n) AS properties LIMIT 1"
        return self._run(READ_ACCESS, query, {"id": node_id}, lambda rows: rows[0]["properties"] if rows else None)

    def merge_node(self, node_id: str, properties: Mapping[str, Any]) -> None:
        """As the protocol says."""
        query = f"MERGE (n:{self._recipe.label} {{IL_UNIQUE_ID: $id}}) SET n += $properties"
        self._run(WRITE_ACCESS, query, {"id": node_id, "properties": dict(properties)}, lambda _: None)

    def close(self) -> None:
        """End the connections; the next call makes new ones."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def _driver(self) -> Driver:
        recipe = self._recipe
        with self._lock:
            if self._opened is None:
                auth = (recipe.username, recipe.password or "") if recipe.username else None
                self._opened = GraphDatabase.driver(
                    recipe.address,
                    auth=auth,
                    connection_timeout=recipe.connect_timeout,
                    connection_acquisition_timeout=recipe.connect_timeout * 3,
                    max_connection_pool_size=recipe.pool,
                )
            return self._opened

    @contextlib.contextmanager
    def _limited(self) -> Iterator[Driver]:
        """The driver. It waits without end for a server that falls silent, unless its connections are closed."""
        driver = self._driver()
        limit = threading.Timer(self._recipe.call_timeout, self._give_up, [driver])
        limit.daemon = True
        limit.start()
        try:
            yield driver
        finally:
            limit.cancel()

    def _give_up(self, driver: Driver) -> None:
        """End the connections of a driver; all that wait for them fail, and are tried again with a new one."""
        with self._lock:
            if self._opened is driver:
                self._opened = None
        driver.close()

    def _run(self, access: str, query: str, parameters: dict[str, Any], take: Callable[[list[dict[str, Any]]], T]) -> T:
        address = f"Neo4j at {self._recipe.address.rpartition('@')[2]}"

        def once() -> T:
            try:
                with self._limited() as driver, driver.session(default_access_mode=access) as session:
                    return take(session.run(query, parameters).data())
            except AuthError:
                raise StoreUnavailable(f"{address}: user or password is refused") from None
            except (TypeError, ValueError, OverflowError) as error:
                raise Refused(f"{address}: a value that no property can have ({type(error).__name__})") from None
            except (TransientError, DatabaseError, DriverError, OSError) as error:
                raise _Away(type(error).__name__) from None
            except ClientError as error:
                # its message quotes the values
                raise Refused(f"{address} refuses the statement: {error.code}") from None
            except Neo4jError as error:
                raise _Away(str(error.code)) from None

        try:
            return retrying(self._recipe.retry_pauses, _Away)(once)
        except _Away as error:
            raise StoreUnavailable(f"{address} stays away: {error}") from None
