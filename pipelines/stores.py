"""The recipes of the stores that settings name."""

from __future__ import annotations

from pydantic import SecretStr

from io_connectors.cassandra import Cassandra
from io_connectors.http import Http
from io_connectors.redis import Redis
from io_connectors.services import SearchService
from pipelines.settings import CassandraSettings, DedupRedisSettings, DpRedisSettings, RedisSettings


def cassandra(settings: CassandraSettings) -> Cassandra:
    return Cassandra(
        settings.lms_cassandra_host,
        settings.lms_cassandra_port,
        multi_dc=settings.lms_cassandra_is_multi_dc_enabled,
        datacenter=settings.lms_cassandra_datacenter,
        username=settings.lms_cassandra_username,
        password=_plain(settings.lms_cassandra_password),
        tls=settings.lms_cassandra_tls,
    )


def redis(settings: RedisSettings, database: int) -> Redis:
    """A database of the main server."""
    return Redis(
        settings.redis_host, settings.redis_port, database, _plain(settings.redis_password), settings.redis_tls
    )


def dedup_redis(settings: DedupRedisSettings, database: int) -> Redis:
    return Redis(
        settings.dedup_redis_host,
        settings.dedup_redis_port,
        database,
        _plain(settings.dedup_redis_password),
        settings.dedup_redis_tls,
    )


def dp_redis(settings: DpRedisSettings, database: int) -> Redis:
    return Redis(
        settings.dp_redis_host,
        settings.dp_redis_port,
        database,
        _plain(settings.dp_redis_password),
        settings.dp_redis_tls,
    )


def search_service(base_path: str | None) -> SearchService:
    return SearchService(base_path, Http())


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
