"""Cassandra: many prepared statements at a time over one session (spec: core §7)."""

from __future__ import annotations

import logging
import re
import ssl
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from cassandra import ConsistencyLevel, DriverException, InvalidRequest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, ResultSet, Session
from cassandra.connection import ConnectionException
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.protocol import ErrorMessage, SyntaxException
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement, tuple_factory

from io_connectors.cassandra_values import PROTOCOL_VERSION, UNFIT, AnswerHandler, Convert, decoder, encoder
from io_connectors.one_per_process import one_per_process
from io_connectors.retries import PAUSES, retrying
from transforms.stores import Delete, Refused, Row, Select, StoreUnavailable, Update, Write

__all__ = ["Cassandra", "CassandraTables"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"\w+(\.\w+)?", re.ASCII)
_UNKNOWN_TABLE = re.compile(r"unconfigured table|(table|keyspace) \S+ does not exist", re.IGNORECASE)
# From 5 KiB of data on, as the server counts them, it warns of a batch; these are bytes as encoded, which are fewer.
BYTES_AT_ONCE = 3_000
_PENDING: Any = object()

Decoders = tuple[tuple[str, Convert], ...]

Request = TypeVar("Request")
# Gives what is to be sent for a request, or its outcome when nothing is.
Bind = Callable[["_Statements", Request], Any]


@dataclass(frozen=True)
class Cassandra:
    """The recipe of a session: its credentials, its limits (times in seconds).

    ``host`` is one contact point, or several with commas, of which one has to answer.

    ``concurrency`` requests are under way at a time. Small batches travel together, up to ``partitions_at_once``:
    the server warns of more than 10.

    With ``multi_dc``, requests go round robin to ``datacenter`` (when absent, the contact point's); else to the
    replicas in the contact point's. Reads and writes are at LOCAL_QUORUM. spec: core §7
    """

    host: str
    port: int = 9042
    multi_dc: bool = False
    datacenter: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    concurrency: int = 64
    partitions_at_once: int = 10
    connect_timeout: float = 5.0
    request_timeout: float = 12.0
    retry_pauses: tuple[float, ...] = PAUSES

    def open(self) -> CassandraTables:
        """The process' client for this recipe; it connects when it is first asked for something."""
        return one_per_process(self, lambda: CassandraTables(self))


class _Connection(Cluster.connection_class):  # type: ignore[misc]
    """Reads an answer of some hundred rows in one piece, not in many."""

    in_buffer_size = 65_536


class _Away(Exception):
    """The server, or the way to it, failed; the statement may be tried again."""


class _Prepared(NamedTuple):
    """A statement of one shape: how its values are encoded and its rows decoded; what of its values says which
    partition and which row it writes.

    Without ``columns``, each answer says which they are.
    """

    statement: PreparedStatement
    encoders: tuple[Convert, ...]
    columns: tuple[str, ...] | None
    decoders: Decoders
    partition: Convert
    row: Convert


class _Bound(NamedTuple):
    """What one request says, with its values; ``prepared`` where rows are expected, else the keys that it writes.

    ``alone``: it must not travel with others.
    """

    statements: list[BoundStatement]
    prepared: _Prepared | None = None
    partitions: frozenset[Any] = frozenset()
    rows: frozenset[Any] = frozenset()
    alone: bool = False


class CassandraTables:
    """The client (``transforms.stores.Tables``); any number of threads may use it.

    A value that does not fit its column, and a statement that the server calls invalid, give Refused in the result's
    place. Everything else is tried again, only what failed, and raises StoreUnavailable in the end. A table that does
    not exist is no fault of the data: it raises StoreUnavailable at once.
    """

    def __init__(self, recipe: Cassandra) -> None:
        self._recipe = recipe
        self._address = f"Cassandra at {recipe.host}:{recipe.port}"
        self._lock = threading.Lock()
        self._connected: _Statements | None = None

    def select(self, selects: Sequence[Select]) -> list[list[Row] | Refused]:
        """Run all selects. A missing column's value is None; a timestamp is a naive datetime in UTC. spec: core §7"""
        return self._run(selects, _Statements.bind_select)

    def write(self, batches: Sequence[Sequence[Write]]) -> list[Refused | None]:
        """Run each inner list as one unlogged batch; a timestamp may be epoch milliseconds. spec: core §7

        Small batches of updates travel together, which costs both sides a third: what is refused is still each by
        itself. An ``if_exists`` update is agreed upon at LOCAL_SERIAL, and its outcome is None whether there was a row
        or not; ValueError when its batch holds another statement. Two of one call that meet in a row come in any order.
        """
        return self._run(batches, _Statements.bind_batch)

    # --- the session

    def _statements(self) -> _Statements:
        with self._lock:
            if self._connected is None:
                self._connected = _Statements(self._connect(), self._address)
            return self._connected

    def close(self) -> None:
        """End the session; the next call makes a new one."""
        with self._lock:
            left, self._connected = self._connected, None
        if left is not None:
            left.session.cluster.shutdown()

    def _connect(self) -> Session:
        recipe = self._recipe
        local = DCAwareRoundRobinPolicy(recipe.datacenter or "")
        profile = ExecutionProfile(
            load_balancing_policy=local if recipe.multi_dc else TokenAwarePolicy(local),
            consistency_level=ConsistencyLevel.LOCAL_QUORUM,
            request_timeout=recipe.request_timeout,
            row_factory=tuple_factory,
        )

        def connect() -> Session:
            cluster = Cluster(
                [host.strip() for host in recipe.host.split(",")],
                port=recipe.port,
                connection_class=_Connection,
                protocol_version=PROTOCOL_VERSION,
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                auth_provider=PlainTextAuthProvider(recipe.username, recipe.password) if recipe.username else None,
                ssl_context=ssl.create_default_context() if recipe.tls else None,
                connect_timeout=recipe.connect_timeout,
                control_connection_timeout=recipe.connect_timeout,
                reconnection_policy=ExponentialReconnectionPolicy(0.2, 3.0),
                compression=False,
            )
            try:
                session = cluster.connect()
                session.client_protocol_handler = AnswerHandler
                return session
            except Exception:
                cluster.shutdown()
                raise

        try:
            session = retrying(recipe.retry_pauses, DriverException, NoHostAvailable, OSError)(connect)
        except (DriverException, NoHostAvailable, OSError) as error:
            raise StoreUnavailable(f"{self._address} can not be reached: {_reason(error)}") from error
        _log.info("connected to %s", self._address)
        return session

    # --- sending

    def _run(self, requests: Sequence[Request], bind: Bind[Request]) -> list[Any]:
        """Bind and send each request; those that failed for no fault of theirs again after a pause."""
        outcomes: list[Any] = [_PENDING] * len(requests)
        alone: set[int] = set()
        if requests:
            try:
                retrying(self._recipe.retry_pauses, _Away)(self._run_once, requests, bind, outcomes, alone)
            except _Away as error:
                self.close()
                raise StoreUnavailable(f"{self._address} stays away: {error}") from error
        return outcomes

    def _run_once(self, requests: Sequence[Request], bind: Bind[Request], outcomes: list[Any], alone: set[int]) -> None:
        """Send what is pending, ``concurrency`` at a time; raises _Away with the last error when some stays pending.

        ``alone`` are the places of batches that do not travel with others, because they were refused together.
        """
        statements = self._statements()
        in_flight = threading.Semaphore(self._recipe.concurrency)
        errors: list[Exception] = []
        refused: list[int] = []
        try:
            bound = self._bound(statements, requests, bind, outcomes)
            for places, together in _together(bound, alone, self._recipe.partitions_at_once):
                self._acquire(in_flight)
                _Sent(places, together, outcomes, errors, refused, in_flight).send(statements.session)
        finally:
            for _ in range(self._recipe.concurrency):
                self._acquire(in_flight)
        if errors:
            raise _Away(_reason(errors[-1])) from errors[-1]
        if refused:
            alone.update(refused)
            self._run_once(requests, bind, outcomes, alone)

    @staticmethod
    def _bound(
        statements: _Statements, requests: Sequence[Request], bind: Bind[Request], outcomes: list[Any]
    ) -> Iterator[tuple[int, _Bound]]:
        """The places of what is pending, with what is to be sent; the others have their outcome now."""
        for place, request in enumerate(requests):
            if outcomes[place] is _PENDING:
                bound = bind(statements, request)
                if isinstance(bound, _Bound):
                    yield place, bound
                else:
                    outcomes[place] = bound

    def _acquire(self, in_flight: threading.Semaphore) -> None:
        """Wait until one more may be sent. The driver ends every request in time; should it not, this does."""
        if not in_flight.acquire(timeout=2 * self._recipe.request_timeout):
            raise _Away("no answer")


class _Statements:
    """A session and the statements prepared in it, one for each shape of Select and Update."""

    def __init__(self, session: Session, address: str) -> None:
        self.session = session
        self._address = address
        self._prepared: dict[Any, _Prepared] = {}

    def bind_select(self, select: Select) -> _Bound | Refused:
        where = tuple((name, isinstance(value, list | tuple)) for name, value in select.where.items())
        prepared = self._prepare((select.table, where, select.columns), partial(_select_text, select))
        if isinstance(prepared, Refused):
            return prepared
        try:
            bound = _bind(prepared, select.where.values())
        except UNFIT as error:
            return _unfit(select.table, error)
        if select.columns:
            return _Bound([bound], prepared)
        # The driver takes the columns that a statement was prepared with for those of every answer, and others may have
        # come since. Where it knows none, each answer brings its own; it notes them when it has to prepare again, hence
        # the copy.
        bound.prepared_statement = copy(prepared.statement)
        bound.prepared_statement.result_metadata = None
        return _Bound([bound], prepared._replace(columns=None))

    def bind_batch(self, batch: Sequence[Write]) -> _Bound | Refused | None:
        if not batch:
            return None
        statements, partitions, rows = [], [], []
        alone = conditional = False
        for write in batch:
            if isinstance(write, Delete):
                # which rows it meets is not known here
                alone = True
                prepared = self._prepare((write.table, tuple(write.where)), partial(_delete_text, write))
                values: tuple[Any, ...] = (*write.where.values(),)
            else:
                shape = (write.table, tuple(write.where), tuple(write.assign), tuple(write.add), write.if_exists)
                prepared = self._prepare(shape, partial(_update_text, write))
                values = (*write.assign.values(), *write.add.values(), *write.where.values())
                conditional = conditional or write.if_exists
            if isinstance(prepared, Refused):
                return prepared
            try:
                bound = _bind(prepared, values)
            except UNFIT as error:
                return _unfit(write.table, error)
            statements.append(bound)
            partitions.append(prepared.partition(bound.values))
            rows.append((write.table, prepared.row(bound.values)))
        if conditional:
            if len(statements) > 1:
                raise ValueError(f"{batch[0].table}: an if_exists update is a batch of its own")
            statements[0].serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL
        return _Bound(statements, None, frozenset(partitions), frozenset(rows), alone or conditional)

    def _prepare(self, shape: Any, text: Callable[[], str]) -> _Prepared | Refused:
        found = self._prepared.get(shape)
        if found is not None:
            return found
        # Two threads may prepare the same; the server does it once.
        try:
            statement = self.session.prepare(text())
        except Refused as refused:
            return refused
        except (InvalidRequest, SyntaxException) as error:
            if _UNKNOWN_TABLE.search(str(error)):
                raise StoreUnavailable(f"{self._address}: {_reason(error)}") from error
            return Refused(_reason(error))
        except (DriverException, NoHostAvailable, ConnectionException, ErrorMessage) as error:
            raise _Away(_reason(error)) from error
        columns = [(column[2], column[3]) for column in statement.result_metadata or ()]
        names = [column.name for column in statement.column_metadata]
        # WHERE comes last, in whatever order it was given
        key = sorted(range(len(names) - len(shape[1]), len(names)), key=names.__getitem__)
        prepared = self._prepared[shape] = _Prepared(
            statement,
            tuple(encoder(column.type) for column in statement.column_metadata),
            tuple(name for name, _ in columns),
            _decoders(columns),
            itemgetter(*(statement.routing_key_indexes or key)),
            itemgetter(*key),
        )
        return prepared


def _together(
    bound: Iterable[tuple[int, _Bound]], alone: Container[int], at_once: int
) -> Iterator[tuple[list[int], _Bound]]:
    """Put small batches together, in order, up to ``at_once`` partitions; with the places that they come from.

    Never two that write the same row: all of a CQL batch has one time, and the later one would not win.
    """
    places: list[int] = []
    statements: list[BoundStatement] = []
    partitions: set[Any] = set()
    rows: set[Any] = set()
    size = 0
    for place, one in bound:
        one_size = sum(len(value) for statement in one.statements for value in statement.values if value is not None)
        if one.prepared is not None or one.alone or place in alone or one_size > BYTES_AT_ONCE:
            if statements and (one.alone or not rows.isdisjoint(one.rows)):
                yield places, _Bound(statements)
                places, statements, partitions, rows, size = [], [], set(), set(), 0
            yield [place], one
            continue
        full = len(partitions | one.partitions) > at_once or size + one_size > BYTES_AT_ONCE
        if statements and (full or not rows.isdisjoint(one.rows)):
            yield places, _Bound(statements)
            places, statements, partitions, rows, size = [], [], set(), set(), 0
        places.append(place)
        statements += one.statements
        partitions |= one.partitions
        rows |= one.rows
        size += one_size
    if statements:
        yield places, _Bound(statements)


@dataclass(slots=True)
class _Sent:
    """A request on its way: leaves its outcome in its places, or its error, and makes room for the next.

    When it was refused and has several places, they stay pending and are noted in ``refused``.
    """

    places: list[int]
    bound: _Bound
    outcomes: list[Any]
    errors: list[Exception]
    refused: list[int]
    in_flight: threading.Semaphore
    future: Any = None
    rows: list[Row] = field(default_factory=list)

    def send(self, session: Session) -> None:
        try:
            self.future = session.execute_async(_message(self.bound.statements))
        except UNFIT as error:
            # a key that is too long to find its node by
            self._refuse(error)
        except Exception as error:
            self._failed(error)
        else:
            self.future.add_callbacks(self._answered, self._failed)

    def _answered(self, page: list[Any] | None) -> None:
        if self.bound.prepared is None:
            self._done(None)
            return
        if page and isinstance(page[0], Exception):
            self._refuse(page[0])
            return
        try:
            self.rows += self._rows(self.bound.prepared, page or [])
            if self.future.has_more_pages:
                self.future.start_fetching_next_page()
                return
        except Exception as error:
            # nobody else would hear of it, and the caller would wait for ever
            self._failed(error)
            return
        self._done(self.rows)

    def _rows(self, prepared: _Prepared, page: list[tuple[Any, ...]]) -> list[Row]:
        if prepared.columns is not None:
            return _rows(prepared.columns, prepared.decoders, page)
        answer = ResultSet(self.future, page)
        columns = list(zip(answer.column_names, answer.column_types, strict=True))
        return _rows(answer.column_names, _decoders(columns), page)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, InvalidRequest | SyntaxException):
            self._refuse(error)
        else:
            self.errors.append(error)
            self.in_flight.release()

    def _refuse(self, error: Exception) -> None:
        if len(self.places) == 1:
            self._done(Refused(_reason(error)))
        else:
            self.refused += self.places
            self.in_flight.release()

    def _done(self, outcome: Any) -> None:
        for place in self.places:
            self.outcomes[place] = outcome
        self.in_flight.release()


def _message(statements: list[BoundStatement]) -> BoundStatement | BatchStatement:
    if len(statements) == 1:
        return statements[0]
    batch = BatchStatement(BatchType.UNLOGGED)
    for statement in statements:
        batch.add(statement)
    return batch


def _bind(prepared: _Prepared, values: Iterable[Any]) -> BoundStatement:
    bound = BoundStatement(prepared.statement)
    bound.values = [
        None if value is None else encode(value) for encode, value in zip(prepared.encoders, values, strict=True)
    ]
    return bound


def _decoders(columns: Iterable[tuple[str, Any]]) -> Decoders:
    """How to make the values plain of those columns, each with its type, whose are not."""
    return tuple((name, decode) for name, cql_type in columns if (decode := decoder(cql_type)) is not None)


def _rows(columns: Sequence[str], decoders: Decoders, page: list[tuple[Any, ...]]) -> list[Row]:
    rows = [dict(zip(columns, values, strict=True)) for values in page]
    for column, decode in decoders:
        for row in rows:
            if row[column] is not None:
                row[column] = decode(row[column])
    return rows


def _select_text(select: Select) -> str:
    _check_names(select.table, *select.columns, *select.where)
    where = " AND ".join(
        f"{name} IN ?" if isinstance(value, list | tuple) else f"{name} = ?" for name, value in select.where.items()
    )
    return f"SELECT {', '.join(select.columns) or '*'} FROM {select.table} WHERE {where}"  # noqa: S608 - names were checked


def _update_text(update: Update) -> str:
    _check_names(update.table, *update.where, *update.assign, *update.add)
    changes = [f"{name} = ?" for name in update.assign] + [f"{name} = {name} + ?" for name in update.add]
    where = " AND ".join(f"{name} = ?" for name in update.where)
    condition = " IF EXISTS" if update.if_exists else ""
    return f"UPDATE {update.table} SET {', '.join(changes)} WHERE {where}{condition}"  # noqa: S608 - names were checked


def _delete_text(delete: Delete) -> str:
    _check_names(delete.table, *delete.where)
    where = " AND ".join(f"{name} = ?" for name in delete.where)
    return f"DELETE FROM {delete.table} WHERE {where}"  # noqa: S608 - names were checked


def _check_names(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} is no name of a table or column")


def _unfit(what: str, error: Exception) -> Refused:
    return Refused(f"{what}: a value does not fit: {_reason(error)}")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
