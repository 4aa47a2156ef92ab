"""The tables of Cassandra, read from the texts in ``cql/`` (spec: tables-lern)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Table", "create_statements", "tables", "user_types"]

_ENV = re.compile(r"[A-Za-z]\w*", re.ASCII)
_COMMENT = re.compile(r"--[^\n]*")
_CREATE = re.compile(r"CREATE (KEYSPACE|TYPE|TABLE|INDEX)(?: IF NOT EXISTS)? ([\w.]+)\s*(.*)", re.DOTALL)
_PRIMARY_KEY = re.compile(r"PRIMARY KEY\s*\((.*)\)", re.DOTALL)
# A table needs its keyspace and the types of its columns.
_ORDER = ("KEYSPACE", "TYPE", "TABLE", "INDEX")


@dataclass(frozen=True)
class Table:
    """A table: its columns with their CQL types, and which of them are the key."""

    keyspace: str
    name: str
    columns: dict[str, str]
    partition_key: tuple[str, ...]
    clustering_key: tuple[str, ...]


@dataclass(frozen=True)
class _Statement:
    kind: str
    name: str
    rest: str
    text: str


def create_statements(env: str) -> list[str]:
    """The CREATE statements of everything, without semicolons, in an order in which they can be run.

    ``env`` is the environment's name (``dev``); ValueError when no keyspace can begin with it.
    """
    return [statement.text for statement in _statements(env)]


@cache
def tables(env: str) -> dict[str, Table]:
    """Every table by its full name, ``keyspace.name``. ValueError when no keyspace can begin with ``env``."""
    return {statement.name: _table(statement) for statement in _statements(env) if statement.kind == "TABLE"}


@cache
def user_types(env: str) -> dict[str, dict[str, str]]:
    """The user defined types by full name: each field with its CQL type."""
    return {
        statement.name: dict(_column(part) for part in _parts(_body(statement)))
        for statement in _statements(env)
        if statement.kind == "TYPE"
    }


def _statements(env: str) -> list[_Statement]:
    if not _ENV.fullmatch(env):
        raise ValueError(f"{env!r} is no environment name: letters, digits and underscores, a letter first")
    texts = sorted(
        (entry.name, entry.read_text(encoding="utf-8")) for entry in files("schemas").joinpath("cql").iterdir()
    )
    found = [
        _statement(" ".join(statement.split()))
        for _, text in texts
        for statement in _COMMENT.sub("", text).replace("{{env}}", env.lower()).split(";")
        if statement.strip()
    ]
    return sorted(found, key=lambda statement: _ORDER.index(statement.kind))


def _statement(text: str) -> _Statement:
    match = _CREATE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a CREATE statement: {text[:60]}")
    return _Statement(match[1], match[2], match[3], text)


def _table(statement: _Statement) -> Table:
    keyspace, name = statement.name.split(".")
    columns: dict[str, str] = {}
    partition_key: tuple[str, ...] = ()
    clustering_key: tuple[str, ...] = ()
    for part in _parts(_body(statement)):
        if key := _PRIMARY_KEY.fullmatch(part):
            first, *others = _parts(key[1])
            partition_key = tuple(_parts(first.strip("()")))
            clustering_key = tuple(others)
            continue
        column, cql_type = _column(part.removesuffix("PRIMARY KEY"))
        columns[column] = cql_type
        if part.endswith("PRIMARY KEY"):
            partition_key = (column,)
    return Table(keyspace, name, columns, partition_key, clustering_key)


def _body(statement: _Statement) -> str:
    """What stands between the outer brackets."""
    depth = 0
    for position, character in enumerate(statement.rest):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return statement.rest[1:position]
    raise ValueError(f"unbalanced brackets: {statement.text[:60]}")


def _column(part: str) -> tuple[str, str]:
    name, cql_type = part.split(maxsplit=1)
    return name, "".join(cql_type.split())


def _parts(text: str) -> Iterator[str]:
    """The parts between commas that stand in no bracket."""
    depth = 0
    start = 0
    for position, character in enumerate(text):
        depth += (character in "(<") - (character in ")>")
        if character == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()
