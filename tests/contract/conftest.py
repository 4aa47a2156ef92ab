"""Each store twice: its twin in memory, and the real server of the local stack."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from cassandra.cluster import Cluster

from deploy.local.stack import Stack
from io_connectors.cassandra import Cassandra
from io_connectors.elasticsearch import Elasticsearch
from io_connectors.memory import MemoryCassandra, MemoryRedis
from io_connectors.memory_documents import MemoryElasticsearch
from io_connectors.memory_mongo import MemoryMongo
from io_connectors.memory_objects import MemoryObjectStore
from io_connectors.mongo import Mongo
from io_connectors.object_storage import ObjectStore
from io_connectors.redis import Redis
from schemas.cassandra import create_statements
from tests.contract.proxy import Proxy, ProxyTo
from transforms.services import Documents, FileObjects, Objects
from transforms.stores import Collections, KeyValues, Refused, Row, Select, Tables, Write

REAL = pytest.param("real", marks=pytest.mark.stack)
DATABASE = 11


@pytest.fixture
def proxy_to() -> Iterator[ProxyTo]:
    """Makes ways to servers that a test can cut."""
    proxies: list[Proxy] = []

    def proxy(host: str, port: int) -> Proxy:
        proxies.append(Proxy(host, port))
        return proxies[-1]

    yield proxy
    for one in proxies:
        one.end()


@pytest.fixture
def opened() -> Iterator[Callable[[Any], Any]]:
    """Opens recipes; the clients are closed after the test."""
    with ExitStack() as closing_all:
        yield lambda recipe: closing_all.enter_context(closing(recipe.open()))


@dataclass(frozen=True)
class Moved:
    """Tables in a keyspace of their own, so that nothing of a test meets what else is in the server."""

    tables: Tables
    keyspace: str

    def select(self, selects: Sequence[Select]) -> list[list[Row] | Refused]:
        return self.tables.select([replace(select, table=self._moved(select.table)) for select in selects])

    def write(self, batches: Sequence[Sequence[Write]]) -> list[Refused | None]:
        return self.tables.write(
            [[replace(write, table=self._moved(write.table)) for write in batch] for batch in batches]
        )

    def _moved(self, table: str) -> str:
        return table.replace("sunbird_courses.", f"{self.keyspace}.")


@pytest.fixture(scope="session")
def cassandra(stack_of: Callable[..., Stack]) -> Iterator[Cassandra]:
    """The recipe of the stack's Cassandra."""
    settings = stack_of("cassandra").environment()
    recipe = Cassandra(settings["lms-cassandra.host"], settings["lms-cassandra.port"])
    yield recipe
    recipe.open().close()


@pytest.fixture(scope="session")
def keyspace(cassandra: Cassandra) -> Iterator[str]:
    """A keyspace of the stack's Cassandra with the tables of sunbird_courses, for this session."""
    name = f"contract_{uuid.uuid4().hex[:12]}"
    cluster = Cluster([cassandra.host], port=cassandra.port, connect_timeout=60, control_connection_timeout=60)
    session = cluster.connect()
    for statement in create_statements("dev"):
        if "sunbird_courses" in statement:
            session.execute(statement.replace("sunbird_courses", name), timeout=60)
    yield name
    session.execute(f"DROP KEYSPACE {name}", timeout=60)
    cluster.shutdown()


@pytest.fixture(params=["twin", REAL])
def tables(request: pytest.FixtureRequest) -> Tables:
    """Cassandra; a test uses ids of its own (fixture ``user``)."""
    if request.param == "twin":
        return MemoryCassandra(f"contract-{request.node.name}").open()
    return Moved(request.getfixturevalue("cassandra").open(), request.getfixturevalue("keyspace"))


@pytest.fixture
def user() -> str:
    """A learner that no other test has."""
    return f"learner-{uuid.uuid4()}"


@dataclass(frozen=True)
class Database:
    """A Redis database and what a test asks of it behind the interface's back."""

    store: KeyValues
    type_of: Callable[[str], str]
    time_to_live: Callable[[str], float | None]


@pytest.fixture(scope="session")
def redis_recipe(stack_of: Callable[..., Stack]) -> Redis:
    """The recipe of a database of the stack's Redis that no job uses."""
    settings = stack_of("redis").environment()
    return Redis(settings["redis.host"], settings["redis.port"], DATABASE)


@pytest.fixture(params=["twin", REAL])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Redis, empty at the beginning of each test."""
    if request.param == "twin":
        twin = MemoryRedis(f"contract-{request.node.name}", 0).open()
        yield Database(twin, twin.type_of, twin.time_to_live)
        return
    recipe = request.getfixturevalue("redis_recipe")
    client = redis.Redis(recipe.host, recipe.port, recipe.database, decode_responses=True)
    client.flushdb()

    def time_to_live(key: str) -> float | None:
        left = client.ttl(key)
        return None if left < 0 else float(left)

    yield Database(recipe.open(), client.type, time_to_live)
    client.flushdb()
    client.close()


@pytest.fixture
def store(database: Database) -> KeyValues:
    return database.store


@pytest.fixture(scope="session")
def elasticsearch(stack_of: Callable[..., Stack]) -> Elasticsearch:
    """The recipe of the stack's Elasticsearch."""
    return Elasticsearch(stack_of("elasticsearch").environment()["es.basePath"])


@pytest.fixture(params=["twin", REAL])
def documents(request: pytest.FixtureRequest) -> Documents:
    """Elasticsearch; a test uses indexes of its own (fixture ``index``)."""
    if request.param == "twin":
        return MemoryElasticsearch(f"contract-{request.node.name}").open()
    return request.getfixturevalue("elasticsearch").open()


@pytest.fixture
def index(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an index that is not there; when the test made it in the real server, it goes."""
    name = f"contract-{uuid.uuid4().hex[:12]}"
    yield name
    if "elasticsearch" in request.fixturenames or "real" in request.node.name:
        requests.delete(f"http://{request.getfixturevalue('elasticsearch').hosts}/{name}", timeout=30)


@pytest.fixture(scope="session")
def mongo(stack_of: Callable[..., Stack]) -> Iterator[Mongo]:
    """The recipe of a database of the stack's MongoDB that no job uses; it goes in the end."""
    settings = stack_of("mongo").environment()
    recipe = Mongo(settings["ml-mongo.host"], settings["ml-mongo.port"], f"contract-{uuid.uuid4().hex[:12]}")
    yield recipe
    recipe.open()._client.drop_database(recipe.database)
    recipe.open().close()


@pytest.fixture(params=["twin", REAL])
def collections(request: pytest.FixtureRequest) -> Collections:
    """MongoDB; a test uses a collection of its own (fixture ``name``)."""
    if request.param == "twin":
        return MemoryMongo(f"contract-{request.node.name}").open()
    return request.getfixturevalue("mongo").open()


@pytest.fixture
def name() -> str:
    """The name of a collection that is not there."""
    return f"contract-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def s3(stack_of: Callable[..., Stack]) -> ObjectStore:
    """The recipe of the stack's object store."""
    settings = stack_of("object-storage").environment()
    return ObjectStore(
        settings["cert_cloud_storage_type"],
        settings["cert_container_name"],
        settings["cert_cloud_storage_key"],
        settings["cert_cloud_storage_secret"],
        settings["cert_cloud_storage_endpoint"],
    )


@pytest.fixture(params=["twin", "local", REAL])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """A container; a test uses keys of its own (fixture ``tag``)."""
    if request.param == "twin":
        return MemoryObjectStore(f"contract-{request.node.name}", "certificates").open()
    if request.param == "local":
        return ObjectStore("local", "certificates", endpoint=str(tmp_path)).open()
    return request.getfixturevalue("s3").open()


@pytest.fixture(params=["twin", "local", REAL])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileObjects:
    """A container of files that others read; a test uses keys of its own (fixture ``tag``)."""
    if request.param == "twin":
        return MemoryObjectStore(f"contract-{request.node.name}", "contents").open()
    if request.param == "local":
        return ObjectStore("local", "contents", endpoint=str(tmp_path), read_base="https://x.example.org/").open()
    return replace(request.getfixturevalue("s3"), container="contents").open()


@pytest.fixture
def tag() -> str:
    """What the keys of a test begin with."""
    return f"contract-{uuid.uuid4()}"
