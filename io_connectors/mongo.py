"""MongoDB: one database of the ML services (spec: core §10)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    WriteConcernError,
    WriteError,
)

from io_connectors.one_per_process import one_per_process
from io_connectors.retries import PAUSES, retrying
from transforms.stores import Refused, StoreUnavailable, Updated

__all__ = ["Mongo", "MongoCollections"]

Document = dict[str, Any]
T = TypeVar("T")

_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?", re.ASCII)

# What a server says of itself and not of the data: it stops, it is not or no longer the primary, it waited too long,
# it has lost a cursor.
_TRY_AGAIN = frozenset({6, 7, 24, 43, 50, 64, 89, 91, 112, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
_AWAY = (ConnectionFailure, ExecutionTimeout, ProtocolError, WriteConcernError)
_TOO_LARGE = 10334
# What the client finds in the data before anything is sent.
_NO_BSON = (BSONError, OverflowError, UnicodeEncodeError)


@dataclass(frozen=True)
class Mongo:
    """The recipe of a client for one database; times in seconds. spec: core §10

    ``hosts`` is one ``host`` or ``host:port``, which is asked itself, or several with commas, whose replica set's
    primary is looked for. ``at_once`` calls may be under way; each waits ``call_timeout`` for its answer.
    """

    hosts: str
    port: int
    database: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    at_once: int = 100
    connect_timeout: float = 5.0
    call_timeout: float = 60.0
    retry_pauses: tuple[float, ...] = PAUSES

    def __post_init__(self) -> None:
        for host in self.hosts.split(","):
            if not _HOST.fullmatch(host.strip()):
                raise ValueError(f"ml-mongo.host: {host.strip()!r} is not HOST or HOST:PORT")

    @property
    def addresses(self) -> list[str]:
        """Each as ``host:port``."""
        hosts = [host.strip() for host in self.hosts.split(",")]
        return [host if re.search(r":\d+$", host) else f"{host}:{self.port}" for host in hosts]

    def open(self) -> MongoCollections:
        """The process' client for this recipe; it connects when it is first asked for something."""
        return one_per_process(self, lambda: MongoCollections(self))


class _Away(Exception):
    """The server, or the way to it, failed; the call may be made again."""


class MongoCollections:
    """The client (``transforms.stores.Collections``); any number of threads may use it.

    No primary, no connection, no answer in time are tried again and raise StoreUnavailable in the end; what the server
    calls invalid raises Refused; any other answer, such as one that asks for a password, StoreUnavailable at once.
    """

    def __init__(self, recipe: Mongo) -> None:
        self._recipe = recipe
        self._address = f"MongoDB at {','.join(recipe.addresses)}, database {recipe.database}"
        self._client: MongoClient[Document] = MongoClient(
            recipe.addresses,
            directConnection=len(recipe.addresses) == 1,
            username=recipe.username,
            password=recipe.password,
            tls=recipe.tls,
            maxPoolSize=recipe.at_once,
            connectTimeoutMS=round(recipe.connect_timeout * 1000),
            serverSelectionTimeoutMS=round(recipe.connect_timeout * 1000),
            # not timeoutMS: with it, a server that is away is waited for as long as for an answer
            socketTimeoutMS=round(recipe.call_timeout * 1000),
            waitQueueTimeoutMS=round(recipe.call_timeout * 1000),
            # all tries are made here, each with the time of a call
            retryReads=False,
            retryWrites=False,
            # a time that Python can not hold is kept as it is
            datetime_conversion="DATETIME_AUTO",
            connect=False,
        )
        self._database = self._client[recipe.database]

    def find(self, collection: str, where: Mapping[str, Any]) -> list[Document]:
        """As the protocol says. spec: core §10"""
        return self._tried(lambda: list(self._database[collection].find(where)))

    def update(self, collection: str, where: Mapping[str, Any], change: Mapping[str, Any]) -> Updated:
        """As the protocol says. spec: core §10"""
        result = self._tried(lambda: self._database[collection].update_many(where, change))
        return Updated(result.matched_count, result.modified_count)

    def insert_if_missing(self, collection: str, where: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
        """As the protocol says. spec: core §10"""
        change = {"$setOnInsert": document}

        def insert() -> bool:
            try:
                result = self._database[collection].update_one(where, change, upsert=True)
            except DuplicateKeyError:
                if self._database[collection].find_one(where) is None:
                    # of an index on other fields, which a later try meets again
                    raise
                # another one was faster
                return False
            return result.upserted_id is not None

        return self._tried(insert)

    def close(self) -> None:
        """End all connections; the client is of no use afterwards."""
        self._client.close()

    def _tried(self, call: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return call()
            except PyMongoError as error:
                raise self._judged(error) from None
            except _NO_BSON as error:
                raise Refused(f"{self._address}: no BSON: {type(error).__name__}") from None

        try:
            return retrying(self._recipe.retry_pauses, _Away)(once)
        except _Away as error:
            raise StoreUnavailable(f"{self._address} stays away: {error}") from None

    def _judged(self, error: PyMongoError) -> Exception:
        """What becomes of an error. A server's message may quote a document, so only its code is passed on."""
        reason = type(error).__name__
        code = None
        if isinstance(error, OperationFailure):
            code = error.code
            reason = f"{reason} {code} {(error.details or {}).get('codeName', '')}".rstrip()
        elif isinstance(error, ConfigurationError):
            reason = f"{reason}: {error}"
        if code in _TRY_AGAIN or isinstance(error, _AWAY):
            return _Away(reason)
        if code == _TOO_LARGE or isinstance(error, WriteError):
            return Refused(f"{self._address}: {reason}")
        return StoreUnavailable(f"{self._address}: {reason}")
