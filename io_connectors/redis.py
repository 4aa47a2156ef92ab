"""Redis: one database, many keys in one pipelined round trip (spec: core §5, §6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from io_connectors import data_cache
from io_connectors.one_per_process import one_per_process
from io_connectors.retries import PAUSES, retrying
from transforms.stores import HashChange, Refused, StoreUnavailable

__all__ = ["Redis", "RedisKeyValues"]

# So many commands are sent before their answers are read.
COMMANDS_AT_ONCE = 1_000

_GLOB = re.compile(r"[*?\[\]\\^-]")

T = TypeVar("T")
Command = tuple[Any, ...]

_MULTI: Command = ("MULTI",)
_EXEC: Command = ("EXEC",)


@dataclass(frozen=True)
class Redis:
    """The recipe of one database of a server; timeouts and pauses in seconds."""

    host: str
    port: int
    database: int
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    connect_timeout: float = 30.0
    read_timeout: float = 30.0
    retry_pauses: tuple[float, ...] = PAUSES

    def open(self) -> RedisKeyValues:
        """The process' client for this recipe; it connects when it is first asked for something."""
        return one_per_process(self, lambda: RedisKeyValues(self))


class RedisKeyValues:
    """The client (``transforms.stores.KeyValues``); any number of threads may use it.

    A key that holds another type than the method is for, and text that is no Unicode, raise Refused. Every other
    error closes the connection and is tried again, in the end it raises StoreUnavailable. What is not UTF-8 in an
    answer is read with replacement characters.
    """

    def __init__(self, recipe: Redis) -> None:
        self._recipe = recipe
        self._address = f"Redis at {recipe.host}:{recipe.port}, database {recipe.database}"
        self._client = redis.Redis(
            host=recipe.host,
            port=recipe.port,
            db=recipe.database,
            password=recipe.password,
            ssl=recipe.tls,
            ssl_check_hostname=recipe.tls,
            socket_connect_timeout=recipe.connect_timeout,
            socket_timeout=recipe.read_timeout,
            socket_keepalive=True,
            decode_responses=True,
            encoding_errors="replace",
            retry=Retry(NoBackoff(), 0),
        )
        # at the interpreter's end it would close a pool whose module is gone; the system closes the sockets
        self._client.auto_close_connection_pool = False

    def members(self, keys: Sequence[str]) -> list[frozenset[str]]:
        """SMEMBERS of each key; a missing key gives an empty set. spec: core §6"""
        return [frozenset(found) for found in self._pipelined([("SMEMBERS", _encoded(key)) for key in keys])]

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Whether each key is there, of whatever type. spec: core §5"""
        return [bool(found) for found in self._pipelined([("EXISTS", _encoded(key)) for key in keys])]

    def get(self, keys: Sequence[str]) -> list[str | None]:
        """The string of each key, None where there is none. spec: core §6"""
        return self._pipelined([("GET", _encoded(key)) for key in keys])

    def set(self, values: Mapping[str, str], expiry: int | None = None) -> None:
        """SET, or SETEX with ``expiry`` in seconds. spec: core §5"""
        if expiry is not None and expiry < 1:
            raise ValueError(f"an expiry of {expiry} seconds")
        if expiry is None:
            commands: list[Command] = [("SET", _encoded(key), _encoded(value)) for key, value in values.items()]
        else:
            commands = [("SETEX", _encoded(key), expiry, _encoded(value)) for key, value in values.items()]
        self._pipelined(commands)

    def replace_sets(self, sets: Mapping[str, Collection[str]]) -> None:
        """Replace each set so that no reader sees it empty. ValueError when one has no members. spec: core §6, §14"""
        if empty := [key for key, members in sets.items() if not members]:
            raise ValueError(f"a set without members: {empty[0]}")
        self._sent(
            [
                (_MULTI, ("DEL", _encoded(key)), ("SADD", _encoded(key), *map(_encoded, members)), _EXEC)
                for key, members in sets.items()
            ]
        )

    def add_members(self, key: str, members: Collection[str]) -> None:
        """SADD; nothing to do without members."""
        if members:
            self._pipelined([("SADD", _encoded(key), *map(_encoded, members))])

    def delete(self, keys: Sequence[str]) -> int:
        """DEL; how many keys there were."""
        return sum(self._pipelined([("DEL", _encoded(key)) for key in keys]))

    def scan(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, each once, in order. spec: relation-cache-updater §3.8"""
        pattern = _encoded(_GLOB.sub(r"\\\g<0>", prefix) + "*")
        return sorted(set(self._tried(lambda: list(self._client.scan_iter(pattern, COMMANDS_AT_ONCE)))))

    def json_map(self, key: str, fields: Sequence[str] = ()) -> dict[str, Any]:
        """A JSON object kept as string, read by the data-cache rules. spec: core §6 "get (map)" """
        return data_cache.json_map(key, self.get([key])[0], fields)

    def hash_map(self, key: str, fields: Sequence[str] = (), all_fields: bool = False) -> dict[str, Any]:
        """A hash, read by the data-cache rules. spec: core §6 "hash get" """
        (found,) = self._pipelined([("HGETALL", _encoded(key))])
        return data_cache.hash_map(dict(zip(found[::2], found[1::2], strict=True)), fields, all_fields)

    def set_hash(self, key: str, values: Mapping[str, str]) -> None:
        """HSET of several fields; the others stay. Nothing to do without values."""
        if values:
            self._pipelined([("HSET", _encoded(key), *(_encoded(text) for item in values.items() for text in item))])

    def delete_hash_fields(self, key: str, fields: Sequence[str]) -> None:
        """HDEL; nothing to do without fields."""
        if fields:
            self._pipelined([("HDEL", _encoded(key), *map(_encoded, fields))])

    def hash_fields(self, keys: Sequence[str]) -> list[frozenset[str] | Refused]:
        """HKEYS of each key; Refused in the place of a key of another type. spec: user-cache-updater §3.4"""
        answers = self._sent([(("HKEYS", _encoded(key)),) for key in keys])
        return [self._refused(key, found) or frozenset(found[0]) for key, found in zip(keys, answers, strict=True)]

    def change_hashes(self, changes: Mapping[str, HashChange]) -> list[Refused | None]:
        """HDEL and HSET of each key as one MULTI/EXEC, many of them in a round trip.

        Refused in the place of a key of another type. spec: user-cache-updater §3.4
        """
        answers = self._sent([_change(key, change) for key, change in changes.items()])
        return [self._refused(key, found[-1]) for key, found in zip(changes, answers, strict=True)]

    # --- the round trips

    def _pipelined(self, commands: Sequence[Command]) -> list[Any]:
        answers = self._sent([(command,) for command in commands])
        for command, answer in zip(commands, answers, strict=True):
            if refused := self._refused(command[1].decode(), answer):
                raise refused
        return list(chain.from_iterable(answers))

    def _refused(self, key: str, answers: Sequence[Any]) -> Refused | None:
        """What to say when one of the answers is that the key is of another type."""
        error = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
        return Refused(f"{self._address}: {key}: {error}") if error else None

    def _sent(self, groups: Sequence[tuple[Command, ...]]) -> list[list[Any]]:
        """Send groups of commands, ``COMMANDS_AT_ONCE`` in a round trip and never a part of a group.

        The answers to each group; the last one to a transaction is the list of what its commands gave.
        """
        answers: list[list[Any]] = []
        size = COMMANDS_AT_ONCE // max(map(len, groups), default=1)
        for start in range(0, len(groups), size):
            some = groups[start : start + size]
            found = iter(self._tried(partial(self._send, list(chain.from_iterable(some)))))
            answers += [[next(found) for _ in group] for group in some]
        return answers

    def _send(self, commands: list[Command]) -> list[Any]:
        """One round trip. redis-py's pipeline does the same, with twice the work for each command.

        Raises every error but that of a key of another type, which stays among the answers.
        """
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            answers = [_answer(connection) for _ in commands]
        finally:
            pool.release(connection)
        for answer in answers:
            for error in answer if isinstance(answer, list) else [answer]:
                if isinstance(error, Exception) and not str(error).startswith("WRONGTYPE"):
                    raise error
        return answers

    def _tried(self, call: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return call()
            except (RedisError, OSError):
                self._client.connection_pool.disconnect(inuse_connections=False)
                raise

        try:
            return retrying(self._recipe.retry_pauses, RedisError, OSError)(once)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"{self._address} stays away: {type(error).__name__}: {error}") from error


def _answer(connection: Any) -> Any:
    """The next answer, also when it is an error; every answer has to be read."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _change(key: str, change: HashChange) -> tuple[Command, ...]:
    """One transaction. Raises Refused for what is no text."""
    name = _encoded(key)
    commands: list[Command] = [_MULTI]
    if change.remove:
        commands.append(("HDEL", name, *map(_encoded, change.remove)))
    if change.put:
        commands.append(("HSET", name, *(_encoded(text) for item in change.put.items() for text in item)))
    return (*commands, _EXEC)


def _encoded(text: str) -> bytes:
    try:
        return str.encode(text)
    except (TypeError, UnicodeEncodeError) as error:
        raise Refused(f"not a text that Redis can hold: {error}") from error
