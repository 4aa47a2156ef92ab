"""The recipes of the stores that settings name."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from io_connectors.cassandra import Cassandra
from io_connectors.elasticsearch import Elasticsearch
from io_connectors.http import Http
from io_connectors.mongo import Mongo
from io_connectors.redis import Redis
from io_connectors.threads import Threads
from pipelines.settings import (
    CassandraSettings,
    CloudSettings,
    DedupRedisSettings,
    DpRedisSettings,
    HttpSettings,
    MetaRedisSettings,
    MlCassandraSettings,
    MongoSettings,
    RedisSettings,
    SettingsError,
)
from transforms.cloud_paths import CloudPaths


def cassandra(settings: CassandraSettings) -> Cassandra:
    return Cassandra(
        settings.lms_cassandra_host,
        settings.lms_cassandra_port,
        multi_dc=settings.lms_cassandra_is_multi_dc_enabled,
        datacenter=settings.lms_cassandra_datacenter,
        username=settings.lms_cassandra_username,
        password=plain(settings.lms_cassandra_password),
        tls=settings.lms_cassandra_tls,
    )


def ml_cassandra(settings: MlCassandraSettings) -> Cassandra:
    """spec: program-user-info §5: either key asks for the nodes of one data centre"""
    return Cassandra(
        settings.ml_cassandra_host,
        settings.ml_cassandra_port,
        multi_dc=settings.ml_cassandra_is_multi_dc_enabled or settings.lms_cassandra_is_multi_dc_enabled,
        datacenter=settings.ml_cassandra_datacenter,
        username=settings.ml_cassandra_username,
        password=plain(settings.ml_cassandra_password),
        tls=settings.ml_cassandra_tls,
    )


def redis(settings: RedisSettings, database: int) -> Redis:
    """A database of the main server."""
    return Redis(settings.redis_host, settings.redis_port, database, plain(settings.redis_password), settings.redis_tls)


def dedup_redis(settings: DedupRedisSettings, database: int) -> Redis:
    return Redis(
        settings.dedup_redis_host,
        settings.dedup_redis_port,
        database,
        plain(settings.dedup_redis_password),
        settings.dedup_redis_tls,
    )


def dp_redis(settings: DpRedisSettings, database: int) -> Redis:
    return Redis(
        settings.dp_redis_host,
        settings.dp_redis_port,
        database,
        plain(settings.dp_redis_password),
        settings.dp_redis_tls,
    )


def meta_redis(settings: MetaRedisSettings, database: int) -> Redis:
    return Redis(
        settings.redis_meta_host,
        settings.redis_meta_port,
        database,
        plain(settings.redis_meta_password),
        settings.redis_meta_tls,
    )


def mongo(settings: MongoSettings, at_once: int) -> Mongo:
    """Raises SettingsError for what is no list of hosts."""
    try:
        return Mongo(
            settings.ml_mongo_host,
            settings.ml_mongo_port,
            settings.ml_mongo_database,
            username=settings.ml_mongo_username,
            password=plain(settings.ml_mongo_password),
            tls=settings.ml_mongo_tls,
            at_once=at_once,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def cloud_paths(settings: CloudSettings) -> CloudPaths:
    """How addresses with the placeholder are resolved."""
    return CloudPaths(
        settings.cloud_placeholder, settings.cloud_base_url, settings.cloud_cname_url, settings.cloud_container
    )


def calls(name: str, at_once: int) -> Threads:
    """Where a job waits for services, so many calls at once in each worker process."""
    return Threads(name, at_once)


def http(settings: HttpSettings, at_once: int = 10, **more: Any) -> Http:
    """The client of services, for so many calls at once; ``more`` of its recipe."""
    return Http(settings.http_connect_timeout, settings.http_read_timeout, at_once, **more)


def elasticsearch(hosts: str) -> Elasticsearch:
    """Raises SettingsError for what is no list of addresses."""
    try:
        return Elasticsearch(hosts)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
