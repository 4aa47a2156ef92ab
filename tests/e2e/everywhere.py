"""All that the servers of a stack hold, and what its processes have logged: where is this text, what has changed?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import redis
import requests
from cassandra.cluster import Cluster, Session

SECONDS = 60
REDIS_DATABASES = 16


def stores(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every value of Cassandra (by table and column), Redis (by database and key), Elasticsearch (by index) and of the
    stand-in of Keycloak, as text. ``settings`` are those of the stack."""
    cluster = Cluster(
        [settings["lms-cassandra.host"]],
        port=settings["lms-cassandra.port"],
        connect_timeout=SECONDS,
        control_connection_timeout=SECONDS,
    )
    try:
        yield from _tables(cluster.connect())
    finally:
        cluster.shutdown()
    for database in range(REDIS_DATABASES):
        with redis.Redis(settings["redis.host"], settings["redis.port"], database, socket_timeout=SECONDS) as client:
            for key in client.scan_iter():
                # as it is stored: strings, hashes and sets alike
                yield f"redis {database}", f"{key!r} {client.dump(key)!r} {_members(client, key)}"
    address = f"http://{settings['es.basePath']}"
    requests.post(f"{address}/_all/_refresh", timeout=SECONDS).raise_for_status()
    found = requests.get(f"{address}/_all/_search?size=10000&version=true&seq_no_primary_term=true", timeout=SECONDS)
    for hit in found.json()["hits"]["hits"]:
        yield f"index {hit['_index']}", orjson.dumps(hit).decode()
    stubs = settings["service.userorg.basePath"]
    yield "keycloak", requests.get(f"{stubs}/stub/keycloak-users", timeout=SECONDS).text


def _tables(session: Session) -> Iterator[tuple[str, str]]:
    for keyspace in session.execute("SELECT keyspace_name FROM system_schema.keyspaces"):
        name = keyspace.keyspace_name
        if name.startswith("system"):
            continue
        tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [name])
        for table in tables:
            # as JSON, for there may be times that no datetime of Python can hold
            statement = f'SELECT JSON * FROM {name}."{table.table_name}"'  # noqa: S608
            for row in session.execute(statement, timeout=SECONDS):
                for column, value in orjson.loads(row[0]).items():
                    if value is not None:
                        yield f"{name}.{table.table_name}.{column}", str(value)


def _members(client: redis.Redis, key: bytes) -> Any:
    """What can be read of it: a dump may be compressed."""
    kind = client.type(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"set":
        return client.smembers(key)
    return client.get(key) if kind == b"string" else kind


def logs(directory: Path) -> Iterator[tuple[str, str]]:
    """Every log of the stack in this directory."""
    for path in sorted((directory / "logs").rglob("*")):
        if path.is_file():
            yield f"log {path.name}", path.read_text(encoding="utf-8", errors="replace")


def places(texts: Iterable[tuple[str, str]], tokens: Mapping[str, str]) -> set[tuple[str, str]]:
    """(place, which token) of every token that is found in any case."""
    wanted = {name: token.lower() for name, token in tokens.items()}
    in_lower_case = ((place, text.lower()) for place, text in texts)
    return {(place, name) for place, text in in_lower_case for name, token in wanted.items() if token in text}
